"""Signed URLs: whether a URL is one, and when it expires, by the query parameters that its vendor documents.

- AWS Signature Version 4 and Google Cloud Storage V4: `X-Amz-` or `X-Goog-Credential`, `-Date`, `-Expires` (seconds
  from the date on) and `-Signature`.
- AWS Signature Version 2, Google Cloud Storage V2, CloudFront and Google's CDNs: `AWSAccessKeyId`, `GoogleAccessId`,
  `Key-Pair-Id` or `KeyName`, with `Signature`, and `Expires` in seconds since the epoch.
- CloudFront with a custom policy: `Key-Pair-Id`, `Signature`, and a `Policy` with a `DateLessThan`.
- Azure's shared access signatures: `sv`, `sig`, `sr` or `ss`, and `se`, a date or time of ISO 8601 (or `si`, the name
  of a policy that the server has).

An ordinary URL may have an `Expires` or a `se` of its own that means something else. So a URL is taken for a signed one
only where it has all parameters of a kind, each once; and where the time is not written as documented, it is unknown.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

from msgspec import Struct

CLOCK_ALLOWANCE_S = 15 * 60
"""How wrong the clock of this machine may be: a URL that has expired since then by it is requested nevertheless, and
the server decides. S3 tolerates as much between a client's clock and its own (AWS, error RequestTimeTooSkewed)."""

_MAX_POLICY_CHARS = 8192
# What a signature of Version 4 may last: seven days (AWS and Google).
_MAX_LIFETIME_S = 7 * 24 * 60 * 60
# Nearly all other URLs have none of these.
_MARK = re.compile(r"[?&](?:X-(?:Amz|Goog)-Signature|Signature|sig)=.", re.IGNORECASE)
_BASIC_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_LIFETIME = re.compile(r"[1-9][0-9]{0,5}")
# Ten or eleven digits: from the year 2001 on. Smaller numbers are seconds from something else, or no time at all.
_EPOCH_TIME = re.compile(r"[1-9][0-9]{9,10}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
)
# The base64 of a policy, where what a query cannot have is replaced (CloudFront, "Create a signed URL using a custom
# policy").
_POLICY_BASE64 = str.maketrans("-_~", "+=/")

# By their names in lower case; the values as they are encoded.
_Fields = Mapping[str, str]


class Signature(Struct, frozen=True):
    """The signature of a URL. `expires_s`: when it expires, in seconds since the epoch; None where that is unknown."""

    expires_s: float | None


def find_signature(url: str) -> Signature | None:
    """The signature of a URL; None where it has none that is known here."""
    if _MARK.search(url) is None:
        return None
    fields: dict[str, str] = {}
    for pair in url.partition("#")[0].partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        name = name.lower()
        # What comes twice says nothing.
        fields[name] = "" if name in fields else value
    for names, expires_s in _KINDS:
        if all(any(fields.get(one) for one in name.split()) for name in names):
            return Signature(expires_s(fields))
    return None


def expired_by_clock(url: str, now_s: float) -> float | None:
    """When a signed URL expired, in seconds since the epoch, if that is so long before `now_s`, the time by our clock,
    that only a clock which is wrong by more than `CLOCK_ALLOWANCE_S` could explain it; else None."""
    signature = find_signature(url)
    expires_s = None if signature is None else signature.expires_s
    return expires_s if expires_s is not None and expires_s + CLOCK_ALLOWANCE_S <= now_s else None


def utc_text(seconds: float) -> str:
    """A time in seconds since the epoch, for people: "2024-01-01 00:01 UTC"."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


# When it expires, by the fields of each kind -------------------------------------------------------------------------


def _by_lifetime(prefix: str) -> Callable[[_Fields], float | None]:
    def expires_s(fields: _Fields) -> float | None:
        date, lifetime = fields[f"{prefix}-date"], fields[f"{prefix}-expires"]
        if not (_BASIC_TIME.fullmatch(date) and _LIFETIME.fullmatch(lifetime)) or int(lifetime) > _MAX_LIFETIME_S:
            return None
        return _seconds(date, timedelta(seconds=int(lifetime)))

    return expires_s


def _by_epoch(fields: _Fields) -> float | None:
    text = fields["expires"]
    return float(text) if _EPOCH_TIME.fullmatch(text) else None


def _by_policy(fields: _Fields) -> float | None:
    text = unquote(fields["policy"])
    if len(text) > _MAX_POLICY_CHARS:
        return None
    # Few URLs have one.
    import json

    try:
        policy = json.loads(base64.b64decode(text.translate(_POLICY_BASE64), validate=True))
        (statement,) = policy["Statement"]
        return _by_epoch({"expires": str(statement["Condition"]["DateLessThan"]["AWS:EpochTime"])})
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _by_iso_time(fields: _Fields) -> float | None:
    text = unquote(fields["se"])
    if _DATE.fullmatch(text):
        return _seconds(f"{text}T00:00Z")
    found = _DATE_TIME.fullmatch(text)
    return None if found is None else _seconds(found[1] + found[2])


def _unknown(fields: _Fields) -> None:
    return None


def _seconds(iso_time: str, later: timedelta = timedelta()) -> float | None:
    try:
        return (datetime.fromisoformat(iso_time) + later).timestamp()
    except (ValueError, OverflowError):
        return None


# What each kind of signature has, by names in lower case; where there are several, one of them.
_KINDS: tuple[tuple[tuple[str, ...], Callable[[_Fields], float | None]], ...] = (
    (("x-amz-signature", "x-amz-credential", "x-amz-date", "x-amz-expires"), _by_lifetime("x-amz")),
    (("x-goog-signature", "x-goog-credential", "x-goog-date", "x-goog-expires"), _by_lifetime("x-goog")),
    (("signature", "key-pair-id", "policy"), _by_policy),
    (("signature", "awsaccesskeyid googleaccessid key-pair-id keyname", "expires"), _by_epoch),
    (("sig", "sv", "sr ss", "se"), _by_iso_time),
    (("sig", "sv", "sr ss", "si"), _unknown),
)
