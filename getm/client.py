"""The caller's side of engines: starting, watching and stopping them, and the channels that lead to them."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import IO, Protocol

from getm import errors
from getm.buffers import LeaseRing, Segment, SlotLedger, available_bytes
from getm.buffers.ledger import Owner
from getm.options import Geometry, plan_ring
from getm.wire import (
    FROM_ENGINE,
    Conversation,
    Decoder,
    EndInfo,
    FailedInfo,
    HeadInfo,
    Kind,
    Message,
    OpenRequest,
    ServeRequest,
    decode_body,
    encode,
    encode_body,
)

_READ_BYTES = 64 * 1024
# One write of this size is one piece to the kernel: a credit from another thread cannot land in the middle of it.
_MAX_OPEN_BYTES = 32 * 1024
_STOP_S = 5.0
# The engine's module path comes by the environment: `sys.path` as the caller sees it, without running the caller's
# __main__ again, and with no file of the current folder in the way of the standard library (-P).
_PATH_VARIABLE = "GETM_ENGINE_PATH"
_BOOTSTRAP = (
    "import signal;signal.signal(signal.SIGINT,signal.SIG_IGN);"
    "import json,os,sys;sys.path[:]=json.loads(os.environ.pop('{variable}'));"
    "from getm.engine.server import main;main({control},{parent})"
)
# Plain numbers: joining the enumeration's members costs more than the call they are for.
_NO_WAIT = int(socket.MSG_DONTWAIT)
_SEND_NOW = int(socket.MSG_DONTWAIT) | int(getattr(socket, "MSG_NOSIGNAL", 0))

# The engine's ends of sockets that are just being sent to it. A child forked at that moment must close them, or the
# end of the engine would never show as end of file.
_in_passage: set[socket.socket] = set()


class Engine:
    """An engine seen from the caller: a control socket, and whether it lives."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        _in_passage.add(theirs)
        try:
            self._start(theirs)
        except BaseException:
            self._control.close()
            raise
        finally:
            _in_passage.discard(theirs)

    def _start(self, theirs: socket.socket) -> None:
        raise errors.GetmError("an engine is either a process or a thread")

    def serve(
        self, pipe: socket.socket, segment: Segment, geometry: Geometry, helpers: Sequence[socket.socket]
    ) -> None:
        """Have the engine serve the other end of `pipe`'s pair. The descriptors are duplicated on the way."""
        request = ServeRequest(geometry.slots, geometry.slot_bytes, segment.size, segment.token, len(helpers))
        descriptors = [pipe.fileno(), *([segment.descriptor] if segment.token is None else [])]
        descriptors.extend(helper.fileno() for helper in helpers)
        try:
            socket.send_fds(self._control, [encode_body(Kind.SERVE, 0, request)], descriptors)
        except OSError:
            raise self.died() from None

    @property
    def alive(self) -> bool:
        """Whether it can still be asked for something, as far as can be seen without asking."""
        try:
            return self._control.recv(1, _NO_WAIT | socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def died(self) -> errors.EngineDied:
        """The error for a pipe that ended though nobody closed it."""
        return errors.EngineDied("the engine ended; open the URL again, and another one is started", exit_status=None)

    def stop(self) -> None:
        """Tell it to end, and wait until it has."""
        with contextlib.suppress(OSError):
            # It may be gone already.
            self._control.send(encode(Kind.STOP), _SEND_NOW)
        self._control.close()

    def abandon(self) -> None:
        """In a forked child: the engine is the parent's. Forget it without a word to it."""
        self._control.close()


class ProcessEngine(Engine):
    """An engine in a process of its own, started as a program: this works from daemonic workers, beside threads, from
    notebooks and `python -`. The URL never stands in its arguments."""

    def _start(self, theirs: socket.socket) -> None:
        if not sys.executable:
            raise errors.EngineDied("sys.executable names no Python to start an engine with; use concurrency=None")
        package_parent = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
        paths = [os.path.abspath(path) for path in sys.path if isinstance(path, str)]  # noqa: PTH100
        if package_parent not in paths:
            paths.append(package_parent)
        # What it prints when it crashes is for the error, not for the caller's terminal.
        self._stderr: IO[bytes] = tempfile.TemporaryFile(prefix="getm-")  # noqa: SIM115
        code = _BOOTSTRAP.format(variable=_PATH_VARIABLE, control=theirs.fileno(), parent=os.getpid())
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, _PATH_VARIABLE: json.dumps(paths)},
            )
        except OSError as error:
            self._stderr.close()
            raise errors.EngineDied(f"no engine process could be started ({error}); use concurrency=None") from None
        finally:
            theirs.close()

    def died(self) -> errors.EngineDied:
        try:
            status = self.process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            # It closed the pipe but lives: it cannot be trusted with anything any more.
            self.process.kill()
            status = self.process.wait()
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
            if status == -signal.SIGKILL:
                how += " (often the system's answer to a lack of memory)"
        else:
            how = f"ended with status {status}"
        said = self._said()
        return errors.EngineDied(
            f"the engine process {how}{f': {said}' if said else ''}; open the URL again, and another one is started",
            exit_status=status,
        )

    def _said(self) -> str:
        """The last line on its standard error."""
        try:
            self._stderr.seek(0)
            lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        except ValueError:
            # Closed by stop().
            return ""
        return lines[-1][:500] if lines else ""

    def stop(self) -> None:
        super().stop()
        try:
            self.process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._stderr.close()

    def abandon(self) -> None:
        super().abandon()
        self._stderr.close()
        # It is no child of this process: Popen must not wait for it, nor warn that it runs.
        self.process.returncode = 0


