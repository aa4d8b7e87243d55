"""`doi:10.5281/zenodo.123/FILE`: the files of a deposit that has a DOI, in Zenodo, figshare and instances of Dataverse.

The registry of DOIs says where a deposit is, and its repository which files it has, with their checksums. Where a DOI
ends and the name of a file begins is not written anywhere: the shortest DOI that the registry knows is the one.
"""

from __future__ import annotations

import re
import threading
import time
from typing import NamedTuple
from urllib.parse import quote, unquote

from msgspec import Struct

from getm.errors import BadResponse, HTTPStatusError, InvalidInput
from getm.resolve.pages import JSON, Get, decode, get_page
from getm.resolve.repositories import DepositedFile, files_of
from getm.resolve.resource import Resource

_REGISTRY = "https://doi.org/api/handles"
# ISO 26324: the prefix begins with "10.", and the suffix may have any characters.
_NAME = re.compile(r"doi:(?://)?(10\.[0-9.]+)/([^/].*)", re.IGNORECASE | re.DOTALL)
_EXPECTED = "expected doi:10.PREFIX/SUFFIX/FILE, such as doi:10.5281/zenodo.123/data.csv"
# A deposit of many files is asked for once, and not for each of them.
_KEPT_S, _MAX_KEPT = 300.0, 64

_deposits: dict[str, Deposit] = {}
# One of them for each DOI, so that many downloads ask once.
_locks = [threading.Lock() for _ in range(16)]


class Deposit(NamedTuple):
    """The files of a DOI, as its repository has said at `since_s` (monotonic)."""

    doi: str
    files: list[DepositedFile]
    since_s: float


def resolve(name: str) -> Resource:
    """Zenodo, figshare, Dataverse: doi:10.PREFIX/SUFFIX/FILE.

    Args:
        name: The DOI and the name of a file, which may be left out where there is only one.

    Returns:
        Where the file is, with the checksum and the size that its repository has.

    Raises:
        InvalidInput: It is no such name, there is no such file, or its repository is not known.
        NetworkError: The registry of DOIs or the repository could not be asked, or refused.

    Example:
        >>> table = getm.read("doi:10.5281/zenodo.4924875/tiny-data.txt")
    """
    deposit, path = find_deposit(name, get_page)
    wanted = [file for file in deposit.files if path in (file.path, unquote(file.path)) or not path]
    if not path and len(wanted) > 1:
        raise InvalidInput(f"it has {len(wanted)} files; for all of them: doi:{deposit.doi}/")
    if not wanted:
        some = ", ".join(file.path for file in deposit.files[:5])
        raise InvalidInput(f"doi:{deposit.doi} has no file {path[:100]!r}" + (f"; it has {some}" if some else ""))
    file = wanted[0]
    try:
        return Resource(file.url, checksums=file.checksums, size=file.size, session_headers=False)
    except InvalidInput as error:
        raise BadResponse(f"the repository gives no URL that can be used: {error.message}") from None


def find_deposit(name: str, get: Get) -> tuple[Deposit, str]:
    """The deposit of a name, asked for by `get`, and what follows its DOI. Raises as `resolve` does."""
    found = _NAME.fullmatch(name.rstrip("/"))
    if found is None:
        raise InvalidInput(_EXPECTED)
    prefix, segments = found[1], found[2].split("/")
    for count in range(1, len(segments) + 1):
        # Case does not matter (ISO 26324).
        doi = f"{prefix}/{'/'.join(segments[:count])}"
        with _locks[hash(doi.lower()) % len(_locks)]:
            deposit = _kept(doi) or _ask(doi, get)
        if deposit is not None:
            return deposit, "/".join(segments[count:])
    raise InvalidInput(f"there is no DOI {prefix}/{found[2][:100]}, nor one that begins it")


class _Data(Struct):
    value: str | dict[str, object] = ""


class _Value(Struct):
    type: str
    data: _Data


class _Handle(Struct):
    """What the registry says (doi.org, "DOI Proxy Server REST API")."""

    values: list[_Value] = []


def _kept(doi: str) -> Deposit | None:
    deposit = _deposits.get(doi.lower())
    return deposit if deposit is not None and time.monotonic() - deposit.since_s < _KEPT_S else None


def _ask(doi: str, get: Get) -> Deposit | None:
    """The deposit of a DOI; None where there is no such DOI."""
    try:
        page = get(f"{_REGISTRY}/{quote(doi, safe='/')}?type=URL", JSON, session_headers=False)
    except HTTPStatusError as error:
        if error.status == 404:
            return None
        raise
    handle: _Handle = decode(page, _Handle)
    landing = next((each.data.value for each in handle.values if each.type == "URL"), None)
    if not isinstance(landing, str):
        return None
    deposit = Deposit(doi, files_of(doi, landing, get), time.monotonic())
    if len(_deposits) >= _MAX_KEPT:
        _deposits.clear()
    _deposits[doi.lower()] = deposit
    return deposit
