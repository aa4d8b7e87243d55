"""The files of a deposit in a repository of data: in Zenodo, in figshare, or in an instance of Dataverse."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from msgspec import Struct, field

from getm.errors import BadResponse, HTTPStatusError, InvalidInput
from getm.integrity.values import Checksum, find_algorithm, make_checksum
from getm.resolve.pages import JSON, Get, decode

_FIGSHARE = "https://api.figshare.com/v2"
# What figshare says of an article has at most so many of its files; a page of its files has at most so many.
_FIGSHARE_SHOWN, _FIGSHARE_PAGE = 10, 1000
_FIGSHARE_VERSION = re.compile(r"\.v([1-9][0-9]*)$")
_MAX_PAGES = 1000


class DepositedFile(NamedTuple):
    """A file of a deposit. `path`: its name, after the folder that it is in, if any."""

    path: str
    url: str
    size: int | None
    checksums: tuple[Checksum, ...]


def files_of(doi: str, landing: str, get: Get) -> list[DepositedFile]:
    """The files of a deposit. `landing`: the URL to which its DOI leads.

    Raises:
        InvalidInput: Its repository is not known here.
        NetworkError: It could not be asked, or says no.
    """
    host = (urlsplit(landing).hostname or "").lower()
    if host in ("zenodo.org", "www.zenodo.org", "sandbox.zenodo.org"):
        return _in_zenodo(landing, get)
    if host == "figshare.com" or host.endswith(".figshare.com"):
        return _in_figshare(doi, get)
    return _in_dataverse(doi, landing, get)


# Zenodo --------------------------------------------------------------------------------------------------------------


class _ZenodoLinks(Struct):
    own: str = field(name="self", default="")


class _ZenodoFile(Struct):
    """`filename` and `filesize` in place of the others: as Zenodo had them in autumn 2023."""

    key: str | None = None
    filename: str | None = None
    size: int | None = None
    filesize: int | None = None
    checksum: str | None = None
    links: _ZenodoLinks = field(default_factory=_ZenodoLinks)


class _ZenodoRecord(Struct):
    id: int | str
    files: list[_ZenodoFile] = []


def _in_zenodo(landing: str, get: Get) -> list[DepositedFile]:
    parts = urlsplit(landing)
    number = parts.path.rstrip("/").rpartition("/")[2]
    # A DOI for all versions leads to the last one.
    page = get(f"https://{parts.netloc}/api/records/{quote(number, safe='')}", JSON, session_headers=False)
    record: _ZenodoRecord = decode(page, _ZenodoRecord)
    found = []
    for file in record.files:
        name = file.key or file.filename or ""
        url = (
            file.links.own if file.key else f"https://{parts.netloc}/records/{record.id}/files/{quote(name)}?download=1"
        )
        algorithm, _, digest = (file.checksum or "").rpartition(":")
        size = file.size if file.size is not None else file.filesize
        found.append(DepositedFile(name, url, size, _checksums({algorithm or "md5": digest})))
    return found


# figshare ------------------------------------------------------------------------------------------------------------


class _FigshareFile(Struct):
    name: str
    download_url: str
    size: int | None = None
    computed_md5: str | None = None
    supplied_md5: str | None = None


class _FigshareArticle(Struct):
    id: int
    version: int | None = None
    files: list[_FigshareFile] = []


def _in_figshare(doi: str, get: Get) -> list[DepositedFile]:
    found: list[_FigshareArticle] = decode(
        get(f"{_FIGSHARE}/articles?doi={quote(doi, safe='')}", JSON, session_headers=False), list[_FigshareArticle]
    )
    if not found:
        raise BadResponse("figshare knows no public article of this DOI", url=_FIGSHARE)
    place, version = f"{_FIGSHARE}/articles/{found[0].id}", _FIGSHARE_VERSION.search(doi)
    last: _FigshareArticle = decode(get(place, JSON, session_headers=False), _FigshareArticle)
    article = last
    if version is not None and last.version != int(version[1]):
        article = decode(get(f"{place}/versions/{version[1]}", JSON, session_headers=False), _FigshareArticle)
        if len(article.files) >= _FIGSHARE_SHOWN:
            raise BadResponse(
                f"figshare names {_FIGSHARE_SHOWN} files of an earlier version, and there are more: give the last DOI",
                url=place,
            )
    files = article.files if len(article.files) < _FIGSHARE_SHOWN else _figshare_pages(place, get)
    return [
        DepositedFile(
            file.name, file.download_url, file.size, _checksums({"md5": file.computed_md5 or file.supplied_md5 or ""})
        )
        for file in files
    ]


def _figshare_pages(place: str, get: Get) -> list[_FigshareFile]:
    files: list[_FigshareFile] = []
    for number in range(1, _MAX_PAGES + 1):
        page = get(f"{place}/files?page={number}&page_size={_FIGSHARE_PAGE}", JSON, session_headers=False)
        listed: list[_FigshareFile] = decode(page, list[_FigshareFile])
        files += listed
        if len(listed) < _FIGSHARE_PAGE:
            return files
    raise BadResponse("figshare's list of files does not end", url=place)


# Dataverse -----------------------------------------------------------------------------------------------------------


class _DataverseChecksum(Struct):
    type: str
    value: str


class _DataverseData(Struct, rename="camel"):
    """`original_*`: of a table, which Dataverse has in a form of its own as well. The checksum is that of the
    original."""

    id: int
    filename: str = ""
    filesize: int | None = None
    checksum: _DataverseChecksum | None = None
    md5: str | None = None
    original_file_name: str | None = None
    original_file_size: int | None = None
    original_file_format: str | None = None


class _DataverseFile(Struct, rename="camel"):
    data_file: _DataverseData
    label: str | None = None
    directory_label: str | None = None


class _DataverseVersion(Struct):
    files: list[_DataverseFile] = []


class _DataverseDataset(Struct, rename="camel"):
    latest_version: _DataverseVersion


class _DataverseAnswer(Struct):
    data: _DataverseDataset


def _in_dataverse(doi: str, landing: str, get: Get) -> list[DepositedFile]:
    root = "://".join(urlsplit(landing)[:2])
    try:
        page = get(
            f"{root}/api/datasets/:persistentId/?persistentId=doi:{quote(doi, safe='/')}", JSON, session_headers=False
        )
        answer: _DataverseAnswer = decode(page, _DataverseAnswer)
    except (HTTPStatusError, BadResponse) as error:
        if isinstance(error, HTTPStatusError) and error.status in (401, 403):
            raise
        raise InvalidInput(
            f"the DOI leads to {urlsplit(landing).hostname}, which is neither Zenodo nor figshare, nor answers as a "
            f"Dataverse ({error.message}): give the URL of a file there"
        ) from error
    return [_dataverse_file(root, file) for file in answer.data.latest_version.files]


def _dataverse_file(root: str, file: _DataverseFile) -> DepositedFile:
    data, url = file.data_file, f"{root}/api/access/datafile/{file.data_file.id}"
    name, size = file.label or data.filename, data.filesize
    if data.original_file_format is not None:
        # The other form is made anew for each request, and has no checksum.
        name, size, url = data.original_file_name or name, data.original_file_size, f"{url}?format=original"
    folder = f"{data_folder.strip('/')}/" if (data_folder := file.directory_label) else ""
    digest = {data.checksum.type: data.checksum.value} if data.checksum else {"md5": data.md5 or ""}
    return DepositedFile(f"{folder}{name}", url, size, _checksums(digest))


def _checksums(given: dict[str, str]) -> tuple[Checksum, ...]:
    """What a repository says of a file; what is empty, or of an unknown kind, is no checksum. Raises `BadResponse`."""
    try:
        return tuple(
            make_checksum(algorithm, digest)
            for name, digest in given.items()
            if digest and (algorithm := find_algorithm(name)) is not None
        )
    except InvalidInput as error:
        raise BadResponse(f"the repository has a malformed checksum: {error.message}") from None