class ThreadEngine(Engine):
    """The same engine in a thread of this process: for `concurrency=None`, and where processes cannot be had."""

    def _start(self, theirs: socket.socket) -> None:
        from getm.engine.server import serve

        self._thread = threading.Thread(target=serve, args=(theirs, None), name="getm-engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        super().stop()
        self._thread.join(timeout=_STOP_S)


class Listener(Protocol):
    """Who hears what comes for one object."""

    def on_head(self, info: HeadInfo) -> None: ...
    def on_part(self, offset: int, slot: int, length: int) -> None: ...
    def on_end(self, info: EndInfo) -> None: ...
    def on_failed(self, error: errors.GetmError) -> None: ...


class Channel:
    """The caller's end of one pipe: a ring of slots, and the objects that are open on it, one after another or at once.

    Used by one thread at a time, apart from credits, which any thread may cause.
    """

    def __init__(self, engine: Engine, helpers: Sequence[Engine], geometry: Geometry, *, private: bool) -> None:
        self.engine = engine
        self.geometry = geometry
        self.helpers = len(helpers)
        self._pid = os.getpid()
        self._conversation = Conversation()
        self._decoder = Decoder()
        self._listeners: dict[int, Listener] = {}
        self._last_number = 0
        self._unsent_credits: deque[bytes] = deque()
        self.closed = False
        segment = Segment.create(geometry.total_bytes, private=private)
        self._ledger = SlotLedger(geometry.slots, Owner.HELD)
        self._ring = LeaseRing(segment, geometry.slots, geometry.slot_bytes, self.give_back)
        self._sock, theirs = socket.socketpair()
        passed = [theirs]
        try:
            leads: list[socket.socket] = []
            for helper in helpers:
                lead_end, helper_end = socket.socketpair()
                passed += [lead_end, helper_end]
                _in_passage.update(passed)
                helper.serve(helper_end, segment, geometry, ())
                leads.append(lead_end)
            _in_passage.update(passed)
            engine.serve(theirs, segment, geometry, leads)
        except BaseException:
            self._sock.close()
            raise
        finally:
            for end in passed:
                end.close()
                _in_passage.discard(end)
            if segment.token is None:
                segment.close_descriptor()
        for slot in range(geometry.slots):
            self._ledger.give_back(slot)
        self._sock.sendall(encode(Kind.GRANT, slot=0, length=geometry.slots))

    def fileno(self) -> int:
        """Readable when a message has come."""
        return self._sock.fileno()

    @property
    def with_engine(self) -> int:
        """How many slots the engine has, or will have once the credits on their way arrive."""
        return self._ledger.count(Owner.PEER)

    @property
    def idle(self) -> bool:
        """Whether every object opened on it has ended."""
        return not self._conversation.open_objects()

    def open(self, request: OpenRequest, listener: Listener) -> int:
        """Send OPEN; `listener` hears what comes. Returns the object's number on this channel."""
        self._last_number += 1
        number = self._last_number
        data = encode_body(Kind.OPEN, number, request)
        if len(data) > _MAX_OPEN_BYTES:
            raise errors.InvalidInput(f"the URL and the headers together are longer than {_MAX_OPEN_BYTES} bytes")
        self._conversation.pass_(Kind.OPEN, number)
        self._listeners[number] = listener
        try:
            self._sock.sendall(data)
        except OSError:
            raise self._died() from None
        return number

    def cancel(self, number: int) -> None:
        """Nobody wants the object any more: its slots go straight back, and the engine is told."""
        self._listeners.pop(number, None)
        if number in self._conversation.open_objects():
            with contextlib.suppress(OSError):
                # A dead engine needs no telling.
                self._sock.send(encode(Kind.CANCEL, number), _SEND_NOW)

    def wait(self, timeout_s: float) -> bool:
        """Whether a message comes within that time."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def pump(self, *, wait: bool) -> None:
        """Receive what has come, waiting for something if told to, and pass it to the listeners.

        Raises `EngineDied` where the engine is gone.
        """
        if self._pid != os.getpid():
            raise errors.ReaderClosed("opened before fork: a forked process must open the URL itself")
        self._flush_credits()
        try:
            data = self._sock.recv(_READ_BYTES, 0 if wait else _NO_WAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise self._died()
        try:
            for message in self._decoder.feed(data):
                self._route(message)
        except errors.ProtocolError:
            # What else was in `data` is lost: nothing on this pipe can be trusted any more.
            self.close()
            raise

    def _died(self) -> errors.EngineDied:
        self.close()
        return self.engine.died()

    def _route(self, message: Message) -> None:
        if message.kind not in FROM_ENGINE:
            raise errors.ProtocolError(f"{message.kind.name} may not come from an engine")
        self._conversation.pass_(message.kind, message.object)
        listener = self._listeners.get(message.object)
        if message.kind is Kind.PART:
            self._ledger.receive(message.slot)
            if listener is None:
                self.give_back(message.slot)
            else:
                listener.on_part(message.offset, message.slot, message.length)
            return
        if listener is None:
            return
        if message.kind is Kind.HEAD:
            listener.on_head(decode_body(message, HeadInfo))
            return
        del self._listeners[message.object]
        if message.kind is Kind.END:
            listener.on_end(decode_body(message, EndInfo))
        else:
            info = decode_body(message, FailedInfo)
            listener.on_failed(errors.from_wire(info.code, info.message, info.url, info.fields))

    def lease(self, slot: int, length: int) -> memoryview:
        """A read-only view of the first `length` bytes of a slot that came with a PART; see `LeaseRing`."""
        view = self._ring.lease(slot)
        return view if length == self.geometry.slot_bytes else view[:length]

    def join(self, views: Sequence[memoryview], slot: int, start: int, length: int) -> memoryview:
        """See `LeaseRing.join`."""
        return self._ring.join(views, slot, start, length)

    def give_back(self, slot: int) -> None:
        """Credit for one slot. In any thread, from within garbage collection: takes no lock and never blocks."""
        if self.closed or self._pid != os.getpid():
            # A forked child that drops an inherited view: the slot is the parent's.
            return
        # First here, then to the engine: its next PART may come before this returns.
        self._ledger.give_back(slot)
        credit = encode(Kind.GRANT, slot=slot, length=1)
        try:
            self._sock.send(credit, _SEND_NOW)
        except BlockingIOError:
            self._unsent_credits.append(credit)
        except OSError:
            # The engine is gone, or the channel was closed in another thread: no slot is needed any more.
            return

    def _flush_credits(self) -> None:
        while self._unsent_credits:
            try:
                self._sock.sendall(self._unsent_credits.popleft())
            except OSError:
                return

    def close(self) -> None:
        """Close the pipe: the engine stops what it does for it. Views stay valid."""
        self.closed = True
        self._listeners.clear()
        self._sock.close()


class EnginePool:
    """The engines and channels of one session, within one budget of shared memory."""

    def __init__(self, processes: int, max_memory: int) -> None:
        self._processes = processes
        self._max_memory = max_memory
        self._lock = threading.Lock()
        self._engines: list[ProcessEngine] = []
        self._thread_engine: ThreadEngine | None = None
        self._turn = 0
        self._channels: list[Channel] = []
        # Channels come back from finalisers too, which may take no lock: appending is atomic, the next user sorts them.
        self._returned: deque[Channel] = deque()
        self._free: list[Channel] = []
        self.closed = False
        _pools.add(self)

    def acquire(self, chunk_bytes: int, concurrency: int | None) -> Channel:
        """A channel for one transfer; `release` it afterwards. Starts engines as needed."""
        with self._lock:
            if self.closed:
                raise errors.ReaderClosed("the session is closed; open another one")
            self._collect()
            width = concurrency or 1
            private = concurrency is None
            wanted = plan_ring(chunk_bytes, width, self._max_memory)
            helpers = 0 if private else min(self._processes, width) - 1
            for channel in self._free:
                if (
                    channel.geometry == wanted
                    and channel.helpers == helpers
                    and isinstance(channel.engine, ThreadEngine) is private
                    and channel.with_engine * 2 >= wanted.slots
                ):
                    self._free.remove(channel)
                    return channel
            return self._create(chunk_bytes, width, helpers, private)

    def _collect(self) -> None:
        """Sort out what came back: channels that are quiet and alive may serve again."""
        for _ in range(len(self._returned)):
            channel = self._returned.popleft()
            if not channel.closed:
                self._free.append(channel)
        for channel in list(self._free):
            try:
                channel.pump(wait=False)
            except errors.GetmError:
                channel.close()
            if channel.closed:
                self._free.remove(channel)
        self._channels = [channel for channel in self._channels if not channel.closed]
        # Those whose cancelled object has not ended yet come last.
        self._free.sort(key=lambda channel: not channel.idle)

    def _create(self, chunk_bytes: int, width: int, helpers: int, private: bool) -> Channel:
        room = self._room()
        if room < self._max_memory // 4:
            # Rings that nobody uses make way.
            for channel in self._free:
                channel.close()
                self._channels.remove(channel)
            self._free.clear()
            room = self._room()
        while True:
            geometry = plan_ring(chunk_bytes, width, room)
            if geometry.total_bytes > room:
                raise errors.MemoryUnavailable(
                    f"no room for another ring: {len(self._channels)} transfers hold {self._max_memory - room} of "
                    f"{self._max_memory} bytes; close some, or give the session a larger max_memory",
                    wanted=geometry.total_bytes,
                    available=room,
                )
            try:
                channel = self._connect(geometry, helpers, private)
            except errors.MemoryUnavailable:
                # Less than the system said: what is left may do for a smaller ring.
                if geometry.slots <= 2:
                    raise
                room = geometry.total_bytes // 2
                continue
            self._channels.append(channel)
            return channel

    def _room(self) -> int:
        used = sum(channel.geometry.total_bytes for channel in self._channels)
        room = self._max_memory - used
        available = available_bytes()
        # Never more than half of what is left to the machine: others want to live too.
        return room if available is None else min(room, available // 2)

    def _connect(self, geometry: Geometry, helpers: int, private: bool) -> Channel:
        for attempt in range(2):
            if private:
                if self._thread_engine is None or not self._thread_engine.alive:
                    self._thread_engine = ThreadEngine()
                team: list[Engine] = [self._thread_engine]
            else:
                team = self._team(helpers + 1)
            try:
                return Channel(team[0], team[1:], geometry, private=private)
            except errors.EngineDied:
                # One that had ended by itself when idle: `_team` replaces it.
                if attempt:
                    raise
        raise errors.EngineDied("no engine could be started")

    def _team(self, count: int) -> list[Engine]:
        """`count` living engines, each time another one first."""
        for engine in list(self._engines):
            if not engine.alive:
                engine.stop()
                self._engines.remove(engine)
        # The first streams share the first engine only once all others are busy starting, too.
        while len(self._engines) < min(self._processes, max(count, self._turn + 1)):
            self._engines.append(ProcessEngine())
        start, self._turn = self._turn, (self._turn + 1) % self._processes
        return [self._engines[(start + index) % len(self._engines)] for index in range(count)]

    def release(self, channel: Channel) -> None:
        """The transfer on it is over, complete or cancelled. Any thread, no lock."""
        if not self.closed:
            self._returned.append(channel)

    def close(self) -> None:
        """End all transfers and engines. Views stay valid."""
        with self._lock:
            self.closed = True
            for channel in self._channels:
                channel.close()
            engines: list[Engine] = [*self._engines]
            if self._thread_engine is not None:
                engines.append(self._thread_engine)
            self._channels, self._free, self._engines, self._thread_engine = [], [], [], None
            self._returned.clear()
        for engine in engines:
            engine.stop()

    def abandon(self) -> None:
        """In a forked child: everything here is the parent's."""
        self._lock = threading.Lock()
        for channel in self._channels:
            channel.close()
        for engine in [*self._engines, self._thread_engine]:
            if engine is not None:
                engine.abandon()
        self._channels, self._free, self._engines, self._thread_engine = [], [], [], None
        self._returned.clear()


_pools: weakref.WeakSet[EnginePool] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for end in list(_in_passage):
        end.close()
    _in_passage.clear()
    for pool in list(_pools):
        pool.abandon()


@atexit.register
def _close_pools() -> None:
    for pool in list(_pools):
        pool.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
