"""Small objects on their way to files of their own, and small spans of objects that are known on their way to slots, in
the way that nearly all of many of them come."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from getm import errors
from getm.core.head import ResponseHead
from getm.core.signed_url import expired_by_clock
from getm.core.spans import Span
from getm.core.stats import Stats
from getm.core.version import Version
from getm.engine.http.connections import Begun, SpanRequests
from getm.engine.http.framing import PlainHead
from getm.engine.plan import WHOLE_OBJECT, Order, Plan, decide
from getm.engine.sinks.file import target_error, write_new_file
from getm.engine.small_exchange import PATIENCE_S, SlotSpan, SpanHeads, may_exchange
from getm.engine.speeds import MIN_MEASURED_BYTES
from getm.engine.verification import Verification
from getm.protocol.messages import (
    END,
    FAILED,
    HEAD,
    WHOLE,
    EndInfo,
    FailedInfo,
    FolderEntry,
    HeadInfo,
    OpenRequest,
    Route,
)

if TYPE_CHECKING:
    from getm.engine.connection import EngineConnection

# What is asked for: all of it, by one request.
_ORDER = Order(WHOLE_OBJECT, None, False, 1, 0)


class SmallFetches:
    """The small objects and spans of one connection that are under way. Each is requested over a connection that was
    kept alive, received whole, and written or put into a slot, without a task, a claim, or anything else that only
    other responses need: for a small object that would be most of the work.

    Where that cannot be, or anything but a plain response comes (a redirect, an error, a larger object, a slow server),
    `Fetch` serves the object, and continues with what has come.
    """

    def __init__(self, connection: EngineConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._fetches: dict[int, _SmallFile | SlotSpan] = {}
        # The last request for a span, and what asks for others of the same kind; None: it takes more than this.
        self._span_request: OpenRequest | None = None
        self._spans: SpanRequests | None = None
        self._heads = SpanHeads(Version())
        # Set while there are any.
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._fetches)

    def begin(self, number: int, request: OpenRequest) -> bool:
        """Serve that OPEN for a small object; False where it takes more than this."""
        fetch = self._file(number, request) if self._may_begin(request) else None
        return fetch is not None and self._begun(
            number, fetch, self._connection.http.begin(request, _route_of(request), fetch)
        )

    def begin_span(self, number: int, request: OpenRequest, span: Span) -> bool:
        """Serve that request for a span; False where it takes more than this."""
        if request is not self._span_request:
            self._span_request, self._spans = request, None
            if self._may_begin(request) and request.version is not None and request.place_from is None:
                self._spans = self._connection.http.spans(request, _route_of(request), request.version.strong)
                self._heads = SpanHeads(request.version)
        if self._spans is None or request.version is None or not may_exchange(request.version, span):
            return False
        slot = self._connection.take(len(span))
        if slot is None:
            return False
        fetch = SlotSpan(self, self._connection, number, request, span, self._spans, self._heads, slot)
        return self._begun(number, fetch, self._spans.begin(span, fetch))

    def _may_begin(self, request: OpenRequest) -> bool:
        throttled = self._connection.http.throttle is not None
        conditional = request.unless is not None
        return request.total_s is None and not (request.mirrors or request.delay_s or conditional or throttled)

    def _begun(self, number: int, fetch: _SmallFile | SlotSpan, begun: Begun | None) -> bool:
        """Whether the request for it was sent."""
        if begun is None:
            fetch.release()
            return False
        fetch.begun = begun
        self._fetches[number] = fetch
        if self._timer is None:
            self._timer = self._loop.call_later(PATIENCE_S, self._look)
        return True

    def _file(self, number: int, request: OpenRequest) -> _SmallFile | None:
        """Where a request for the whole begins it, which goes to a file."""
        if request.file is None or request.file.small is None or request.spans != WHOLE or request.version is not None:
            return None
        if not request.adaptive and request.concurrency != 1:
            return None
        if expired_by_clock(request.url, time.time()) is not None:
            return None
        entry = request.file.small
        try:
            folder = self._connection.folders.hold(entry.folder)
        except OSError:
            # The other way says so.
            return None
        return _SmallFile(self, self._connection, number, request, entry, folder)

    def cancel(self, number: int) -> bool:
        """Whether it was one of these."""
        fetch = self._fetches.get(number)
        if fetch is None:
            return False
        fetch.begun.connection.close()
        self.ended(number)
        cancelled = errors.Cancelled("the transfer was cancelled")
        self._connection.send(FAILED, number, FailedInfo.of(cancelled, Stats()))
        return True

    def close(self) -> None:
        """Cancel all of them."""
        for number in list(self._fetches):
            self.cancel(number)

    def ended(self, number: int) -> bool:
        """Nothing more is to be done for it here. False where it has ended before: a connection that is closed in the
        middle of a response says so later."""
        fetch = self._fetches.pop(number, None)
        if fetch is not None:
            fetch.release()
        return fetch is not None

    def _look(self) -> None:
        """No longer wait for those that take too long, and look again when the next one may."""
        self._timer = None
        before_s = time.monotonic() - PATIENCE_S
        for fetch in list(self._fetches.values()):
            if fetch.began_s <= before_s:
                fetch.begun.protocol.give_up_whole()
        if self._fetches:
            # They are in the order in which they began.
            oldest = next(iter(self._fetches.values()))
            self._timer = self._loop.call_later(max(0.0, oldest.began_s - before_s), self._look)


def _route_of(request: OpenRequest) -> Route:
    return request.route or Route(request.url, request.headers_for(request.url))


class _SmallFile:
    """One that goes to a file: a `WholeListener`. `entry`: the file, and `folder` a descriptor of its folder."""

    status = 200

    def __init__(
        self,
        fetches: SmallFetches,
        connection: EngineConnection,
        number: int,
        request: OpenRequest,
        entry: FolderEntry,
        folder: int,
    ) -> None:
        self.began_s: float = time.monotonic()
        self.entry = entry
        self.begun: Begun
        self._fetches = fetches
        self._connection = connection
        self._number = number
        self._request = request
        self._folder = folder
        self._verification = Verification(request, connection.hash_pool)
        self._head: HeadInfo
        self._first_byte_s: float | None = None

    def release(self) -> None:
        """Nothing more is written."""
        self._connection.folders.release(self.entry.folder)

    def knows(self, head: bytes) -> int | None:
        return None

    def accepts(self, head: PlainHead) -> bool:
        request, size = self._request, head.length
        if size >= MIN_MEASURED_BYTES or request.size not in (None, size):
            return False
        response = ResponseHead.with_fields(200, request.url, head.lines, head.fields, head.reason)
        plan = decide(_ORDER, response)
        notes = self._verification.find([response], size)
        if not isinstance(plan, Plan) or not self._verification.may_check(size):
            return False
        self._first_byte_s = time.monotonic() - self.began_s
        declared = tuple([(str(each.checksum), each.source) for each in self._verification.declared])
        self._head = HeadInfo(response, plan.version, notes=notes, declared=declared)
        return True

    def came(self, content: memoryview) -> None:
        self.begun.keep(self.begun.connection)
        connection, number, size = self._connection, self._number, len(content)
        failure: errors.GetmError | None = None
        try:
            verdict = self._verification.check(content)
            write_new_file(self._folder, self.entry.name, self._mode, (content,))
        except errors.GetmError as error:
            # The consumer learns what it is that is wrong.
            connection.send(HEAD, number, self._head)
            failure = error
        except OSError as error:
            failure = target_error(error, self.entry)
        stats = Stats(size, requests=1, first_byte_s=self._first_byte_s, seconds=time.monotonic() - self.began_s)
        if failure is None:
            connection.stored(self.entry)
            connection.send(END, number, EndInfo(size, verdict, stats, self._head))
        else:
            connection.send(FAILED, number, FailedInfo.of(failure, stats))
        self._fetches.ended(number)

    @property
    def _mode(self) -> int:
        return 0o600 if self._request.file is None else self._request.file.mode

    def is_other(self) -> None:
        if self._fetches.ended(self._number):
            self._connection.fetch(self._number, self._request, self.begun, self.began_s)
