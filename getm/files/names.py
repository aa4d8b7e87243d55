"""The target of a download: a safe file name from what the server or the URL says, and the path made of it.

A name that comes over the network is hostile until proven harmless (RFC 6266, section 4.3): it is reduced to one path
component that no shell, terminal or file manager takes for something else, and that never leaves the folder the caller
chose. What is harmless on this system stays, even if another system would refuse it: `chr1:1-9.bam`, `HLA-A*02`. A path
that the caller wrote is taken as written.
"""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from getm.errors import InvalidInput, TargetError
from getm.files.streams import needs_order

HeaderFields = Iterable[tuple[str, str]]

FALLBACK_NAME = "download"

# What file systems hold.
LONGEST_NAME_BYTES = 255
# The rest is for the suffix of a companion file (a journal, a partial).
NAME_LIMIT_BYTES = 240

# The longest ending that counts as an extension and is kept when a name is shortened (".tar.gz.md5" has 11).
_EXTENSION_LIMIT_BYTES = 16

# One parameter of a Content-Disposition field (RFC 6266, section 4.1), its "*" apart, and lenient as browsers are: an
# unclosed quote ends with the field, a bare value may hold spaces. Not the standard library's email parser: it joins
# RFC 2231 continuations, which HTTP does not have, and raises TypeError on some of them.
_PARAMETER = re.compile(
    r""";\s*([!#$&+\-.^_`|~0-9A-Za-z]+)(\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*)|([^;]*))""",
    re.DOTALL,
)
# Only these two are escapes: servers that quote Windows paths leave their backslashes single.
_ESCAPED = re.compile(r"""\\(["\\])""")
# Most URLs, whose last segment is a safe name as it stands: taking one apart costs ten times as much.
_PLAIN_NAME = re.compile(
    r"https?://[A-Za-z0-9.:_-]+/(?:[!-\"$->@-~]*/)?([A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:[?#].*)?", re.DOTALL
)
_EXTENDED_VALUE = re.compile(r"([^']*)'[^']*'(.*)", re.DOTALL)

# RFC 8187, section 3.2.1 requires UTF-8; ISO-8859-1 is what RFC 5987 added and some servers still send. Other charsets
# fall back to the plain parameter: Python's codec registry has far more than character sets.
_CHARSETS = {"utf-8": "utf-8", "utf8": "utf-8", "iso-8859-1": "iso-8859-1", "us-ascii": "ascii"}


def safe_name(candidate: str) -> str | None:
    """One harmless file name made of `candidate`, or None when nothing usable is left of it.

    Only the last component counts, with `/` and `\\` both as separators. Control characters and line separators become
    `_`; invisible formatting characters (right-to-left overrides, zero-width ones, byte order marks) and spaces at
    either end go; a leading dot, dash or tilde (hidden file, option, home folder) becomes `_`; at most
    `NAME_LIMIT_BYTES` bytes of UTF-8 stay, the extension among them. Everything else that POSIX allows stays as it is.
    """
    name = candidate.replace("\\", "/").rpartition("/")[2]
    if not (name.isascii() and name.isprintable()):
        name = "".join(map(_harmless, name))
    name = name.strip()
    if not name.strip("._-~ "):
        return None
    if name[0] in ".-~":
        name = "_" + name[1:]
    return _shortened(name)


def name_from_headers(headers: HeaderFields) -> str | None:
    """The safe name that a Content-Disposition field suggests (RFC 6266), or None.

    `filename*` (RFC 8187) takes precedence over `filename` (RFC 6266, section 4.3). Nothing in the field raises: what
    cannot be read suggests nothing.
    """
    return next((name for _, name in _usable(headers)), None)


@functools.lru_cache(maxsize=256)
def name_from_url(url: str) -> str:
    """The safe name of the last segment of the URL's path, percent-decoded exactly once; else `FALLBACK_NAME`."""
    plain = _PLAIN_NAME.fullmatch(url)
    if plain is not None:
        return plain[1]
    return safe_name(_last_segment(url)) or FALLBACK_NAME


def changed_name(url: str, headers: HeaderFields) -> str | None:
    """What the server, or else the URL, calls the object, where that is not a safe name and another one was made of it;
    None where nothing was changed."""
    if not headers and _PLAIN_NAME.fullmatch(url):
        return None
    suggested, name = next(iter(_usable(headers)), None) or (_last_segment(url), name_from_url(url))
    return suggested if suggested and suggested != name else None


def follow_link(path: str) -> str:
    """The target of a download that the caller named: where it is a symbolic link, the file that this leads to, which
    is replaced in its place. Names from lists, servers and URLs are never followed."""
    # /dev/stdout is a link, too.
    follow = os.path.islink(path) and not needs_order(path)  # noqa: PTH114
    return os.path.realpath(path) if follow else path


