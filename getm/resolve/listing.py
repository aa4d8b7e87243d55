"""What is below a prefix: the objects that the lister for a scheme yields, checked, and those that match a pattern."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from urllib.parse import unquote

from msgspec import Struct
from msgspec.structs import force_setattr

from getm.core.redact import redact, redact_text
from getm.core.spans import MAX_POSITION
from getm.core.text import brief
from getm.core.validate import refuse, validate_integer
from getm.errors import BadResponse, GetmError, InvalidInput, ResolveFailed
from getm.integrity.values import Checksum
from getm.resolve.pages import Get
from getm.resolve.patterns import (
    Matches,
    filter_of,
    has_wild_root,
    is_root,
    is_wild,
    literal_start,
    matcher,
    split_pattern,
)
from getm.resolve.request import is_http, scheme_of
from getm.resolve.resource import checksums_of

# Of what was deleted, some stores have empty pages.
_MAX_EMPTY_PAGES = 1000


class ListedObject(Struct, frozen=True, repr_omit_defaults=True):
    """An object, or a folder, as a listing has it: what `list_objects` yields, and what a lister does.

    Args:
        name: What `getm.read` and the others take: "s3://bucket/key". A folder's ends with a slash.
        size: In bytes; None where the listing does not say it exactly.
        modified: When it was last modified, with a time zone; None where unknown.
        checksums: Of the whole object: "ALGORITHM:VALUE" or a `Checksum`, or several.
        version: What changes with its content, such as an ETag; None where unknown.
        pinned: The name of exactly this version, where there is one, which downloads then use.
        is_folder: Whether it is a folder, which cannot be downloaded itself.

    Raises:
        InvalidInput: A field cannot be used.

    Example:
        >>> getm.ListedObject("lims://S1/reads.bam", size=1024, checksums="md5:fa604061530db3127b31b061c7527e82")
    """

    name: str
    size: int | None = None
    modified: datetime | None = None
    checksums: str | Checksum | Iterable[str | Checksum] = ()
    version: str | None = None
    pinned: str | None = None
    is_folder: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or scheme_of(self.name) is None:
            refuse("name", "a name with its scheme", self.name)
        if self.is_folder and not self.name.endswith("/"):
            raise InvalidInput(f"the name of a folder ends with a slash, and {brief(self.name)!r} does not")
        if self.size is not None:
            validate_integer(self.size, "size", 0, MAX_POSITION)
        if self.modified is not None and (not isinstance(self.modified, datetime) or self.modified.utcoffset() is None):
            refuse("modified", "a datetime with a time zone, or None", self.modified)
        if self.checksums != ():
            force_setattr(self, "checksums", checksums_of(self.checksums))

    @property
    def source(self) -> str:
        """What to download: the version that was listed, where it has a name of its own."""
        return self.pinned or self.name

    def texts(self) -> tuple[str, ...]:
        """The checksums in canonical text."""
        return tuple(map(str, checksums_of(self.checksums)))


class ListRequest(Struct, frozen=True):
    """What a lister is asked for.

    Args:
        prefix: What the names begin with. It may end anywhere: "lims://S1/re".
        recursive: Whether everything below is wanted; else what is directly in the folder in which the prefix ends, and
            its folders. A lister may yield everything in both cases: getm makes folders of it.
        get: Makes an HTTP request for a page of the listing, `get(url, headers)`, with the headers, proxies,
            certificates and retries of the session; with `session_headers=False` without its headers, for hosts that
            somebody else names.

    Example:
        >>> page = request.get("https://lims.example.org/files?below=S1/re", {"Authorization": "Bearer 0123"})
    """

    prefix: str
    recursive: bool
    get: Get


# A function that lists what is below a prefix, page by page as it is read.
Lister = Callable[[ListRequest], Iterable[ListedObject]]


class EndOfPages:
    """Notices a listing that does not end, by what names its pages."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._empty = 0

    def check(self, page: str, *, is_empty: bool) -> None:
        """There is a page after this one. `page`: its token or URL, or that of the next one. Raises `BadResponse`."""
        self._empty = self._empty + 1 if is_empty else 0
        if page in self._seen or self._empty > _MAX_EMPTY_PAGES:
            what = "a page of it came before" if page in self._seen else f"{self._empty:,} pages in a row have nothing"
            raise BadResponse(f"the listing does not end: {what}")
        self._seen.add(page)


def list_names(
    lister: Lister, name: str, get: Get, *, recursive: bool, include: Iterable[str] = (), exclude: Iterable[str] = ()
) -> Iterator[ListedObject]:
    """What `name` stands for: see `Session.list_objects`."""
    if has_wild_root(name):
        raise InvalidInput(
            "wildcards may stand in what follows a bucket, a repository or a host, and not in its name",
            url=redact(name),
        )
    if is_http(name) and ("?" in name or "#" in name):
        raise InvalidInput("a URL with a query or a fragment is no folder that could be listed", url=redact(name))
    return _Listing(lister, get, name, recursive, filter_of(include, exclude)).found()


