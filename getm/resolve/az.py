"""`az://CONTAINER/BLOB`, `abfs[s]://CONTAINER@ACCOUNT.dfs.core.windows.net/BLOB`: objects in Azure Blob Storage, by a
shared access signature, or with a token.

The names are those that fsspec's adlfs and Apache Hadoop read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, unquote

from msgspec import Struct

from getm.clouds.azure import Account, configured_account, find_token, sign
from getm.clouds.variables import chosen
from getm.core.azure import VERSION, VERSION_FIELD, blob_host
from getm.errors import InvalidInput, MissingExtra
from getm.resolve.resource import Resource

# What follows the container is as it is stored.
_NAME = re.compile(r"(?:az|abfss?)://([^/@:]+)(?:@([^/@:]+))?/(.+)", re.IGNORECASE | re.DOTALL)
_URL = re.compile(r"https://([^/?#]+)/([^/?#]+)/([^?#]+)((?:\?[^#]*)?)", re.IGNORECASE)
_VERSION = re.compile(r"(.+)\?(versionid|snapshot)=([^?&]+)", re.DOTALL | re.IGNORECASE)
_WITHOUT = (
    "it was requested without credentials, since none of Azure's were found: run az login, or set "
    "AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_KEY"
)


class _Place(NamedTuple):
    """Where a blob is. `host`: of its account, None where the name has none; `version`: parameters of its URL."""

    host: str | None
    container: str
    blob: str
    version: dict[str, str]


def resolve(name: str, *, endpoint_url: str | None = None, anonymous: bool | None = None) -> Resource:
    """Azure Blob Storage: az://CONTAINER/BLOB, az://CONTAINER@ACCOUNT.blob.core.windows.net/BLOB.

    Args:
        name: The name, or the https URL of a blob without a signature; `?versionid=ID` or `?snapshot=TIME` at its end
            is one version of it. Without an account, it is that of $AZURE_STORAGE_CONNECTION_STRING, or else
            $AZURE_STORAGE_ACCOUNT.
        endpoint_url: Of the account's Blob service; None: as the name and the environment say.
        anonymous: Neither sign nor send a token; None: where $AZURE_STORAGE_ANON is "true", or there are no
            credentials.

    Returns:
        A URL with the signature of $AZURE_STORAGE_SAS_TOKEN, or with one by the account's key that is valid for an
        hour; or a URL with a token, as long as that is valid.

    Raises:
        InvalidInput: It is no such name, or its account is not known.
        MissingExtra: The environment has a key or a connection string, and azure-storage-blob is not installed.

    Example:
        >>> data = getm.read(functools.partial(getm.resolve.az.resolve, "az://container/reads.bam", anonymous=True))
    """
    place = _place(name)
    account = account_at(place.host, endpoint_url)
    version = {"version_id" if field == "versionid" else field: value for field, value in place.version.items()}
    to = access(account, anonymous, lambda: sign(account, place.container, place.blob, version))
    query = [f"{field}={quote(value, safe=':')}" for field, value in place.version.items()]
    url = f"{account.endpoint}/{quote(place.container, safe='$')}/{quote(place.blob, safe='/~')}"
    url = "?".join(filter(None, (url, "&".join(filter(None, (*query, to.signature))))))
    return Resource(url, headers=to.headers, expires_at=to.expires_s, advice=to.advice)


class Access(Struct, frozen=True):
    """How requests are made: with which `signature` in the query, or which `headers`, which expire. `advice`: see
    `Resource`."""

    headers: dict[str, str]
    signature: str = ""
    expires_s: float | None = None
    advice: str = ""


def access(account: Account, anonymous: bool | None, signed: Callable[[], str]) -> Access:
    """How requests are made now. `signed`: a signature by the account's key."""
    version = {VERSION_FIELD: VERSION}
    if chosen(anonymous, "AZURE_STORAGE_ANON"):
        return Access(version)
    if account.sas or account.key:
        return Access(version, account.sas or signed())
    try:
        token = find_token()
    except MissingExtra as error:
        return Access(version, advice=f"it was requested without credentials: {error.message}")
    if token is None:
        return Access(version, advice=_WITHOUT)
    return Access(version | {"Authorization": f"Bearer {token.text}"}, expires_s=token.expires_s)


def account_at(host: str | None, endpoint_url: str | None) -> Account:
    """The account at `host`; None: the one that the environment names, whose keys and signatures go nowhere else.
    Raises `InvalidInput`."""
    known = configured_account()
    if host is not None:
        found = blob_host(host)
        if found is None:
            # Tokens are for Azure alone.
            raise InvalidInput(f"{host[:80]} is no host of Azure Storage: expected ACCOUNT.blob.core.windows.net")
        if known is None or known.name != found[0]:
            known = Account(found[0], f"https://{found[1]}")
    if known is None:
        raise InvalidInput(
            "the name has no account: set AZURE_STORAGE_ACCOUNT, or give "
            "az://CONTAINER@ACCOUNT.blob.core.windows.net/BLOB"
        )
    return known if endpoint_url is None else Account(known.name, endpoint_url.rstrip("/"), known.sas, known.key)


def _place(name: str) -> _Place:
    version: dict[str, str] = {}
    if found := _VERSION.fullmatch(name):
        name, field, value = found.groups()
        version = {field.lower(): unquote(value)}
    if found := _NAME.fullmatch(name):
        return _Place(found[2], found[1], found[3], version)
    if (found := _URL.fullmatch(name)) and not found[4]:
        return _Place(found[1], unquote(found[2]), unquote(found[3]), version)
    raise InvalidInput("expected az://CONTAINER/BLOB, or az://CONTAINER@ACCOUNT.blob.core.windows.net/BLOB")
