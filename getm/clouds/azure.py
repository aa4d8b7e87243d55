"""Azure's accounts and credentials: as the variables of its own tools say, and as azure-identity finds them. Signatures
by an account's key are azure-storage-blob's business, and tokens azure-identity's.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from getm.clouds.variables import ABSENT_S, snapshot
from getm.core.lazy import importing
from getm.core.threads import ForkSafeLock
from getm.errors import InvalidInput, MissingExtra

_SCOPE = "https://storage.azure.com/.default"
_PIP = 'pip install "getm[az]"'
# How long a signature lasts.
_LIFETIME = timedelta(hours=1)
# A token is asked for again before it expires, as Azure's clients do it.
_EARLIER_S = 300


class Account(Struct, frozen=True):
    """An account of Azure Storage. `endpoint`: the URL of its Blob service, without a slash at its end; `sas`: a shared
    access signature; `key`: one of its keys."""

    name: str
    endpoint: str
    sas: str | None = None
    key: str | None = None


class Token(Struct, frozen=True):
    """An access token. `expires_s`: in seconds since the epoch."""

    text: str
    expires_s: float


def configured_account() -> Account | None:
    """The account that the environment names; None where it names none.

    Raises:
        MissingExtra: A connection string, and azure-storage-blob is not installed.
        InvalidInput: A connection string that is none.
    """
    if text := os.environ.get("AZURE_STORAGE_CONNECTION_STRING"):
        return _connected(text)
    name = _variable("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
    if not name:
        return None
    endpoint = os.environ.get("AZURE_STORAGE_SERVICE_ENDPOINT") or f"https://{name}.blob.core.windows.net"
    sas = _variable("AZURE_STORAGE_SAS_TOKEN").removeprefix("?")
    key = _variable("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY")
    return Account(name, endpoint.rstrip("/"), sas or None, key or None)


def _variable(*names: str) -> str:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")


def _connected(text: str) -> Account:
    storage = _storage("a connection string")
    try:
        client = storage.BlobServiceClient.from_connection_string(text)
    except ValueError as error:
        # What it says has nothing of the string.
        raise InvalidInput(f"AZURE_STORAGE_CONNECTION_STRING: {error}") from None
    client.close()
    endpoint, _, sas = client.url.partition("?")
    key = getattr(client.credential, "account_key", None)
    return Account(client.account_name or "", endpoint.rstrip("/"), sas or None, key)


def sign(account: Account, container: str, blob: str | None = None, version: Mapping[str, str] | None = None) -> str:
    """A shared access signature by the account's key: it allows to read that blob for an hour, or, without one, all
    blobs of the container, and to list them. `version`: of the blob, "version_id" or "snapshot". Raises `InvalidInput`
    for what is no key."""
    storage = _storage("an account's key")
    until = {"account_key": account.key, "expiry": datetime.now(UTC) + _LIFETIME}
    try:
        signature: str
        if blob is None:
            signature = storage.generate_container_sas(account.name, container, permission="rl", **until)
        else:
            signature = storage.generate_blob_sas(
                account.name, container, blob, permission="r", **until, **(version or {})
            )
    except ValueError:
        raise InvalidInput(
            "the key of the account (AZURE_STORAGE_KEY, or that in AZURE_STORAGE_CONNECTION_STRING) is not base64"
        ) from None
    return signature


def _storage(what: str) -> Any:
    try:
        with importing:
            import azure.storage.blob
    except ImportError as error:
        raise MissingExtra(f"{what} of az:// needs azure-storage-blob: {_PIP} ({error})") from error
    return azure.storage.blob


# By the environment in which they were asked for: a token, or None where there are no credentials, and until when that
# is not asked again (by time.time). Finding out that there are none takes a while.
_tokens: dict[tuple[tuple[str, str], ...], tuple[Token | None, float]] = {}
_lock = ForkSafeLock()
_unheard = logging.NullHandler()


def find_token() -> Token | None:
    """A token of whoever runs this program; None where there are no credentials.

    Raises:
        MissingExtra: azure-identity is not installed.
        azure.core.exceptions.ClientAuthenticationError: The credentials gave no token.
    """
    try:
        with importing:
            import azure.identity
            from azure.core.exceptions import ClientAuthenticationError
    except ImportError as error:
        raise MissingExtra(f"credentials for az:// need azure-identity: {_PIP} ({error})") from error
    known = snapshot(("AZURE_", "IDENTITY_", "MSI_", "HOME", "PATH"))
    with _lock:
        token, until_s = _tokens.get(known, (None, 0))
        if until_s > time.time():
            return token
        # It warns where it finds nothing, which is no failure here, and Python prints what nobody handles.
        logging.getLogger("azure.identity").addHandler(_unheard)
        with azure.identity.DefaultAzureCredential() as credential:
            try:
                found = credential.get_token(_SCOPE)
                token, until_s = Token(found.token, found.expires_on), found.expires_on - _EARLIER_S
            except ClientAuthenticationError as error:
                # It has no error of its own for there being none. Where credentials fail, the rest is not asked.
                asked = str(error).count("\n\t")
                if 0 < asked < len(credential.credentials):
                    raise
                token, until_s = None, time.time() + ABSENT_S
        _tokens[known] = token, until_s
        return token
