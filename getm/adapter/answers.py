"""What to answer to a request for an object: decided from its header fields (RFC 9110, sections 13 and 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from getm.core.spans import MAX_POSITION, Span, resolve
from getm.core.version import Version

_RANGES = re.compile(r"bytes[ \t]*=[ \t]*(.+)", re.IGNORECASE)
_RANGE = re.compile(r"(\d{0,18})[ \t]*-[ \t]*(\d{0,18})", re.ASCII)
_TAG = re.compile(r'(?:W/)?"[^"]*"')


class Answer(NamedTuple):
    """`span`: the bytes to send, of a 200 (all of them, up to an end that may be unknown) or a 206; None for others.
    `is_open`: the request does not say where to stop, and its sender may."""

    status: int
    span: Span | None = None
    is_open: bool = True


def wanted_span(fields: Mapping[str, str]) -> Span | None:
    """The one range that a request asks for, with a negative start for a suffix (see `Span`). None where it asks for
    none, or for several: a server may ignore those (RFC 9110, section 14.2)."""
    found = _RANGES.fullmatch(fields.get("Range", "").strip())
    one = None if found is None else _RANGE.fullmatch(found[1].strip())
    if one is None or not (one[1] or one[2]):
        return None
    if not one[1]:
        # The last 0 bytes are beyond the end of any object.
        return Span(-int(one[2]) or MAX_POSITION, MAX_POSITION)
    start, stop = int(one[1]), int(one[2]) + 1 if one[2] else MAX_POSITION
    return Span(start, stop) if start < stop else None


def decide(fields: Mapping[str, str], version: Version, *, in_parts: bool) -> Answer:
    """The answer to a GET or HEAD with these header fields. `in_parts`: the object can be had in parts."""
    if (status := _by_conditions(fields, version)) is not None:
        return Answer(status)
    size = version.size
    wanted = wanted_span(fields)
    if wanted is None or size is None or not in_parts or not _is_of(fields.get("If-Range"), version):
        return Answer(200, Span(0, MAX_POSITION if size is None else size))
    span = resolve(wanted, size)
    if not len(span):
        return Answer(416)
    return Answer(206, span, is_open=wanted.stop == MAX_POSITION)


def _by_conditions(fields: Mapping[str, str], version: Version) -> int | None:
    """In the order of section 13.2.2; None where the request is to be carried out."""
    modified = _date(version.last_modified)
    if (tags := fields.get("If-Match")) is not None:
        if not _has(tags, version.etag, strong=True):
            return 412
    elif (limit := _date(fields.get("If-Unmodified-Since"))) is not None and (modified or limit) > limit:
        return 412
    if (tags := fields.get("If-None-Match")) is not None:
        return 304 if _has(tags, version.etag, strong=False) else None
    since = _date(fields.get("If-Modified-Since"))
    return 304 if since is not None and modified is not None and modified <= since else None


def _has(tags: str, etag: str | None, *, strong: bool) -> bool:
    """Whether a list of entity tags, or "*", has that of the object."""
    if tags.strip() == "*":
        return True
    if etag is None or (strong and etag.startswith("W/")):
        return False
    listed = _TAG.findall(tags)
    return etag in listed if strong else etag.removeprefix("W/") in [each.removeprefix("W/") for each in listed]


def _is_of(condition: str | None, version: Version) -> bool:
    """Whether If-Range, if there is one, is for this version (section 13.1.5): exactly its strong validator."""
    return condition is None or condition.strip() in (version.strong, version.last_modified)


def _date(text: str | None) -> float | None:
    try:
        date = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
