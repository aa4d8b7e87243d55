"""Where an object can be had: its URL and mirrors, what is known of each, and which one to ask."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from functools import cached_property
from urllib.parse import urlsplit

from getm import errors
from getm.core.version import Version
from getm.engine.speeds import Speeds
from getm.protocol.messages import OpenRequest, Route

# Errors that are about the object, not the host.
_OF_THE_OBJECT = (errors.HTTPStatusError, errors.URLExpired, errors.RemoteChanged, errors.SizeMismatch)


class Ranges(enum.Enum):
    """Whether a source grants range requests, as far as is known."""

    GRANTED = "granted"
    # It has refused one, and was not asked for the whole yet: other sources come first.
    UNDECIDED = "refused, or the object"
    REFUSED = "refused"


class Source:
    """One URL of an object."""

    def __init__(self, route: Route) -> None:
        self.origin: Route = route
        # Redirects are followed once for all parts: the origin may be slow, or count requests.
        self.route: Route = route
        # What its further responses must agree with; nothing is known of it where it has not answered.
        self.version: Version = Version()
        self.ranges: Ranges = Ranges.GRANTED
        # Whether it takes If-Range with them, as far as is known.
        self.takes_if_range: bool = True
        # Whether it sends the whole where it refused a later range; None where it was not asked.
        self.grants_whole: bool | None = None
        # How often in a row it failed without progress, and how the last time.
        self.failures = 0
        self.last_error: errors.GetmError | None = None
        # How many requests its host had granted when it last refused one as one too many (`HostPaces.explain`), and how
        # often such a refusal did not count.
        self.answers: int | None = None
        self.uncounted = 0
        # Why it is not asked any more.
        self.error: errors.GetmError | None = None
        # Parts that are being fetched from it.
        self.active = 0

    @property
    def takes_spans(self) -> bool:
        """Whether it grants ranges on the condition that the object is of its version, as far as is known."""
        return self.ranges is Ranges.GRANTED and self.takes_if_range

    def doubt_ranges(self) -> None:
        """A request for a range has failed in a way that may pass. Where it does so again, the next one is for the
        whole: it may have been the range."""
        if self.failures:
            self.ranges = Ranges.REFUSED

    def renew(self, route: Route) -> None:
        """Its URL has expired: this one comes in its place."""
        self.origin = self.route = route
        self.grants_whole = None
        # Computed from it.
        self.__dict__.pop("host", None)

    @cached_property
    def resolving(self) -> asyncio.Lock:
        """Held by who asks again on behalf of all parts: `origin`, or without Range."""
        return asyncio.Lock()

    @cached_property
    def host(self) -> str:
        return urlsplit(self.origin.url).netloc.rpartition("@")[2]

    @property
    def serving_host(self) -> str:
        """The host that redirects led to."""
        return urlsplit(self.route.url).netloc.rpartition("@")[2]


class Sources:
    """The URL of a request and its mirrors. The headers of the caller go to all of them: all are the caller's URLs."""

    def __init__(self, request: OpenRequest, speeds: Speeds) -> None:
        self._all = [Source(Route(url, request.headers_for(url))) for url in (request.url, *request.mirrors)]
        # That of the request's own URL.
        self.given: Source = self._all[0]
        self._speeds = speeds
        if request.route is not None:
            self.given.route = request.route

    def first(self, count: int) -> Sequence[Source]:
        """The first `count` in the order given."""
        return self._all[:count]

    @property
    def living(self) -> Sequence[Source]:
        """Those that did not fail: the fastest first, then those of which nothing is known in the order given, then
        those that failed in another transfer."""
        if len(self._all) == 1:
            # The usual case: nothing to weigh.
            return self._all if self._all[0].error is None else []

        def rank(source: Source) -> tuple[int, float]:
            speed = self._speeds.of(source.host)
            return (1, 0.0) if speed is None else (0, -speed) if speed else (2, 0.0)

        return sorted((source for source in self._all if source.error is None), key=rank)

    def spread(self) -> Source:
        """The one that would bring the next part first, as far as is known. An unknown one counts as the fastest, so
        that it is tried."""
        living = self.living or self._all
        speeds = [self._speeds.of(source.host) for source in living]
        best = max((speed for speed in speeds if speed), default=1.0)
        waits = [
            (source.active + 1) / (best if speed is None else speed or 1.0)
            for source, speed in zip(living, speeds, strict=True)
        ]
        return living[waits.index(min(waits))]

    def forgive(self) -> None:
        """Bytes have come: failures count from the start again."""
        for source in self._all:
            source.failures = source.uncounted = 0

    def give_up(self, source: Source, error: errors.GetmError) -> None:
        """`source` is asked no more."""
        source.error = source.error or error
        if not isinstance(error, _OF_THE_OBJECT):
            self._speeds.failed(source.host)

    def all_failed(self) -> errors.GetmError:
        """The error for the caller, once none is left: that of the first in the order given."""
        failures = [source.error for source in self._all if source.error is not None]
        if len(failures) > 1:
            failures[0].message += f"; {len(failures)} mirrors were tried"
        return failures[0]

    def received(self, source: Source, count: int, seconds: float) -> None:
        """`source` sent so many bytes in that time."""
        self._speeds.measured(source.host, count, seconds)
