"""Sums files: what `sha256sum`, `md5sum`, BSD's `sha256`, `openssl dgst` and `cksum --base64` write and check.

Two forms, one line a file (GNU coreutils manual, "md5 invocation" and "cksum output modes"):

    9f86d081...  name           GNU; " *" instead of two blanks marks binary mode
    SHA256 (name) = 9f86d081... BSD, with the algorithm in it

Leading blanks do not count. In a line that starts with a backslash, the name has backslash, line feed and carriage
return written as \\\\, \\n and \\r. With "--zero", lines end in NUL and have no escapes.
"""

from __future__ import annotations

import re

from msgspec import Struct

from getm.core.text import decode_text
from getm.errors import InvalidInput
from getm.integrity.values import DIGEST_BYTES, Checksum, canonical_algorithm, decode_digest, make_checksum

# What the length of a bare digest means in practice: blake3 and xxh3-128 have lengths of others and must be named.
_BY_SIZE_BYTES = {DIGEST_BYTES[name]: name for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")}

# "SHA256 (name) = hex"; openssl writes "SHA2-256(name)= hex".
_BSD_LINE = re.compile(r"(?s)(?P<algorithm>[A-Za-z0-9][A-Za-z0-9/-]*) ?\((?P<name>.*)\) ?= (?P<digest>[0-9A-Za-z+/=]+)")
_GNU_LINE = re.compile(r"(?s)(?P<digest>[0-9A-Za-z+/=]+) [ *](?P<name>.+)")
# "md5 -r" of BSD and hand-made lists: one blank, or tabs.
_LOOSE_LINE = re.compile(r"(?s)(?P<digest>[0-9A-Za-z+/=]+)[ \t]+(?P<name>.+)")

# "-----BEGIN PGP SIGNED MESSAGE-----" and what surrounds the list in a signed file. Signatures are not checked here.
_PGP_LINE = re.compile(r"-----(BEGIN|END) PGP [A-Z ]+-----")
_PGP_SIGNATURE = "-----BEGIN PGP SIGNATURE-----"

_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}
_NAME_HINT = re.compile(r"(?i)(?<![a-z0-9])(blake3|b3|xxh3-?128|md5|sha-?(?:1|224|256|384|512))(?:sums?)?(?=$|[._-])")


class SumsEntry(Struct, frozen=True):
    """One line: the file's name as written, its checksum, and the line's number from 1."""

    name: str
    checksum: Checksum
    line: int


class SumsFile(Struct, frozen=True):
    """The entries of a sums file, and the lines that are not understood, each with its number ("line 3: ...")."""

    entries: tuple[SumsEntry, ...]
    problems: tuple[str, ...]


def read_sums(data: bytes, name: str, algorithm: str | None = None) -> SumsFile:
    """Parse the content of a sums file called `name`, which may say the algorithm ("SHA256SUMS", "x.iso.md5").

    Encodings are those of `decode_text`. Raises `InvalidInput` where not one line is a checksum.
    """
    try:
        parsed = parse_sums(decode_text(data), algorithm or hinted_algorithm(name))
    except InvalidInput as error:
        raise InvalidInput(f"{name} is not a sums file: it {error.message}") from error
    if not parsed.entries:
        raise InvalidInput(f"{name} is not a sums file: {parsed.problems[0] if parsed.problems else 'it is empty'}")
    return parsed


def parse_sums(text: str, algorithm: str | None = None) -> SumsFile:
    """Parse the text of a sums file. `algorithm` says what a bare digest is; without it, the digest's length does.

    Blank lines, lines that start with "#", and the frame of a PGP-signed list are skipped. Raises `InvalidInput` for an
    unknown `algorithm` only.
    """
    wanted = None if algorithm is None else canonical_algorithm(algorithm)
    entries: list[SumsEntry] = []
    problems: list[str] = []
    escapes, framed = "\0" not in text, False
    for number, line in enumerate(text.split("\n" if escapes else "\0"), 1):
        if escapes:
            line = line.rstrip("\r")
        if line.startswith(_PGP_SIGNATURE):
            break
        if _PGP_LINE.fullmatch(line):
            framed = True
        elif line.strip() and not line.startswith("#") and not (framed and line.startswith("Hash: ")):
            try:
                entries.append(_parse_line(line.lstrip(" \t"), number, wanted, escapes))
            except InvalidInput as error:
                problems.append(f"line {number}: {error}")
    return SumsFile(tuple(entries), tuple(problems))


def _parse_line(line: str, number: int, wanted: str | None, escapes: bool) -> SumsEntry:
    escaped = escapes and line.startswith("\\")
    body = line[1:] if escaped else line
    match = _BSD_LINE.fullmatch(body)
    if match is not None:
        # OpenSSL 3 calls the SHA-2 family SHA2-256 and so on.
        algorithm = canonical_algorithm(re.sub(r"(?i)^sha2-", "sha", match["algorithm"]))
    else:
        match = _GNU_LINE.fullmatch(body) or _LOOSE_LINE.fullmatch(body)
        if match is None:
            raise InvalidInput(f'expected "DIGEST  NAME" or "ALGORITHM (NAME) = DIGEST", got {line[:80]!r}')
        algorithm = wanted or _algorithm_by_length(match["digest"])
    name = _unescape(match["name"]) if escaped else match["name"]
    return SumsEntry(name, make_checksum(algorithm, match["digest"]), number)


def _algorithm_by_length(digest: str) -> str:
    for size_bytes, algorithm in _BY_SIZE_BYTES.items():
        if decode_digest(digest, size_bytes) is not None:
            return algorithm
    raise InvalidInput(f"{len(digest)} characters are no MD5, SHA-1 or SHA-2 in hexadecimal or base64: {digest[:80]!r}")


def _unescape(name: str) -> str:
    def plain(match: re.Match[str]) -> str:
        found = _ESCAPES.get(match[0])
        if found is None:
            raise InvalidInput(f"unknown escape {match[0]!r} in the name {name[:80]!r}")
        return found

    return re.sub(r"\\.?", plain, name)


def hinted_algorithm(file_name: str) -> str | None:
    """The algorithm in a sums file's own name: "SHA256SUMS", "md5sum.txt", "image.iso.sha512"; or None."""
    hints = {canonical_algorithm({"b3": "blake3"}.get(hint.lower(), hint)) for hint in _NAME_HINT.findall(file_name)}
    return hints.pop() if len(hints) == 1 else None


def format_sums_line(checksum: Checksum, name: str, *, bsd: bool = False) -> str:
    """One line of a sums file, without its line end, that coreutils and `parse_sums` read back.

    `bsd` gives the form with the algorithm in it, which algorithms without a tool of their own in coreutils need.
    """
    digest = str(checksum).partition(":")[2]
    escaped = re.sub(r"[\\\n\r]", lambda match: {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}[match[0]], name)
    mark = "\\" if escaped != name else ""
    if bsd:
        return f"{mark}{checksum.algorithm.upper()} ({escaped}) = {digest}"
    return f"{mark}{digest}  {escaped}"
