"""What a server states of its limit on requests.

The fields: "RateLimit" and "RateLimit-Policy" (draft-ietf-httpapi-ratelimit-headers-10), in which items have names, or,
in drafts before 08, are those of a dictionary; "RateLimit-Limit", "-Remaining" and "-Reset" (drafts before 07), and the
same with "X-" in front, whose reset GitHub and others give as a time of the epoch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_MEMBER = re.compile(r'(?:"[^"]*"|[^,"])+')
_PIECE = re.compile(r'(?:"[^"]*"|[^;"])+')
_DIGITS = re.compile(r"\s*([0-9]{1,12})\s*(?:$|[;,])")
# A reset beyond that is a time, not a duration; and what lies further ahead than a year is neither.
_EPOCH_S = 1_000_000_000
_YEAR_S = 366 * 86_400
# A limit matters when so few requests are left, or this share of the quota.
_FEW_LEFT, _FEW_LEFT_SHARE = 8, 0.1
_REQUESTS = frozenset({"requests", "request"})


class StatedLimit(NamedTuple):
    """`remaining` requests are granted within `reset_s` seconds. In the long run `quota` are, within each `window_s`;
    None where the server does not say."""

    remaining: int
    reset_s: float
    quota: int | None = None
    window_s: float | None = None

    @property
    def is_near(self) -> bool:
        """Whether few requests are left."""
        return self.remaining <= max(_FEW_LEFT, _FEW_LEFT_SHARE * (self.quota or 0))

    @property
    def spacing_s(self) -> float:
        """Seconds between two of the requests that are left, if they are spread evenly."""
        return self.reset_s / (self.remaining or 0.5)


def stated_limit(field: Callable[[str], str | None], now_s: float) -> StatedLimit | None:
    """The limit that the fields of a response state, of several the one that leaves least; None where they state none,
    or none that is understood.

    Args:
        field: Returns the value of a field by its name in lower case.
        now_s: Our clock, in seconds since the epoch.
    """
    found = list(_named(field("ratelimit") or "", field("ratelimit-policy") or ""))
    for prefix in ("ratelimit-", "x-ratelimit-"):
        limit, remaining, reset = (_number(field(prefix + key)) for key in ("limit", "remaining", "reset"))
        if remaining is not None and reset is not None:
            found.append(StatedLimit(remaining, _duration_s(reset, now_s), limit))
    found = [each for each in found if each.reset_s <= _YEAR_S]
    return max(found, key=lambda each: each.spacing_s, default=None)


def _named(limits: str, policies: str) -> Iterator[StatedLimit]:
    """The limits of RateLimit, each with its policy."""
    known: dict[str, tuple[int | None, int | None]] = {}
    for name, parameters in _members(policies):
        if parameters.get("qu", "requests").strip('"') in _REQUESTS:
            # Its name was the quota itself in the drafts before 08.
            known[name] = _number(parameters.get("q", name)), _number(parameters.get("w"))
        else:
            known[name] = None, 0
    dictionary: dict[str, int | None] = {}
    for name, parameters in _members(limits):
        key, equals, value = name.partition("=")
        if equals:
            dictionary[key.strip()] = _number(value)
        quota, window = known.get(name, (None, None))
        remaining, reset = _number(parameters.get("r")), _number(parameters.get("t"))
        reset = window if reset is None else reset
        if remaining is not None and reset is not None and (quota, window) != (None, 0):
            yield StatedLimit(remaining, reset, quota, window)
    remaining, reset = dictionary.get("remaining"), dictionary.get("reset")
    if remaining is not None and reset is not None:
        quota, window = next(iter(known.values()), (None, None))
        yield StatedLimit(remaining, reset, dictionary.get("limit") or quota, window)


def _members(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The items of a list, each with its parameters (RFC 9651, section 3.1)."""
    for member in _MEMBER.findall(text):
        name, *pieces = [piece.strip() for piece in _PIECE.findall(member)] or [""]
        pairs = (piece.partition("=") for piece in pieces)
        yield name, {key.strip(): value.strip() for key, _, value in pairs}


def _number(text: str | None) -> int | None:
    found = _DIGITS.match(text or "")
    return None if found is None else int(found[1])


def _duration_s(reset: int, now_s: float) -> float:
    return float(reset) if reset < _EPOCH_S else max(0.0, reset - now_s)
