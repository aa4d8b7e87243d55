"""One transfer of a session: begun, and its head as callers see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from getm import errors
from getm.client.opening import Opening
from getm.client.receiver import Receiver
from getm.core.head import HeaderMap
from getm.files.names import name_from_headers, name_from_url
from getm.integrity.values import parse_checksum
from getm.results import ObjectInfo

_T = TypeVar("_T")


async def aopen_transfer(opening: Opening, started: Callable[[Receiver], None]) -> Receiver:
    """`open_transfer` for the asynchronous API. `started` gets each transfer before its head has come."""
    from getm import aio

    for last in (False, True):
        try:
            transfer = await aio.start(opening)
        except errors.EngineDied:
            if last:
                raise
            continue
        try:
            started(transfer)
            while not transfer.has_head():
                await aio.readable(transfer)
                transfer.pump(wait=False)
            return transfer
        except BaseException:
            transfer.close()
            if last or not transfer.never_answered:
                raise
    raise errors.EngineDied("the engine ended twice before it answered")


async def with_transfer(opening: Opening, use: Callable[[Receiver], Awaitable[_T]]) -> _T:
    """`use` a transfer, and close it, whatever happens."""
    transfers: list[Receiver] = []
    try:
        return await use(await aopen_transfer(opening, transfers.append))
    finally:
        for transfer in transfers:
            transfer.close()


def name_of(transfer: Receiver) -> str:
    headers = () if transfer.head is None else transfer.head.head.headers
    return name_from_headers(headers) or name_from_url(transfer.url)


def object_info(transfer: Receiver) -> ObjectInfo:
    if transfer.head is None:
        raise errors.ProtocolError("the head of an object has not come")
    info, head = transfer.head, transfer.head.head
    modified, media_type = head.modified_at(), (head.get("content-type") or "").partition(";")[0].strip().lower()
    units = {unit.strip() for unit in (head.get("accept-ranges") or "").lower().split(",")}
    return ObjectInfo(
        head.url,
        info.size,
        info.version.etag,
        None if modified is None else _in_utc(modified),
        media_type or None,
        head.content_coding(),
        True if info.ranged or "bytes" in units else False if "none" in units else None,
        tuple([parse_checksum(text) for text, _ in info.declared]),
        HeaderMap(head),
    )


def _in_utc(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):
        # What a time zone takes beyond the last year that there is (or before the first) was no time.
        return None
