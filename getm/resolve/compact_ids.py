"""Compact identifiers: where the objects of a prefix are, as identifiers.org says it, or else n2t.net.

Both registries have the same prefixes. What they say is kept for a day, in this process and in the user's folder for
caches, as GA4GH asks of clients (Data Repository Service, "Compact Identifier-Based URIs").
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct, field

from getm.core.log import get_logger
from getm.errors import BadResponse, GetmError, HTTPStatusError, InvalidInput, NetworkError
from getm.resolve.pages import Get, decode

_log = get_logger()

_IDENTIFIERS = "https://registry.api.identifiers.org/restApi"
_N2T = "https://n2t.net"
_KEPT_S = 24 * 60 * 60
_ID = re.compile(r"\{\$id\}|\$\{id\}|\$id")
_NUMBER = re.compile(r"/namespaces/([0-9]+)")
_REDIRECT = re.compile(r"^redirect:\s*(\S+)", re.MULTILINE | re.IGNORECASE)

# The URL of a prefix, and when it was asked for, in seconds since the epoch.
_known: dict[str, tuple[str, float]] = {}


class _Link(Struct):
    href: str


class _Links(Struct):
    namespace: _Link


class _Namespace(Struct):
    """Of findByPrefix. HAL has links in "_links", and what is embedded in "_embedded"."""

    links: _Links = field(name="_links")


class _Provider(Struct, rename="camel"):
    url_pattern: str = ""
    provider_code: str = ""
    official: bool = False
    deprecated: bool = False


class _Providers(Struct):
    resources: list[_Provider]


class _Resources(Struct):
    """Of findAllByNamespaceId."""

    embedded: _Providers = field(name="_embedded")


def url_of(prefix: str, accession: str, get: Get) -> str:
    """The URL of an object, asked for by `get`. `prefix`: a namespace, perhaps with a provider's code: "euro/drs.42".

    Raises:
        InvalidInput: No registry knows the prefix.
        NetworkError: No registry could be asked.
    """
    pattern = _kept(prefix)
    if pattern is None:
        pattern = _look_up(prefix, get)
        _keep(prefix, pattern)
    return _ID.sub(lambda _: quote(accession, safe=""), pattern)


def _look_up(prefix: str, get: Get) -> str:
    provider, _, namespace = prefix.rpartition("/")
    failure: GetmError | None = None
    for registry in (_in_identifiers, _in_n2t):
        try:
            pattern = registry(provider, namespace, get)
        except NetworkError as error:
            _log.info("%s: %s", prefix, error)
            if not (isinstance(error, HTTPStatusError) and error.status == 404):
                failure = failure or error
            continue
        # Whoever could read the network could answer in the place of the server.
        if pattern is not None and pattern.startswith("https://") and _ID.search(pattern):
            return pattern
    if failure is not None:
        raise failure
    raise InvalidInput(f"identifiers.org and n2t.net know no place for the prefix {prefix!r}")


def _in_identifiers(provider: str, namespace: str, get: Get) -> str | None:
    found = get(f"{_IDENTIFIERS}/namespaces/search/findByPrefix?prefix={quote(namespace)}", {}, session_headers=False)
    number = _NUMBER.search(decode(found, _Namespace).links.namespace.href)
    if number is None:
        raise BadResponse("identifiers.org does not say which number the prefix has", url=found.url)
    page = get(f"{_IDENTIFIERS}/resources/search/findAllByNamespaceId?id={number[1]}", {}, session_headers=False)
    usable = [
        each
        for each in decode(page, _Resources).embedded.resources
        if not each.deprecated and _ID.search(each.url_pattern) and provider in ("", each.provider_code)
    ]
    # A prefix may also have places for people.
    usable.sort(key=lambda each: ("/ga4gh/drs/" not in each.url_pattern, not each.official))
    return usable[0].url_pattern if usable else None


def _in_n2t(provider: str, namespace: str, get: Get) -> str | None:
    page = get(f"{_N2T}/{f'{quote(provider)}/' if provider else ''}{quote(namespace)}:", {}, session_headers=False)
    found = _REDIRECT.search(page.content.decode("utf-8", "replace"))
    return None if found is None else found[1]


# What was said already -----------------------------------------------------------------------------------------------


def _file(prefix: str) -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - there may be no home
    return Path(folder) / "getm" / "prefixes" / quote(prefix, safe="")


def _kept(prefix: str) -> str | None:
    now_s = time.time()
    if prefix not in _known:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            file = _file(prefix)
            _known[prefix] = file.read_text(encoding="utf-8"), file.stat().st_mtime
    pattern, since_s = _known.get(prefix, ("", 0.0))
    return pattern if 0 <= now_s - since_s < _KEPT_S else None


def _keep(prefix: str, pattern: str) -> None:
    _known[prefix] = pattern, time.time()
    # It is a help for the next process, and no more.
    with contextlib.suppress(OSError):
        file = _file(prefix)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = file.with_name(f"{file.name}.{os.getpid()}")
        temporary.write_text(pattern, encoding="utf-8")
        temporary.replace(file)
