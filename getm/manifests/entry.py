"""One download of many: where it comes from, where it goes to, what its bytes must be."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from getm.core.lazy import importing
from getm.core.redact import redact
from getm.core.spans import MAX_POSITION
from getm.core.url import validate_url
from getm.core.url_path import is_url
from getm.core.validate import validate_bool, validate_integer, validate_path, validate_text
from getm.errors import InvalidInput
from getm.files.names import name_from_url
from getm.integrity.algorithms import is_available
from getm.integrity.values import STRENGTH, Checksum, canonical_algorithm, make_checksum, parse_checksum
from getm.options import HeadersInput, validate_headers
from getm.resolve.request import is_http, is_name

if TYPE_CHECKING:
    from getm.resolve.resource import Provider, URLInput

_SEPARATORS = re.compile(r"[/\\]")
_DRIVE = re.compile(r"[A-Za-z]:")

ChecksumsInput = str | Checksum | Iterable[str | Checksum] | None


class Entry:
    """One download of many: what `read_list` gives, and `download_all` takes.

    The attributes are the arguments, checked: `urls`, all of them; `checksums`, strongest first, at most one for each
    algorithm; `provider`, and then `urls` are empty.

    Args:
        url: One, or several of the same object in the order of preference: mirrors. The first may be a name for which a
            resolver is installed. Or a provider: a function that returns a URL or a `Resource`, which is asked just
            before the download begins, and again when the URL expires; then a path is needed.
        path: The file, relative to the folder of the download. One that ends with "/" is a folder; None: a name from
            the URL. Or, where no folder is given, the URL of an object (s3://bucket/key).
        checksum: What the bytes must be: "ALGORITHM:VALUE" or a `Checksum`, or several. None: what the server declares.
        size: Of the object, in bytes; None where unknown.
        headers: Request headers of this download.
        place: Where it is in its list, for messages ("line 7", "entry 3 (counted from 0)").
        warn_unverified: False where the list says that there is no checksum, so that unverified bytes are nothing to
            warn of.
        trusted_path: Whether `path` may be absolute and hold ".." when no directory is given. It may in your own
            entries and in getm's own lists; in lists of other formats, which come from elsewhere, it may not.
        session_headers: Whether the headers of the session are sent as well: not to the hosts of a Metalink, which its
            author names.
        expand: Whether a URL without checksum, size and mirrors stands for several objects where it has wildcards or
            ends with a slash ("s3://bucket/in/*.cram", "hf://org/model"; see `list_objects`). Then `path` is the folder
            for their paths, which are relative to the first folder that has no wildcard. None: names do, unless `path`
            is that of a file, and http(s) URLs do not. True: both, and all of a folder that a wildcard matches is
            meant. False: neither.

    Raises:
        InvalidInput: An argument cannot be used: a URL that is not http(s), a path that no file can have, a checksum
            that cannot be read, two of one algorithm that contradict each other, a negative size.

    Example:
        >>> getm.Entry("https://data.example.org/reads.bam", "in/reads.bam", "md5:fa604061530db3127b31b061c7527e82")
    """

    # A class by hand, since its arguments are not its attributes.
    __slots__ = (
        "checksums",
        "expand",
        "headers",
        "path",
        "place",
        "provider",
        "session_headers",
        "size",
        "trusted_path",
        "urls",
        "warn_unverified",
    )

    urls: tuple[str, ...]
    path: str | None
    checksums: tuple[Checksum, ...]
    size: int | None
    headers: tuple[tuple[str, str], ...]
    place: str
    provider: Provider | None
    warn_unverified: bool
    trusted_path: bool
    session_headers: bool
    expand: bool | None

    def __init__(
        self,
        url: URLInput | Iterable[str],
        path: str | os.PathLike[str] | None = None,
        checksum: ChecksumsInput = None,
        size: int | None = None,
        headers: HeadersInput | None = None,
        *,
        place: str | None = None,
        warn_unverified: bool = True,
        trusted_path: bool = True,
        session_headers: bool = True,
        expand: bool | None = None,
    ) -> None:
        provider = url if callable(url) else None
        if callable(url):
            checked: tuple[str, ...] = ()
            if path is None or os.fspath(path).endswith("/"):
                raise InvalidInput("an entry whose URL a provider finds needs a path, since it has no name before that")
        else:
            # validate_url refuses what is no iterable.
            urls = tuple(url) if not isinstance(url, str) and isinstance(url, Iterable) else (url,)
            if not urls:
                raise InvalidInput("no URL was given; expected at least one")
            first = _url_or_name(urls[0])
            checked = (first,) if len(urls) == 1 else tuple(dict.fromkeys((first, *map(validate_url, urls[1:]))))
        # Immutable: there is no other way to set an attribute.
        put = object.__setattr__
        put(self, "urls", checked)
        put(self, "path", None if path is None else _checked_path(validate_path(path, "path")))
        put(self, "checksums", _strongest_first(checksum))
        put(self, "size", None if size is None else validate_integer(size, "size", 0, MAX_POSITION))
        put(self, "headers", validate_headers(headers))
        put(self, "provider", provider)
        put(self, "place", f"the entry of {self.label}" if place is None else validate_text(place, "place"))
        put(self, "warn_unverified", validate_bool(warn_unverified, "warn_unverified"))
        put(self, "trusted_path", validate_bool(trusted_path, "trusted_path"))
        put(self, "session_headers", validate_bool(session_headers, "session_headers"))
        put(self, "expand", None if expand is None else validate_bool(expand, "expand"))

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Entry) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an Entry is immutable, so its {name} cannot be set: make another one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an Entry is immutable, so its {name} cannot be deleted: make another one")

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        # Of a pickle or a copy.
        for name, value in state[1].items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        # No secrets: URLs without their query, headers without their values.
        urls = ", ".join(map(redact, self.urls)) or self.label
        checksums = ", ".join(map(str, self.checksums))
        headers = ", ".join(name for name, _ in self.headers)
        return (
            f"Entry(<{urls}>, path={self.path!r}, checksums=<{checksums}>, size={self.size}, headers=<{headers}>,"
            f" place={self.place!r})"
        )

    def found_by(self, provider: Provider) -> Entry:
        """The same entry, whose URL `provider` finds; what it has now is its name."""
        entry = copy.copy(self)
        object.__setattr__(entry, "provider", provider)
        return entry

    def expanding(self, expand: bool) -> Entry:
        """The same entry, with another `expand`."""
        entry = copy.copy(self)
        object.__setattr__(entry, "expand", expand)
        return entry

    @property
    def stands_for_several(self) -> bool:
        """Whether it stands for all objects that are listed below its URL, or match it."""
        if self.expand is False or self.provider is not None or len(self.urls) > 1:
            return False
        url = self.urls[0]
        if self.checksums or self.size is not None:
            return False
        if self.expand is None and (is_http(url) or (self.path is not None and not self.path.endswith("/"))):
            # The path is that of a file.
            return False
        with importing:
            from getm.resolve.names import has_lister
            from getm.resolve.patterns import is_root, names_several
        if self.path is not None and not self.path.endswith("/") and url[:4].lower() == "doi:" and is_root(url):
            # Where a deposit has one file, its DOI is a name of that.
            return False
        return names_several(url) and has_lister(url)

    @property
    def label(self) -> str:
        """What to call it in messages: its URL without a query, or its provider."""
        if self.urls or self.provider is None:
            return redact(self.urls[0])
        with importing:
            from getm.resolve.names import label_of
        return label_of(self.provider)

    @property
    def checksum(self) -> Checksum | None:
        """The strongest of what is to be verified; None where there is none."""
        return self.verifiable[0] if self.checksums else None

    @property
    def verifiable(self) -> tuple[Checksum, ...]:
        """What is to be verified, strongest first: all that can be computed here. Where none can, all there are."""
        return tuple(each for each in self.checksums if is_available(each.algorithm)) or self.checksums

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
        if is_url(path):
            if directory is not None or not self.trusted_path:
                where = "the folder that was given" if directory is not None else "the current folder"
                raise InvalidInput(f"the path {path!r} is a URL and would leave {where}; expected a relative one")
            return f"{path}{name_from_url(self.urls[0])}" if path.endswith("/") else path
        if directory is not None or not self.trusted_path:
            refuse_escape(path, "the folder that was given" if directory is not None else "the current folder")
            if "/" in path or path == ".":
                # Without "..", this changes nothing but the spelling ("./a", "a//b").
                path = os.path.normpath(path) + ("/" if path.endswith("/") else "")
        if path.endswith("/"):
            return path + name_from_url(self.urls[0])
        # Not to be taken for standard output, which many downloads cannot share.
        return "./-" if path == "-" else path


def as_entry(given: Entry | str) -> Entry:
    """An entry, or that of a URL. Raises `InvalidInput`."""
    entry = Entry(given) if isinstance(given, str) else given
    if not isinstance(entry, Entry):
        raise InvalidInput(f"expected a URL or a getm.Entry, got a {type(entry).__name__}")
    return entry


def stands_for_several(given: Entry | str) -> bool:
    """Whether it stands for all objects that are listed below its URL, or match it. What cannot be used does not."""
    if isinstance(given, str) and not is_http(given) and is_name(given):
        given = Entry(given)
    return isinstance(given, Entry) and given.stands_for_several


def _url_or_name(url: str) -> str:
    """A URL, checked; or a name for which there is a resolver, as it is."""
    return url if isinstance(url, str) and is_name(url) else validate_url(url)


def _checked_path(path: str) -> str | None:
    if not is_url(path):
        return path or None
    with importing:
        from getm.destinations.urls import as_destination, is_folder

    path = as_destination(path)
    return f"{path}/" if is_url(path) and is_folder(path) and not path.endswith("/") else path


def usable_urls(urls: Iterable[str]) -> list[str]:
    """The http(s) URLs among those that a list has for one file; or else the first name that has a resolver. Lists for
    other tools also have ftp, torrents: these are skipped where there is one to use. Raises InvalidInput where there is
    none."""
    given = [url.strip() for url in urls]
    usable = [url for url in given if url.lower().startswith(("http:", "https:"))]
    usable = usable or [url for url in given if is_name(url)][:1]
    if usable:
        return usable
    from getm.core.url_advice import advice_for, not_http

    schemes = [url.partition(":")[0][:20] for url in given if re.match(r"[A-Za-z0-9]+:", url)]
    if given and not schemes:
        raise InvalidInput(not_http(given[0]))
    got = f"only {', '.join(dict.fromkeys(schemes))}" if schemes else "none"
    advice = next(filter(None, map(advice_for, given)), None)
    raise InvalidInput(f"expected an http or https URL, got {got}{f': {advice}' if advice else ''}")


def known_checksums(named: Iterable[tuple[str, str]]) -> list[Checksum]:
    """The checksums in pairs of a type and a value, as other vocabularies have them (GA4GH DRS, Metalink): types that
    getm does not know are skipped beside one that it does. Raises InvalidInput where it knows none of them: the
    file would not be verified, although the list says how."""
    checksums, unknown = [], []
    for name, value in named:
        try:
            algorithm = canonical_algorithm(name)
        except InvalidInput:
            unknown.append(repr(name[:40]))
        else:
            checksums.append(make_checksum(algorithm, value))
    if unknown and not checksums:
        raise InvalidInput(
            f"its only checksums are of types that getm does not know ({', '.join(unknown)}); remove them to download "
            "it unverified"
        )
    return checksums


def _strongest_first(checksum: ChecksumsInput) -> tuple[Checksum, ...]:
    if checksum is None:
        return ()
    if isinstance(checksum, Checksum):
        return (checksum,)
    given = checksum if not isinstance(checksum, str) and isinstance(checksum, Iterable) else [checksum]
    by_algorithm: dict[str, Checksum] = {}
    for item in given:
        value = parse_checksum(item) if isinstance(item, str) else item
        if not isinstance(value, Checksum):
            raise InvalidInput(f'a checksum must be "ALG:VALUE" or a getm.Checksum, not a {type(value).__name__}')
        if by_algorithm.setdefault(value.algorithm, value) != value:
            raise InvalidInput(f"two {value.algorithm} checksums contradict each other; give the right one")
    return tuple(sorted(by_algorithm.values(), key=lambda each: STRENGTH.index(each.algorithm)))


def refuse_escape(path: str, folder: str) -> None:
    """Refuse what would leave `folder` here, or on a system with drive letters and backslashes."""
    if path.startswith(("/", "\\")) or _DRIVE.match(path):
        raise InvalidInput(f"the path {path!r} is absolute and would leave {folder}; expected a relative one")
    if ".." in path and ".." in _SEPARATORS.split(path):
        raise InvalidInput(f"the path {path!r} holds '..' and could leave {folder}; expected one without")
