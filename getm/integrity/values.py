"""One checksum as a value, and the ways in which people write checksums."""

from __future__ import annotations

import base64
import re

from msgspec import Struct

from getm.core.brief import cut
from getm.errors import InvalidInput

DIGEST_BYTES: dict[str, int] = {
    "sha512": 64,
    "sha384": 48,
    "sha256": 32,
    "blake3": 32,
    "sha224": 28,
    "sha1": 20,
    "git-blob": 20,
    "md5": 16,
    "xxh3-128": 16,
    "xxh3-64": 8,
    "xxh64": 8,
    "crc64nvme": 8,
    "crc32c": 4,
    "crc32": 4,
    "s3-etag": 16,
}
"""Digest sizes in bytes of the canonical names. git-blob is what git calls a file: SHA-1 of its size and its bytes.
s3-etag is MD5, or MD5 over the parts' MD5s: 16 bytes either way."""

STRENGTH = tuple(DIGEST_BYTES)
"""Strongest first. A multipart S3 ETag comes last, after CRCs: it costs several MD5 passes and may still prove nothing,
where no known part size fits. (A single-part S3 ETag is an MD5 and ranks as one.)"""

S3_MAX_PARTS = 10_000
"""The most parts that S3 accepts in one multipart upload (Amazon S3 User Guide, "Multipart upload limits")."""

_IGNORED_IN_NAMES = re.compile(r"[-_/ ]")
# By the name in lower case without "-", "_", "/" and blanks, with other spellings: old getm (gs_crc32c), S3's header
# names (xxhash3). Catalogue names (CRC-64/NVME) need none.
_CANONICAL = {_IGNORED_IN_NAMES.sub("", name): name for name in DIGEST_BYTES}
_CANONICAL |= {"gscrc32c": "crc32c", "xxhash64": "xxh64", "xxh3": "xxh3-64", "xxhash3": "xxh3-64"}
_CANONICAL |= {"xxh128": "xxh3-128", "xxhash128": "xxh3-128"}

# What `str()` of a checksum gives, but for the parts of an s3-etag.
_AS_WRITTEN = re.compile(r"([a-z0-9-]+):([0-9a-f]+)")


def canonical_algorithm(name: str) -> str:
    """The canonical name for `name`: case, "-" and "_" do not matter ("SHA-256", "gs_crc32c", "xxhash3").

    Raises `InvalidInput` for a name that getm does not know.
    """
    if not isinstance(name, str):
        raise InvalidInput(f"expected the name of a checksum algorithm, got a {type(name).__name__}")
    found = find_algorithm(name)
    if found is None:
        raise _unknown(name)
    return found


def find_algorithm(name: str) -> str | None:
    """The same, None for a name that getm does not know."""
    return _CANONICAL.get(name) or _CANONICAL.get(_IGNORED_IN_NAMES.sub("", name.lower()))


def _unknown(name: object) -> InvalidInput:
    # Needed by few.
    from difflib import get_close_matches

    text = str(name)[:40]
    close = get_close_matches(_IGNORED_IN_NAMES.sub("", text.lower()), _CANONICAL, 1)
    meant = f"; did you mean {_CANONICAL[close[0]]}?" if close else ""
    return InvalidInput(f"unknown checksum algorithm {text!r}: expected one of {', '.join(DIGEST_BYTES)}{meant}")


class Checksum(Struct, frozen=True, gc=False):
    """One checksum. Those that are written in hex and in base64 compare equal.

    `str()` gives "algorithm:hex" ("s3-etag:hex-N"), which `parse_checksum` reads back.

    Args:
        algorithm: a canonical name: one of "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "crc32", "crc32c",
            "crc64nvme", "s3-etag", "git-blob", "blake3", "xxh64", "xxh3-64", "xxh3-128".
        value: the digest as raw bytes, big-endian for a CRC.
        parts: the N in "-N" of the ETag of a multipart upload to S3, None for everything else.

    Raises:
        InvalidInput: algorithm, length and parts do not fit together.

    Example:
        >>> str(Checksum("crc32", b"\xcb\xf49&"))
        'crc32:cbf43926'
    """

    algorithm: str
    value: bytes
    parts: int | None = None

    def __post_init__(self) -> None:
        size_bytes = DIGEST_BYTES.get(self.algorithm) if isinstance(self.algorithm, str) else None
        if size_bytes is None:
            raise _unknown(self.algorithm)
        if not isinstance(self.value, bytes) or len(self.value) != size_bytes:
            got = f"{len(self.value)} bytes" if isinstance(self.value, bytes) else f"a {type(self.value).__name__}"
            raise InvalidInput(f"expected {size_bytes} bytes as the {self.algorithm} digest, got {got}")
        if self.parts is not None and self.algorithm != "s3-etag":
            raise InvalidInput(f"only an s3-etag has a number of parts, not {self.algorithm}")
        if self.parts is not None and (type(self.parts) is not int or not 1 <= self.parts <= S3_MAX_PARTS):
            raise InvalidInput(f"an s3-etag has 1 to {S3_MAX_PARTS} parts, not {self.parts!r}")

    @property
    def hex(self) -> str:
        """The digest in lower-case hexadecimal, without "-N"."""
        return self.value.hex()

    @property
    def base64(self) -> str:
        """The digest in standard base64 with padding, without "-N"."""
        return base64.b64encode(self.value).decode("ascii")

    def __repr__(self) -> str:
        return f"<{cut(f'Checksum {self}', 97)}>"

    def __str__(self) -> str:
        suffix = "" if self.parts is None else f"-{self.parts}"
        return f"{self.algorithm}:{self.hex}{suffix}"


