"""Arguments of the public functions: checked, and as requests and transfers take them."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from getm import errors
from getm.batch.settings import BatchOptions
from getm.core import shutdown
from getm.core.connection_options import ConnectionOptions, validate_connection_options
from getm.core.lazy import importing
from getm.core.spans import MAX_POSITION, Span
from getm.core.units import MIB
from getm.core.url_path import is_url
from getm.core.validate import refuse, validate_integer, validate_path
from getm.integrity.values import Checksum, parse_checksum
from getm.manifests.entry import Entry
from getm.options import Timeout
from getm.protocol.messages import OpenRequest

if TYPE_CHECKING:
    from getm.client.collected_spans import CollectedSpans
    from getm.core.auth import AuthInput
    from getm.files.cookies import Cookies
    from getm.files.logins import Logins
    from getm.files.netrc import Netrc
    from getm.files.receipt import Receipt

# Smaller objects fit a slot, and memory of their own would take longer than their bytes.
_PLACE_FROM = MIB


def placed(request: OpenRequest, place_from: int = _PLACE_FROM) -> OpenRequest:
    """For an object that goes to memory of its own, if it is not small and the system has such."""
    return msgspec.structs.replace(request, place_from=place_from) if can_be_placed() else request


def can_be_placed() -> bool:
    try:
        with importing:
            from getm.buffers.object_memory import is_supported
    except ImportError:
        # While the interpreter ends nothing can be imported any more, and what follows says so.
        if not shutdown.begun():
            raise
        return False
    return is_supported()


def with_blocks(request: OpenRequest, receipt: Receipt | None) -> OpenRequest:
    """With the CRC32C of blocks where a receipt keeps them."""
    return request if receipt is None or not receipt.writes else msgspec.structs.replace(request, blocks=True)


def receipt_of(
    path: str | os.PathLike[str] | None, chosen: BatchOptions, entries: Iterable[Entry | str] = ()
) -> Receipt | None:
    """The receipt, which is opened where the downloads begin."""
    if path is None:
        return None
    if is_url(validate_path(path, "receipt")):
        raise errors.InvalidInput(f"a receipt is a file of this machine, and no URL: {path}")
    with importing:
        from getm.files.receipt import Receipt

    return Receipt(
        path,
        reads=chosen.examines,
        writes=not chosen.dry_run,
        # A repair is not news of what is not damaged.
        lists_left=chosen.existing != "repair",
        # An `EntryList` has it.
        ignored=getattr(entries, "ignored", ()),
    )


def part_of(offset: int, length: int | None, checksum: object) -> Span | None:
    """The span of a `read`; None for the whole object."""
    start = validate_integer(offset, "offset", -MAX_POSITION)
    count = None if length is None else validate_integer(length, "length", 0, none=", or None for all")
    if start == 0 and count is None:
        return None
    # A span that has no bytes is none that could be requested, and there is nothing at the last position either.
    start = min(start, MAX_POSITION - 1)
    if start < 0 and count is not None:
        raise errors.InvalidInput(
            f"length {count} with the offset {start}, which is before the end: leave length out, and take a slice"
        )
    if checksum is not None and not is_word(checksum, "auto"):
        raise errors.InvalidInput("a checksum is of the whole object: a part of it cannot be checked against one")
    return Span(start, MAX_POSITION if count is None else min(MAX_POSITION, start + count))


def collected(spans: Iterable[tuple[int, int | None]], max_gap: int) -> CollectedSpans:
    if isinstance(spans, str | bytes | Mapping) or not isinstance(spans, Iterable):
        refuse("spans", "several pairs (start, stop)", spans)
    return collector(list(map(_span, spans)), validate_integer(max_gap, "max_gap", 0))


def collector(spans: list[Span], max_gap: int) -> CollectedSpans:
    with importing:
        from getm.client.collected_spans import CollectedSpans

    return CollectedSpans(spans, max_gap)


def _span(pair: tuple[int, int | None]) -> Span:
    expected = "pairs (start, stop) with start <= stop, or stop None for the end; (-N, None) for the last N bytes"
    try:
        start, stop = (None if each is None else operator.index(each) for each in pair)
    except (TypeError, ValueError):
        refuse("spans", expected, pair)
    if any(isinstance(each, bool) for each in pair):
        refuse("spans", expected, pair)
    end = MAX_POSITION if stop is None else stop
    if start is None or not -MAX_POSITION <= start <= end <= MAX_POSITION or (start < 0 and stop is not None):
        refuse("spans", expected, pair)
    return Span(start, end)


def limits_of(timeout: Timeout) -> dict[str, Any]:
    """The fields of an `OpenRequest` that are those of a `Timeout`."""
    return msgspec.structs.asdict(timeout)


def is_word(value: object, word: str) -> bool:
    return isinstance(value, str) and value == word


def expected_checksums(checksum: str | Checksum | Iterable[str | Checksum] | None) -> tuple[str, ...] | None:
    """The checksum argument as it goes to the engine; see `OpenRequest.checksums`."""
    if checksum is None:
        return None
    given = [checksum] if isinstance(checksum, str | Checksum) or not isinstance(checksum, Iterable) else list(checksum)
    if not given or not all(isinstance(each, str | Checksum) for each in given):
        refuse("checksum", '"auto", "ALGORITHM:VALUE", a Checksum, several of these, or None', checksum)
    return tuple(str(each if isinstance(each, Checksum) else parse_checksum(each)) for each in given)


def connection_options(
    ip_version: Literal[4, 6] | None, interface: str | None, *others: Any
) -> ConnectionOptions | None:
    chosen = validate_connection_options(ip_version, interface, *others)
    if chosen is not None and chosen.interface is not None:
        with importing:
            from getm.client.interface import check_interface

        check_interface(chosen.interface, chosen.ip_version)
    return chosen


def logins_of(
    auth: AuthInput | None, netrc: bool | str | os.PathLike[str], cookies: str | os.PathLike[str] | None
) -> Logins | None:
    if auth is None and netrc is False and cookies is None:
        return None
    with importing:
        from getm.core.auth import validate_auth
        from getm.files.logins import Logins

    return Logins(validate_auth(auth), _netrc(netrc), _cookies(cookies))


def _netrc(given: bool | str | os.PathLike[str]) -> Netrc | None:
    if given is False:
        return None
    with importing:
        from getm.files.netrc import read_netrc

    return read_netrc(None if given is True else validate_path(given, "netrc"))


def _cookies(given: str | os.PathLike[str] | None) -> Cookies | None:
    if given is None:
        return None
    with importing:
        from getm.files.cookies import read_cookies

    return read_cookies(validate_path(given, "cookies"))


def destination(path: str | os.PathLike[str], name: str, chosen: BatchOptions) -> str:
    """The path of a file or a folder, or the URL of one elsewhere. Raises `InvalidInput`, `MissingExtra`."""
    text = validate_path(path, name)
    if not is_url(text):
        return text
    with importing:
        from getm.batch.object_target import check_options
        from getm.destinations.urls import as_destination, require

    text = as_destination(text)
    if is_url(text):
        check_options(chosen)
        require(text)
    return text


def existing_path(cacert: str | os.PathLike[str]) -> str:
    path = os.path.abspath(validate_path(cacert, "cacert"))  # noqa: PTH100
    if not os.path.exists(path):  # noqa: PTH110
        raise errors.InvalidInput(f"cacert: there is no file or folder {path}")
    return path


def patterns(given: str | Iterable[str], name: str) -> tuple[str, ...]:
    """Patterns for paths. Raises `InvalidInput`."""
    several = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    if not all(isinstance(pattern, str) and pattern for pattern in several):
        refuse(name, "patterns for paths", given)
    return tuple(several)
