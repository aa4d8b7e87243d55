"""`gs://BUCKET/KEY`: objects in Google Cloud Storage, and in servers that speak its protocol, with a token.

A token works for credentials of every kind, where a signed URL needs a key, or a permission to sign. Requests are those
of the XML API, whose responses have the object's checksums (`x-goog-hash`), also to those for a range.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from msgspec import Struct

from getm.clouds.google import authorize
from getm.clouds.variables import chosen
from getm.errors import InvalidInput, MissingExtra
from getm.resolve.resource import Resource

# The key is anything: a name is no URL, so nothing in it is encoded. Generations as gsutil writes them, and as URLs do.
_NAME = re.compile(r"gs://([^/]+)/(.+?)(?:(?:#|\?generation=)([0-9]+))?", re.IGNORECASE | re.DOTALL)
_ENDPOINT = "https://storage.googleapis.com"
_WITHOUT = (
    "it was requested without credentials, since none of Google's were found: run gcloud auth application-default "
    "login, or set GOOGLE_APPLICATION_CREDENTIALS"
)


def resolve(
    name: str, *, endpoint_url: str | None = None, anonymous: bool | None = None, user_project: str | None = None
) -> Resource:
    """Google Cloud Storage: gs://BUCKET/KEY, gs://BUCKET/KEY#GENERATION.

    Args:
        name: The name.
        endpoint_url: Of a server that speaks the protocol; None: $CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE, or Google's.
        anonymous: Send no token; None: where $CLOUDSDK_AUTH_DISABLE_CREDENTIALS is "true", there are no credentials, or
            $STORAGE_EMULATOR_HOST names an emulator.
        user_project: The project that pays for the transfer; None: the quota project of the credentials
            ($GOOGLE_CLOUD_QUOTA_PROJECT).

    Returns:
        A URL, with a token that is valid for an hour at most.

    Raises:
        InvalidInput: It is no such name.

    Example:
        >>> data = getm.read(functools.partial(getm.resolve.gs.resolve, "gs://bucket/reads.bam", user_project="lab"))
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise InvalidInput("expected gs://BUCKET/KEY")
    bucket, key, generation = found.groups()
    to = access(endpoint_url, anonymous, user_project)
    query = f"?generation={generation}" if generation else ""
    url = f"{to.endpoint}/{quote(bucket, safe='')}/{quote(key, safe='/~')}{query}"
    return Resource(url, headers=to.headers, expires_at=to.expires_s, advice=to.advice)


class Access(Struct, frozen=True):
    """How requests are made: to which `endpoint`, with which `headers`, which expire. `advice`: see `Resource`."""

    endpoint: str
    headers: dict[str, str]
    expires_s: float | None = None
    advice: str = ""


def access(endpoint_url: str | None, anonymous: bool | None, user_project: str | None) -> Access:
    """How requests are made now, by these arguments of `resolve`."""
    emulator = os.environ.get("STORAGE_EMULATOR_HOST") if endpoint_url is None else None
    server = endpoint_url or emulator or os.environ.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE")
    # Emulators are named without a scheme, too.
    endpoint = (_ENDPOINT if not server else server if "://" in server else f"http://{server}").rstrip("/")
    headers = {"x-goog-user-project": user_project} if user_project else {}
    if anonymous is None and emulator:
        anonymous = True
    if chosen(anonymous, "CLOUDSDK_AUTH_DISABLE_CREDENTIALS"):
        return Access(endpoint, headers)
    try:
        authorization = authorize(endpoint)
    except MissingExtra as error:
        return Access(endpoint, headers, advice=f"it was requested without credentials: {error.message}")
    if authorization is None:
        return Access(endpoint, headers, advice=_WITHOUT)
    if not server:
        endpoint = f"https://storage.{authorization.domain}"
    return Access(endpoint, authorization.headers | headers, authorization.expires_s)