def resolve_target(
    path: str | os.PathLike[str] | None, *, url: str, headers: HeaderFields, may_exist: bool = False
) -> Path:
    """The path to write to. Nothing is changed on the disk; folders of the path need not exist yet.

    `path` None: a safe name in the current folder. An existing folder, or a path that ends with a separator: a safe
    name inside it. Anything else: that very path. The safe name is the server's (Content-Disposition) or the URL's.

    Raises TargetError for a path that no file can have, and, unless `may_exist`, where a name that only the server
    chose exists already: a server must not choose which of the caller's files is replaced (a name from the URL, or a
    path, may replace one).
    """
    if path is None:
        return Path(target_in(str(Path.cwd()), url=url, headers=headers, may_exist=may_exist))
    text = os.fspath(path)
    if not text or "\0" in text:
        raise unusable(text)
    if text.endswith(os.sep) or Path(text).is_dir():
        return Path(target_in(text, url=url, headers=headers, may_exist=may_exist))
    return Path(text)


def unusable(path: str) -> TargetError:
    """The error for a path that no file can have."""
    return TargetError(
        "The target's path is empty, or has a NUL byte or a character that no file name has; give the path of a file.",
        path=path,
    )


def target_in(folder: str, *, url: str, headers: HeaderFields, may_exist: bool = False) -> str:
    """The path in `folder` to write to: see `resolve_target`. Text: a Path takes ten times as long to make."""
    from_url = name_from_url(url)
    name = (name_from_headers(headers) if headers else None) or from_url
    target = os.path.join(folder, name)  # noqa: PTH118
    if name != from_url and not may_exist and os.path.lexists(target):
        raise TargetError(
            f"The server names this download {name!r}, and such a file is there already; give a path to replace it.",
            path=str(Path(target)),
        )
    return target


@functools.lru_cache(maxsize=256)
def _last_segment(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError as error:
        raise InvalidInput(f"The URL cannot be read ({error}); give one like https://host/path.") from error
    # Segments are split before decoding, so that `%2F` cannot hide the last one; safe_name() splits once more after.
    segment = path.rstrip("/").rsplit("/", 1)[-1]
    return unquote(segment, errors="replace").replace("\ufffd", "_")


def _usable(headers: HeaderFields) -> Iterator[tuple[str, str]]:
    """What Content-Disposition suggests, the better first, each with the safe name made of it."""
    for suggestion in _suggestions(headers):
        name = safe_name(suggestion)
        if name is not None:
            yield suggestion, name


def _suggestions(headers: HeaderFields) -> list[str]:
    """The values of `filename*` and `filename`, the better first, as unchecked text."""
    extended: list[str] = []
    plain: list[str] = []
    for field, value in headers:
        if field.lower() != "content-disposition":
            continue
        # With the semicolon before it, a field without a disposition type, which some servers send, is read as well.
        for name, star, quoted, bare in _PARAMETER.findall(";" + value):
            if name.lower() != "filename":
                continue
            if star:
                extended.extend(_decoded(quoted or bare.strip()))
            else:
                plain.append(_as_text(_ESCAPED.sub(r"\1", quoted) or bare))
    return extended + plain


def _decoded(extended: str) -> list[str]:
    """The text of an RFC 8187 value (charset'language'percent-encoded); empty when that is not what it is."""
    match = _EXTENDED_VALUE.fullmatch(extended)
    codec = _CHARSETS.get(match[1].lower()) if match else None
    if match is None or codec is None:
        return []
    try:
        return [unquote_to_bytes(match[2]).decode(codec)]
    except UnicodeError:
        return []


def _as_text(value: str) -> str:
    """Header text as its sender most likely meant it. HTTP libraries return bytes beyond ASCII as Latin-1 or as
    surrogate escapes; servers put UTF-8 there (RFC 6266, appendix C.2). Bytes that are not UTF-8 are Latin-1, as RFC
    9110, section 5.5 has it.
    """
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "surrogateescape" if _only_escapes(value) else "replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _only_escapes(value: str) -> bool:
    """Whether every surrogate in `value` stands for one byte (PEP 383)."""
    return all("\udc80" <= char <= "\udcff" for char in value if "\ud800" <= char <= "\udfff")


def _harmless(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cf":
        return ""
    return "_" if category in ("Cc", "Cs", "Zl", "Zp") else char


def _shortened(name: str) -> str:
    if len(name.encode()) <= NAME_LIMIT_BYTES:
        return name
    dot = name.find(".", max(0, len(name) - _EXTENSION_LIMIT_BYTES))
    stem, extension = (name[:dot], name[dot:]) if dot > 0 else (name, "")
    if len(extension.encode()) > _EXTENSION_LIMIT_BYTES:
        stem, extension = name, ""
    limit_bytes = NAME_LIMIT_BYTES - len(extension.encode())
    # errors="ignore" drops the character that the cut went through.
    return stem.encode()[:limit_bytes].decode(errors="ignore") + extension
