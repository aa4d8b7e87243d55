"""New URLs in place of those that have expired: asked of the consumer, once for all parts of an object."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from getm import errors
from getm.core.signed_url import find_signature
from getm.engine.sources import Source, Sources
from getm.protocol.messages import OpenRequest, RenewedInfo

# The statuses by which servers refuse a signature that has expired, where they do not say so: those of credentials, and
# 410, which nginx's documentation of secure_link has as its example. A server may mean something else by them, and then
# refuses the new URL as well. The vendors whose signatures are known do say so.
_MAYBE_EXPIRED = frozenset({401, 403, 410})

# How many new URLs may be refused in a row before it is an error: a provider may give ever the same.
_MAX_IN_VAIN = 2

Ask = Callable[[int], Awaitable[RenewedInfo]]


class Renewal:
    """Renews the sources of one OPEN. `ask`: asks the consumer for what comes after the URLs of a serial number."""

    def __init__(self, request: OpenRequest, sources: Sources, ask: Ask) -> None:
        given = request.renewable
        self._sources = sources
        self._ask = ask
        self._serial = 0 if given is None else given.serial
        self._expires_s = None if given is None else given.expires_s
        self._count = 0 if given is None else given.count
        self._in_vain = 0
        self._lock: asyncio.Lock | None = None

    def may_renew(self, source: Source) -> bool:
        """Whether another URL can be had in its place."""
        return self._count > 0 and source in self._sources.first(self._count)

    def may_mean_expiry(self, source: Source, status: int | None) -> bool:
        """Whether a refusal of `source` by that status may mean that its URL has expired, and another can be had."""
        return status in _MAYBE_EXPIRED and self.may_renew(source) and find_signature(source.origin.url) is None

    def expired_s(self, source: Source, now_s: float) -> float | None:
        """When the URL of `source` expired, as the consumer says, if that is before `now_s`; else None."""
        due = self._expires_s is not None and self._expires_s <= now_s
        return self._expires_s if due and self.may_renew(source) else None

    def succeeded(self) -> None:
        """A URL was not refused."""
        self._in_vain = 0

    async def renew(self, source: Source, error: errors.GetmError, refused: object) -> bool:
        """Whether `source` has another URL than `refused`, its `origin` when a request failed by `error`: where it has
        not, the consumer is asked, unless the error means something else. Parts that fail at the same time wait for
        the first of them."""
        if isinstance(error, errors.HTTPStatusError):
            asks = self.may_mean_expiry(source, error.status)
        else:
            asks = isinstance(error, errors.URLExpired) and self.may_renew(source)
        if not asks:
            return False
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            if source.origin is not refused:
                return True
            if self._in_vain >= _MAX_IN_VAIN:
                error.message += f"; {self._in_vain} new URLs for it were refused as well"
                return False
            info = await self._ask(self._serial)
            if not info.routes:
                return False
            self._in_vain += 1
            self._serial, self._expires_s = info.serial, info.expires_s
            if self._expires_s is not None and self._expires_s <= time.time():
                # By which clock? The server knows.
                self._expires_s = None
            requested = getattr(error, "status", None) is not None
            renewed = False
            for each, route in zip(self._sources.first(self._count), info.routes, strict=False):
                if each is source:
                    renewed = route != each.origin or not requested
                each.renew(route)
            if not renewed:
                error.message += "; asked for a new URL, its provider gave the same again"
            return renewed
