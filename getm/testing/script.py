"""What the server is told to do: requests, replies with their faults, and how a reply answers a request.

No sockets here. A `Reply` without faults is a correct HTTP/1.1 answer (RFC 9110, sections 13 and 14: validators,
preconditions, ranges); each further field makes it wrong in one way.
"""

from __future__ import annotations

import asyncio
import http
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Framing = Literal["length", "chunked", "close"]
Ending = Literal["keep", "close", "reset"]
Outcome = Literal["open", "sent", "cut", "client left"]
HeaderValues = Mapping[str, str | list[str] | None]

_WAIT_S = 20.0


@dataclass(eq=False)
class Request:
    """A request as it came.

    Attributes:
        number: its place among the requests of the server, from 0.
        connection: the place of its connection among those of the server, from 0.
        method: "GET", say.
        target: path and query, the bytes of the request line.
        headers: names and values in order, with their spelling.
        client: the address that it came from.
        outcome: how the reply went, once `wait_ended` has returned: "sent", "cut" (as the script said) or "client
            left"; "open" before.
        sent_bytes: how many bytes of the body were sent.
    """

    number: int
    connection: int
    method: str
    target: bytes
    headers: tuple[tuple[str, str], ...]
    client: str = ""
    outcome: Outcome = "open"
    sent_bytes: int = 0
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever the case of its name; None where there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition(b"?")[0].decode("latin-1")

    def end(self, outcome: Outcome) -> None:
        """Called by the server when nothing more will be sent."""
        self.outcome = outcome
        self._ended.set()

    def wait_ended(self) -> Outcome:
        """Block until the server is done with this request, and return the outcome; TimeoutError after 20 seconds."""
        if not self._ended.wait(_WAIT_S):
            raise TimeoutError(f"the reply to request {self.number} has not ended within {_WAIT_S} s")
        return self.outcome


class Gate:
    """A point at which the server waits until the test opens it. `FaultServer.gate` makes one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._opened = asyncio.Event()
        self._reached = threading.Event()

    def open(self) -> None:
        """Let the server go on, now and whenever it comes here again. From any thread."""
        self._loop.call_soon_threadsafe(self._opened.set)

    def wait_reached(self) -> None:
        """Block the test until the server has come here; TimeoutError after 20 seconds."""
        if not self._reached.wait(_WAIT_S):
            raise TimeoutError(f"the server has not come to the gate within {_WAIT_S} s")

    async def passed(self) -> None:
        """For the server: tell that it is here, and wait."""
        self._reached.set()
        await self._opened.wait()


@dataclass(frozen=True)
class Pace:
    """How fast a body is sent: `step_bytes` of it, `interval_s` seconds of silence, and so on."""

    step_bytes: int
    interval_s: float


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer. Without faults it is correct HTTP/1.1, with ranges and preconditions (RFC 9110, sections 13 and 14).

    Args:
        body: the whole representation; what is sent of it follows from the request's Range.
        etag: the ETag; None for none.
        last_modified: the Last-Modified; None for none.
        headers: further ones, or others in place of those that are made; None removes one, a list repeats it.
        status: the status; None: 200, 206, 412 or 416, as the request demands.
        ranges: False: ranges are ignored.
        framing: how the end of the body is told: "length" (Content-Length), "chunked", or "close" (of the connection).
        then: what becomes of the connection afterwards: "keep", or, unannounced, "close" or "reset".
        hold: wait at this gate before the first byte of the reply.
        delay_s: let so many seconds pass before the first byte of the reply.
        stall_at: wait at `gate` after this many bytes of the body in this reply.
        gate: the gate of `stall_at`.
        gates: more of these: numbers of bytes, and the gates to wait at after them.
        cut_at: end the connection after this many bytes of the body in this reply: in order, or by a reset where `then`
            is "reset".
        pace: send the body this slowly.
        span: answer with these bytes of the body, `(start, stop)` with `stop` exclusive, whatever was asked for.
        flip_bit: the number of a bit of `body`, from 0, that is sent inverted.
        extra: bytes sent after the body, beyond its declared end.
        reason: the reason phrase, in Latin-1; None for the usual one.
        endless: send the body over and over until the client leaves; not with "length".
        raw: send exactly these bytes, head and all, and then `body` as it stands.
    """

    body: bytes = b""
    etag: str | None = '"v1"'
    last_modified: str | None = "Tue, 01 Jul 2025 00:00:00 GMT"
    headers: HeaderValues = field(default_factory=dict)
    status: int | None = None
    ranges: bool = True
    framing: Framing = "length"
    then: Ending = "keep"
    # Faults
    hold: Gate | None = None
    delay_s: float = 0.0
    stall_at: int | None = None
    gate: Gate | None = None
    gates: Mapping[int, Gate] = field(default_factory=dict)
    cut_at: int | None = None
    pace: Pace | None = None
    span: tuple[int, int] | None = None
    flip_bit: int | None = None
    extra: bytes = b""
    reason: str | None = None
    endless: bool = False
    raw: bytes | None = None