def path_of(listed: ListedObject, folder: str) -> str:
    """The path of an object relative to `folder`, decoded where names are percent-encoded. That of an object that is
    called as the folder is the last part of it."""
    start = len(folder) if listed.name.startswith(folder) else folder.rindex("/", 0, -1) + 1
    path = listed.name[start:]
    return unquote(path.partition("?")[0], errors="surrogateescape") if is_http(folder) else path


class _Listing:
    """One listing of what `name` stands for."""

    def __init__(self, lister: Lister, get: Get, name: str, recursive: bool, wanted: Matches) -> None:
        self._lister = lister
        self._get = get
        self._name = name
        self._recursive = recursive
        self._wanted = wanted
        self._is_http = is_http(name)
        self._pattern = split_pattern(name)

    def found(self) -> Iterator[ListedObject]:
        for listed in self._all():
            # A folder may have what is wanted in it.
            if listed.is_folder or self._wanted(path_of(listed, self._pattern.folder)):
                yield listed

    def _all(self) -> Iterator[ListedObject]:
        folder, parts = self._pattern
        if parts:
            for listed in self._matching(folder, parts):
                if listed.is_folder and self._recursive:
                    yield from self._below(listed.name)
                else:
                    yield listed
        elif self._name.endswith("/") or is_root(self._name):
            yield from self._below(folder)
        else:
            # An object, a folder, or both.
            wanted = self._decoded(self._name)
            for listed in self._ask(self._prefix(self._name), recursive=False):
                name = self._decoded(listed.name)
                if name == wanted:
                    yield listed
                elif name == f"{wanted}/":
                    yield from self._below(listed.name)

    def _below(self, folder: str) -> Iterator[ListedObject]:
        return self._ask(folder, recursive=self._recursive)

    def _matching(self, folder: str, parts: tuple[str, ...]) -> Iterator[ListedObject]:
        """What matches in `folder`, whose name has no wildcards: folder by folder, so that nothing is listed that
        cannot match, but from a "**" on everything."""
        part, rest = parts[0], parts[1:]
        if part == "" and not rest:
            # A slash at the end.
            yield from self._below(folder)
        elif "**" in part:
            whole = "/".join(parts)
            matches = matcher(f"{whole}**" if whole.endswith("/") else whole, in_url=self._is_http)
            for listed in self._ask(self._prefix(folder + literal_start(part)), recursive=True):
                if matches(listed.name[len(folder) :]):
                    yield listed
        elif rest and not is_wild(part, in_url=self._is_http):
            yield from self._matching(f"{folder}{part}/", rest)
        else:
            matches = matcher(part, in_url=self._is_http)
            for listed in self._ask(self._prefix(folder + literal_start(part)), recursive=False):
                if not matches(listed.name[len(folder) :].removesuffix("/")):
                    continue
                if not rest:
                    yield listed
                elif listed.is_folder:
                    yield from self._matching(listed.name, rest)

    def _prefix(self, name: str) -> str:
        """What the names begin with that are asked for. Of URLs only the folder: they are percent-encoded in one form
        by the lister, and perhaps in another here."""
        return name[: name.rindex("/") + 1] if self._is_http else name

    def _decoded(self, name: str) -> str:
        return unquote(name) if self._is_http else name

    def _ask(self, prefix: str, *, recursive: bool) -> Iterator[ListedObject]:
        """What the lister yields, as far as it begins with the prefix: objects only, or with the folders that are
        directly in that in which the prefix ends."""
        request = ListRequest(prefix, recursive, self._get)
        depth = prefix.rfind("/") + 1
        folders: set[str] = set()
        for listed in _yielded(self._lister, request):
            name = listed.name
            if not name.startswith(prefix) or name == prefix[:depth]:
                continue
            if recursive:
                if not listed.is_folder:
                    yield listed
                continue
            end = name.find("/", depth) + 1
            if not end:
                yield listed
            elif name[:end] not in folders:
                folders.add(name[:end])
                yield listed if listed.is_folder and end == len(name) else ListedObject(name[:end], is_folder=True)


def _yielded(lister: Lister, request: ListRequest) -> Iterator[ListedObject]:
    """What a lister yields. What it raises, unless that is getm's own, is the cause of a `ResolveFailed`."""
    try:
        for listed in lister(request):
            if not isinstance(listed, ListedObject):
                raise TypeError(f"a lister yields getm.ListedObject, and not {type(listed).__name__}")
            yield listed
    except GetmError:
        raise
    except Exception as error:
        said = brief(redact_text(f"{type(error).__name__}: {error}")).removesuffix(": ")
        raise ResolveFailed(f"it cannot be listed: {said}", url=redact(request.prefix)) from error
