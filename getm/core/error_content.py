"""What a server says of an error in the content of its response: a code and a sentence, made safe for a message.

Object stores answer with XML: `<Error><Code>AccessDenied</Code><Message>Request has expired</Message>...</Error>` (S3,
Google Cloud Storage, Azure, and what has an API like theirs); other services with JSON, for example that of RFC 9457.
An HTML page says nothing that the status does not say.

The rest of the content is never shown: S3 repeats the signature, and Azure what was signed. What a request has in its
query and its header fields is removed from the sentence.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from msgspec import Struct

from getm.core.redact import redact_text
from getm.core.text import brief, decode
from getm.core.url import basic_credentials

_MAX_CODE_CHARS = 60
# What is as long as this is removed wherever it occurs, shorter values only where they are words; the shortest ones
# (`partNumber=1`) are no secrets.
_MIN_SECRET_CHARS, _MIN_WORD_CHARS = 8, 3

_XML = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?<Error(?:Response)?[\s>]")
_ELEMENT = r"<{0}>([^<]*)</{0}>"
_CODE = re.compile(_ELEMENT.format("Code"))
_MESSAGE = re.compile(_ELEMENT.format("Message"))
_AZURE_DETAIL = re.compile(_ELEMENT.format("AuthenticationErrorDetail"))
_CODE_KEYS = ("code", "Code", "error", "status", "reason")
_MESSAGE_KEYS = ("message", "Message", "detail", "error_description", "title")

_AZURE_FRAME = re.compile(r"Expiry \[([^\]]*)\] - Current \[([^\]]*)\]")
# Where the signature has no time at which it becomes valid, this is now.
_AZURE_START = re.compile(r"Signed expiry time \[([^\]]*)\] (?:must be|has to be) after signed start time \[([^\]]*)\]")


class ErrorContent(Struct, frozen=True):
    """The content of a refused request, as far as it can be shown: `code` and `message`, "" where there is none.

    `expired`: it says that the signature, or the credentials that made it, are no longer valid. `expired_s`: since
    when, in seconds since the epoch; None where it does not say so.
    """

    code: str = ""
    message: str = ""
    expired: bool = False
    expired_s: float | None = None

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.code, self.message)))


def read_error_content(content: bytes, url: str = "", headers: Iterable[tuple[str, str]] = ()) -> ErrorContent:
    """What `content` says. `url` and `headers` are those of the request: what they have may be secret."""
    text = decode(content.removeprefix(b"\xef\xbb\xbf"))
    code, message, detail = _from_xml(text) if _XML.match(text) else _from_json(text)
    line = (message.strip().splitlines() or [""])[0].rstrip().removesuffix(".")
    code, said = without_secrets(code, url, headers), without_secrets(line, url, headers)
    expired, expired_s = _expiry(code, said, detail)
    return ErrorContent(code if len(code) <= _MAX_CODE_CHARS else "", said, expired, expired_s)


def _from_xml(text: str) -> tuple[str, str, str]:
    found = (pattern.search(text) for pattern in (_CODE, _MESSAGE, _AZURE_DETAIL))
    code, message, detail = ("" if match is None else html.unescape(match[1]) for match in found)
    return code, message, detail


def _from_json(text: str) -> tuple[str, str, str]:
    if not text.lstrip().startswith("{"):
        return "", "", ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "", "", ""
    # {"error": {"code": 403, "message": "...", "status": "PERMISSION_DENIED"}}, and the same without "error".
    inner = value.get("error")
    facts: dict[str, Any] = inner if isinstance(inner, dict) else value
    return _first_text(facts, _CODE_KEYS), _first_text(facts, _MESSAGE_KEYS), ""


def _first_text(facts: dict[str, Any], keys: Iterable[str]) -> str:
    return next((facts[key] for key in keys if isinstance(facts.get(key), str)), "")


def _expiry(code: str, message: str, detail: str) -> tuple[bool, float | None]:
    for pattern in (_AZURE_FRAME, _AZURE_START):
        if found := pattern.search(detail):
            expired_s, now_s = _http_time(found[1]), _http_time(found[2])
            # Else it is not valid yet.
            expired = expired_s is not None and now_s is not None and expired_s <= now_s
            return expired, expired_s if expired else None
    # S3: AccessDenied, "Request has expired"; ExpiredToken, as Google Cloud Storage says, too.
    return "expired" in code.lower() or message.lower().startswith("request has expired"), None


def _http_time(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


# What must not be shown ----------------------------------------------------------------------------------------------


def without_secrets(text: str, url: str, headers: Iterable[tuple[str, str]]) -> str:
    """What a server says, on one short line, without the secrets of its request, and without characters that a terminal
    would act on."""
    text = redact_text(text)
    secrets = sorted({*_url_values(url), *_header_values(headers)}, key=len, reverse=True)
    if secrets:
        text = re.sub("|".join(map(_pattern, secrets)), "...", text)
    return "".join(char for char in brief(text) if char.isprintable())


def _pattern(secret: str) -> str:
    escaped = re.escape(secret)
    return escaped if len(secret) >= _MIN_SECRET_CHARS else rf"(?<!\w){escaped}(?!\w)"


def _url_values(url: str) -> Iterator[str]:
    """The values in the query of a URL, and its user's name and password, in each way that a server may write them."""
    query = url.partition("#")[0].partition("?")[2].split("&")
    userinfo = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    values = [pair.partition("=")[2] or pair for pair in query]
    if userinfo:
        values += [userinfo, *userinfo.split(":", 1), basic_credentials(userinfo).partition(" ")[2]]
    for value in values:
        for form in (value, unquote(value), unquote_plus(value), quote(unquote(value), safe="")):
            if len(form) >= _MIN_WORD_CHARS:
                yield form


def _header_values(headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The values of header fields, and what they consist of ("Bearer TOKEN", "session=TOKEN; ...")."""
    for _, value in headers:
        for form in (value, *re.split(r"[\s,;=]+", value), *_credentials(value)):
            if len(form) >= _MIN_SECRET_CHARS:
                yield form


def _credentials(value: str) -> Iterator[str]:
    """The user's name and password in the value of an Authorization field (RFC 7617)."""
    scheme, _, coded = value.partition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            yield from decode(base64.b64decode(coded, validate=True)).split(":", 1)
