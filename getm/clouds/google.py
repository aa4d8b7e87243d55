"""Google's credentials, as google-auth finds them: GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default
login`, workload identity, impersonation, the metadata server. Tokens, their renewal and the project that pays are its
business.
"""

from __future__ import annotations

import os
import time
from datetime import UTC
from typing import Any

from msgspec import Struct

from getm.clouds.variables import ABSENT_S, snapshot
from getm.core.lazy import importing
from getm.core.threads import ForkSafeLock
from getm.errors import MissingExtra

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_DOMAIN = "googleapis.com"

# By the environment: google-auth's objects, and until when it is taken for granted that there are none (by time.time).
# Finding that out may take a while: off Google's machines, until it is certain that no metadata server answers.
_found: dict[tuple[tuple[str, str], ...], Any] = {}
_absent_until_s: dict[tuple[tuple[str, str], ...], float] = {}
_lock = ForkSafeLock()


class Authorization(Struct, frozen=True):
    """Header fields that authorize requests. `expires_s`: in seconds since the epoch; None where that is unknown.
    `domain`: of the cloud's hosts."""

    headers: dict[str, str]
    expires_s: float | None
    domain: str


def authorize(url: str) -> Authorization | None:
    """Header fields for requests to `url`: a token that has not expired. None where there are no credentials.

    Raises:
        MissingExtra: google-auth is not installed.
        google.auth.exceptions.GoogleAuthError: The credentials are malformed, or gave no token.
    """
    try:
        with importing:
            import google.auth
            import requests
            from google.auth.transport.requests import Request
    except ImportError as error:
        raise MissingExtra(f'credentials for gs:// need google-auth: pip install "getm[gs]" ({error})') from error
    known = snapshot(("GOOGLE_", "GCE_", "NO_GCE_CHECK", "CLOUDSDK_", "HOME"))
    # One at a time: google-auth's credentials have no lock of their own.
    with _lock, requests.Session() as session:
        request = Request(session)
        credentials = _found.pop(known, None)
        if credentials is None:
            if _absent_until_s.get(known, 0) > time.time():
                return None
            credentials = _find(google.auth, request)
        if credentials is None:
            _absent_until_s[known] = time.time() + ABSENT_S
            return None
        headers: dict[str, str] = {}
        credentials.before_request(request, "GET", url, headers)
        # Not before: where they failed, somebody may log in, and the next ones are others.
        _found[known] = credentials
        expires_at = getattr(credentials, "expiry", None)
        expires_s = None if expires_at is None else expires_at.replace(tzinfo=UTC).timestamp()
        return Authorization(headers, expires_s, getattr(credentials, "universe_domain", None) or _DOMAIN)


def _find(google_auth: Any, request: Any) -> Any:
    try:
        return google_auth.default(scopes=[_SCOPE], request=request)[0]
    except google_auth.exceptions.DefaultCredentialsError as error:
        # It has no error of its own for there being none.
        if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or "credentials were not found" not in str(error):
            raise
        return None