def decode_digest(text: str, size_bytes: int) -> bytes | None:
    """The `size_bytes` bytes that `text` writes in hex or in base64 (padding optional), or None.

    The length distinguishes the two. Only for 4 bytes (CRC-32) are both 8 characters long, and there the base64 form
    ends in "==", which hex never does.
    """
    if len(text) == 2 * size_bytes and re.fullmatch("[0-9A-Fa-f]+", text):
        return bytes.fromhex(text)
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None
    # Trailing bits that are not zero mean that characters were lost or changed: nobody computed such a digest.
    padded = base64.b64encode(value).decode()
    return value if len(value) == size_bytes and text in (padded, padded.rstrip("=")) else None


def make_checksum(algorithm: str, text: str) -> Checksum:
    """A `Checksum` from a canonical algorithm name and its hex or base64 text; raises `InvalidInput`."""
    parts: int | None = None
    digest = text.strip()
    if algorithm == "s3-etag":
        digest, dash, count = digest.strip('"').partition("-")
        if dash:
            if not re.fullmatch(r"[0-9]{1,5}", count):
                raise InvalidInput(f"expected an S3 ETag as hex or hex-N, got {text[:100]!r}")
            parts = int(count)
    size_bytes = DIGEST_BYTES[algorithm]
    value = decode_digest(digest, size_bytes)
    if value is None:
        raise InvalidInput(
            f"expected a {algorithm} checksum as {2 * size_bytes} hexadecimal characters or as base64 of {size_bytes} "
            f"bytes, got {text[:100]!r} ({len(text)} characters)"
        )
    return Checksum(algorithm, value, parts)


def parse_checksum(text: str) -> Checksum:
    """Read "ALG:VALUE", or aria2's "ALG=VALUE" ("sha-256=..."); VALUE in hex or base64, by its length.

    Raises `InvalidInput` for an unknown algorithm, or a value that is no digest of it. Whether the algorithm's package
    is installed is not checked here: see `require_algorithm`.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"expected a checksum as ALGORITHM:VALUE, got a {type(text).__name__}")
    written = _AS_WRITTEN.fullmatch(text)
    if written is not None and len(written[2]) == 2 * DIGEST_BYTES.get(written[1], 0):
        # Written by `str()`: the fast path, since caller and engine send each other such texts for each object.
        return Checksum(written[1], bytes.fromhex(written[2]))
    match = re.search(r"[:=]", text)
    algorithm = _algorithm_of(text)
    if algorithm is not None:
        raise InvalidInput(f"a checksum begins with its algorithm; did you mean {algorithm}:{text}?")
    if match is None or match.start() == 0:
        raise InvalidInput(
            f'expected a checksum as ALGORITHM:VALUE, for example "sha256:9f86d0...", got {text[:100]!r}'
        )
    return make_checksum(canonical_algorithm(text[: match.start()].strip()), text[match.end() :])


def _algorithm_of(digest: str) -> str | None:
    """The algorithm of which a digest without its name probably is: by its length, the most usual one."""
    if re.fullmatch(r"[0-9A-Fa-f]{32}-[0-9]{1,5}", digest):
        return "s3-etag"
    usual = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "crc32c")
    return next((name for name in usual if decode_digest(digest, DIGEST_BYTES[name]) is not None), None)


def parse_pair(algorithm: str | None, value: str | None) -> Checksum | None:
    """Read the pair of old getm manifests and flags: "md5" with hex, "gs_crc32c" with base64, "s3_etag", "null".

    Every name and encoding of `parse_checksum` is accepted as well. The algorithm "null", or neither of the two, means
    no checksum: None. Raises `InvalidInput` for one without the other.
    """
    name, text = (algorithm or "").strip(), (value or "").strip()
    given = text.lower() not in ("", "null")
    if name.lower() == "null" or not (name or given):
        return None
    if not name:
        raise InvalidInput("a checksum was given without its algorithm: give both, or neither")
    if not given:
        raise InvalidInput(
            f'the checksum algorithm {name[:40]!r} was given without a checksum: give both, or "null" for none'
        )
    return make_checksum(canonical_algorithm(name), text)
