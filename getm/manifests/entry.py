"""One download of many: where it comes from, where it goes to, what its bytes must be."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from getm.core.redact import redact
from getm.core.spans import MAX_POSITION
from getm.core.url import validate_url
from getm.errors import InvalidInput, MissingExtra
from getm.files.names import name_from_url
from getm.integrity import (
    STRENGTH,
    Checksum,
    canonical_algorithm,
    make_checksum,
    parse_checksum,
    require_algorithm,
)
from getm.options import HeadersInput, validate_headers

_SEPARATORS = re.compile(r"[/\\]")
_DRIVE = re.compile(r"[A-Za-z]:")

ChecksumsInput = str | Checksum | Iterable[str | Checksum] | None


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Entry:
    """One download. Made by the readers of lists, or by you for `getm.download_all`.

    `urls`: the first is preferred, the rest are mirrors of it. `path`: where to, as the list says it; one that ends
    with "/" is a folder; None: a name by the URL. `checksums`: what the bytes must be, strongest first, at most one
    for each algorithm; empty: what the server declares. `size`: bytes, None where unknown. `headers`: sent with this
    download's requests. `place`: where it stands in its list, for messages ("line 7", "entry 3 (counted from 0)").
    `warn_unverified`: False where the list says that there is no checksum ("checksum-algorithm": null).
    `trusted_path`: whether `path` may be absolute and hold ".." when no directory is given. It may in your own entries
    and in getm's own lists; in lists of other formats, which come from elsewhere, it may not.
    """

    urls: tuple[str, ...]
    path: str | None
    checksums: tuple[Checksum, ...]
    size: int | None
    headers: tuple[tuple[str, str], ...]
    place: str
    warn_unverified: bool
    trusted_path: bool

    def __init__(
        self,
        url: str | Iterable[str],
        path: str | os.PathLike[str] | None = None,
        checksum: ChecksumsInput = None,
        size: int | None = None,
        headers: HeadersInput | None = None,
        *,
        place: str | None = None,
        warn_unverified: bool = True,
        trusted_path: bool = True,
    ) -> None:
        """`url`: one, or several in the order of preference. `checksum`: "ALG:VALUE" or a `Checksum`, or several.

        Raises InvalidInput: a URL that is not http(s), no URL, a path that no file can have, a checksum that cannot be
        read, two of one algorithm that contradict each other, a negative size, a header that cannot be sent.
        """
        # What is no iterable goes to validate_url, which says what is wrong with it.
        urls = tuple(url) if not isinstance(url, str) and isinstance(url, Iterable) else (url,)
        if not urls:
            raise InvalidInput("no URL was given; expected at least one")
        checked = (validate_url(urls[0]),) if len(urls) == 1 else tuple(dict.fromkeys(map(validate_url, urls)))
        # Frozen: there is no other way to set a field.
        put = object.__setattr__
        put(self, "urls", checked)
        put(self, "path", None if path is None else _validated_path(path))
        put(self, "checksums", _strongest_first(checksum))
        put(self, "size", _validated_size(size))
        put(self, "headers", validate_headers(headers))
        put(self, "place", f"the entry of {redact(checked[0])}" if place is None else place)
        put(self, "warn_unverified", warn_unverified)
        put(self, "trusted_path", trusted_path)

    def __repr__(self) -> str:
        # No secret: URLs without their query, and of headers the names only.
        urls = ", ".join(map(redact, self.urls))
        checksums = ", ".join(map(str, self.checksums))
        headers = ", ".join(name for name, _ in self.headers)
        return (
            f"Entry(<{urls}>, path={self.path!r}, checksums=<{checksums}>, size={self.size}, headers=<{headers}>,"
            f" place={self.place!r})"
        )

    @property
    def checksum(self) -> Checksum | None:
        """The strongest of what is to be verified; None where there is none."""
        return self.verifiable[0] if self.checksums else None

    @property
    def verifiable(self) -> tuple[Checksum, ...]:
        """What is to be verified, strongest first: all that can be computed here. Where none can, all there are."""
        return tuple(filter(_can_be_computed, self.checksums)) or self.checksums

    def target(self, directory: str | None = None) -> str:
        """The path of the file, relative to `directory`, or to the current folder without one; absolute only where the
        entry says so and may. Computed from the names alone: whether a folder of that name stands there already, and
        what symbolic links lead to, is not looked at.

        With a `directory`, and for entries that are not trusted, the path is free of "..": raises InvalidInput for one
        that would leave.
        """
        if self.path is None:
            return name_from_url(self.urls[0])
        path = self.path
        if directory is not None or not self.trusted_path:
            _refuse_escape(path, "the folder that was given" if directory is not None else "the current folder")
            if "/" in path or path == ".":
                # Without "..", this changes nothing but the spelling ("./a", "a//b").
                path = os.path.normpath(path) + ("/" if path.endswith("/") else "")
        if path.endswith("/"):
            return path + name_from_url(self.urls[0])
        # Not to be taken for standard output, which many downloads cannot share.
        return "./-" if path == "-" else path


def usable_urls(urls: Iterable[str]) -> list[str]:
    """The http(s) URLs among those that a list has for one file. Lists for other tools also have ftp, torrents, s3:
    these are passed over where there is a URL to use. Raises InvalidInput where there is none."""
    schemes = []
    usable = []
    for url in urls:
        scheme, colon, _ = url.partition(":")
        if scheme.strip().lower() in ("http", "https"):
            usable.append(url)
        elif colon and scheme.isascii() and scheme.isalnum():
            schemes.append(scheme[:20])
    if not usable:
        got = f"only {', '.join(dict.fromkeys(schemes))}" if schemes else "none"
        raise InvalidInput(f"expected an http or https URL, got {got}")
    return usable


def known_checksums(named: Iterable[tuple[str, str]]) -> list[Checksum]:
    """The checksums in pairs of a type and a value, as other vocabularies have them (GA4GH DRS, Metalink): types that
    getm does not know are passed over beside one that it does. Raises InvalidInput where it knows none of them: the
    file would not be verified, although the list says how."""
    checksums, unknown = [], []
    for name, value in named:
        try:
            algorithm = canonical_algorithm(name)
        except InvalidInput:
            unknown.append(name)
            continue
        checksums.append(make_checksum(algorithm, value))
    if unknown and not checksums:
        types = ", ".join(repr(each[:40]) for each in unknown)
        raise InvalidInput(
            f"its only checksums are of types that getm does not know ({types}); remove them to download it unverified"
        )
    return checksums


def _can_be_computed(checksum: Checksum) -> bool:
    try:
        require_algorithm(checksum.algorithm)
    except MissingExtra:
        return False
    return True


def _validated_path(path: str | os.PathLike[str]) -> str | None:
    text = os.fspath(path)
    if not isinstance(text, str):
        raise InvalidInput(f"the path must be a str or a Path, not {type(text).__name__}")
    if "\0" in text:
        raise InvalidInput("the path holds a NUL character; no file can have it in its name")
    if not text.isascii():
        try:
            os.fsencode(text)
        except UnicodeEncodeError:
            raise InvalidInput(f"the path {text!r} holds characters that no file can have in its name") from None
    # An empty path was the same as none in getm 0.0.x.
    return text or None


def _validated_size(size: int | None) -> int | None:
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_POSITION):
        raise InvalidInput(f"the size must be a number of bytes, not {size!r:.40}")
    return size


def _strongest_first(checksum: ChecksumsInput) -> tuple[Checksum, ...]:
    if checksum is None:
        return ()
    given = checksum if not isinstance(checksum, str) and isinstance(checksum, Iterable) else [checksum]
    by_algorithm: dict[str, Checksum] = {}
    for item in given:
        value = parse_checksum(item) if isinstance(item, str) else item
        if not isinstance(value, Checksum):
            raise InvalidInput(f'a checksum must be "ALG:VALUE" or a getm.Checksum, not a {type(value).__name__}')
        if by_algorithm.setdefault(value.algorithm, value) != value:
            raise InvalidInput(f"two {value.algorithm} checksums contradict each other; give the right one")
    if len(by_algorithm) < 2:
        return tuple(by_algorithm.values())
    return tuple(by_algorithm[algorithm] for algorithm in STRENGTH if algorithm in by_algorithm)


def _refuse_escape(path: str, folder: str) -> None:
    """Refuse what would leave `folder` here, or on a system with drive letters and backslashes."""
    if path.startswith(("/", "\\")) or _DRIVE.match(path):
        raise InvalidInput(f"the path {path!r} is absolute and would leave {folder}; expected a relative one")
    if ".." in path and ".." in _SEPARATORS.split(path):
        raise InvalidInput(f"the path {path!r} holds '..' and could leave {folder}; expected one without")