Script = Reply | Callable[[Request], Reply]


@dataclass(frozen=True)
class Answer:
    """A reply made for one request: the bytes of its head, and the part of the body that follows (before framing)."""

    head: bytes
    body: memoryview


def redirect(location: str, status: int = 302, **headers: str | list[str] | None) -> Reply:
    """A redirect.

    Args:
        location: the value of the header Location, as it stands.
        status: the status.
        headers: further headers; underscores in their names become hyphens.
    """
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, etag=None, last_modified=None, headers={"Location": location, **fields})


def failure(status: int, *, retry_after: str | None = None) -> Reply:
    """An error with a small HTML page, as real servers send one.

    Args:
        status: the status.
        retry_after: the value of the header Retry-After; None for none.
    """
    page = f"<html><h1>{status}</h1></html>".encode()
    headers = {"Content-Type": "text/html", "Retry-After": retry_after}
    return Reply(status=status, body=page, etag=None, last_modified=None, headers=headers)


def no_reply(then: Literal["close", "reset"]) -> Reply:
    """No byte: the request is taken, and the connection ended. So does a server that gives up a kept-alive connection
    just when the client uses it again.

    Args:
        then: how it ends.
    """
    return Reply(raw=b"", then=then)


def answer(reply: Reply, request: Request) -> Answer:
    """Make `reply` for `request`: choose the status and the span, and write the head."""
    if reply.raw is not None:
        return Answer(reply.raw, memoryview(reply.body))
    size = len(reply.body)
    status, span = _choose(reply, request)
    start, stop = span or (0, size)
    if status in (412, 416) and reply.status is None:
        start = stop = 0
    headers: dict[str, str | list[str] | None] = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes" if reply.ranges else None,
        "ETag": reply.etag,
        "Last-Modified": reply.last_modified,
        "Content-Length": str(stop - start) if reply.framing == "length" else None,
        "Transfer-Encoding": "chunked" if reply.framing == "chunked" else None,
        "Connection": "close" if reply.framing == "close" else None,
    }
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    elif status == 416:
        headers["Content-Range"] = f"bytes */{size}"
    body = memoryview(reply.body)
    if reply.flip_bit is not None:
        spoilt = bytearray(reply.body)
        spoilt[reply.flip_bit // 8] ^= 1 << reply.flip_bit % 8
        body = memoryview(spoilt)
    return Answer(_head(status, reply.reason, _replaced(headers, reply.headers)), body[start:stop])


def _replaced(headers: dict[str, str | list[str] | None], by: HeaderValues) -> dict[str, str | list[str] | None]:
    names = {name.lower() for name in by}
    return {**{name: value for name, value in headers.items() if name.lower() not in names}, **by}


def _head(status: int, reason: str | None, headers: HeaderValues) -> bytes:
    if reason is None:
        try:
            reason = http.HTTPStatus(status).phrase
        except ValueError:
            reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}"]
    for name, values in headers.items():
        for value in values if isinstance(values, list) else [values]:
            if value is not None:
                lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _choose(reply: Reply, request: Request) -> tuple[int, tuple[int, int] | None]:
    """The status, and the span of the body if it is not the whole."""
    if reply.span is not None:
        return (reply.status or 206), reply.span
    if reply.status is not None and reply.status != 206:
        return reply.status, None
    if_match = request.header("If-Match")
    if if_match is not None and (reply.etag is None or if_match not in ("*", reply.etag)):
        return 412, None
    asked = request.header("Range") if reply.ranges else None
    if asked is None or not _if_range_holds(reply, request):
        return (reply.status or 200), None
    return _ranged(asked, len(reply.body))


def _if_range_holds(reply: Reply, request: Request) -> bool:
    condition = request.header("If-Range")
    if condition is None:
        return True
    if condition.startswith('"'):  # the comparison is strong: a weak validator never holds (RFC 9110, 13.1.5)
        return condition == reply.etag
    return condition == reply.last_modified


def _ranged(asked: str, size: int) -> tuple[int, tuple[int, int] | None]:
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return 200, None  # several ranges, or none that can be understood: a server may ignore the header
    first, last = match[1], match[2]
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return 200, None
    return (206, (start, stop)) if start < stop else (416, None)
