"""The engine from its start to its end: event loop, control socket, idle time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
from collections import deque

from getm.buffers.segment import Segment
from getm.core.this_process import set_rare_collections
from getm.core.threads import WorkerThreads
from getm.engine.connection import EngineConnection
from getm.engine.http.loop import EngineLoop
from getm.engine.http.requests import HttpClient
from getm.engine.http.throttle import Throttle
from getm.engine.sinks.file import Folders
from getm.errors import ProtocolError
from getm.integrity.hashing.threads import HashPool
from getm.protocol.codec import Decoder, decode_body
from getm.protocol.messages import ON_CONTROL, Kind, Message, ServeRequest

# An engine that serves nothing for this long ends by itself; the next use starts another one (about 0.2 s).
IDLE_S = 300.0
# As many as one message may carry: SCM_MAX_FD of Linux.
_MAX_DESCRIPTORS = 253
# Descriptors of an engine that are not those of its pipes: its own, and those of its requests.
_RESERVED_DESCRIPTORS = 32
_READ_BYTES = 64 * 1024
# Files that are written at the same time, each by one thread, which may wait for its disk.
_WRITERS = 8


class EngineServer:
    """Serves the pipes that come by the control socket, until STOP, the end of the parent, or the end of its idle time.
    `parent_pid`: the process whose end it watches; None in a thread of its user's process.
    """

    def __init__(self, control: socket.socket, idle_s: float, parent_pid: int | None) -> None:
        control.setblocking(False)
        self._control = control
        self._idle_s = idle_s
        self._decoder = Decoder(ON_CONTROL)
        self._descriptors: deque[int] = deque()
        # Whether the other end was closed, and no STOP came before.
        self._control_ended = False
        self._connections: set[EngineConnection] = set()
        self._http = HttpClient()
        self._parent_pid = parent_pid
        # In a user's process its threads would wait for the GIL too often.
        self._hash_pool = HashPool(paged=parent_pid is not None)
        self._write_threads = WorkerThreads("getm-write", _WRITERS)
        self._folders = Folders()

    async def run(self) -> None:
        """Run until the end."""
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._parent_ended = asyncio.Event()
        self._active_at = self._loop.time()
        self._idle_timer = self._loop.call_later(self._idle_s, self._look_idle)
        self._loop.add_reader(self._control.fileno(), self._readable)
        parent = -1 if self._parent_pid is None else self._watch(self._parent_pid)
        try:
            await self._stopped.wait()
        finally:
            self._idle_timer.cancel()
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
            while self._descriptors:
                os.close(self._descriptors.popleft())
            for connection in list(self._connections):
                connection.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            if tasks:
                await asyncio.wait(tasks, timeout=1.0)
            if parent >= 0:
                if self._control_ended:
                    # A process that is killed closes its descriptors a moment before it counts as ended.
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._parent_ended.wait(), timeout=1.0)
                self._loop.remove_reader(parent)
                os.close(parent)
            if self._parent_pid not in (None, os.getppid()):
                self._folders.remove_stored()
            await self._http.close()
            self._hash_pool.close()
            self._write_threads.close()

    def _watch(self, parent_pid: int) -> int:
        """A descriptor that becomes readable when the parent ends. End of file on the control socket is not enough:
        a sibling that the parent forked may hold the other end. -1 where the system has no such descriptor."""
        try:
            descriptor = os.pidfd_open(parent_pid)
        except (AttributeError, OSError):
            # The system may not have it, or a seccomp profile refuse it: end of file must do then.
            descriptor = -1
        if os.getppid() != parent_pid:
            # It ended before it could be watched, or is not our parent.
            self._stopped.set()
        if descriptor >= 0:
            self._loop.add_reader(descriptor, self._end_of_parent, descriptor)
        return descriptor

    def _end_of_parent(self, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        self._parent_ended.set()
        self._stopped.set()

    def _readable(self) -> None:
        try:
            data, descriptors, _flags, _address = socket.recv_fds(self._control, _READ_BYTES, _MAX_DESCRIPTORS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        self._descriptors.extend(descriptors)
        if not data:
            self._control_ended = not self._stopped.is_set()
            self._stopped.set()
            return
        try:
            for message in self._decoder.feed(data):
                self._obey(message)
        except ProtocolError:
            # A parent of another version, which would not understand an answer.
            self._stopped.set()

    def _obey(self, message: Message) -> None:
        if message.kind is Kind.STOP:
            self._stopped.set()
            return
        request = decode_body(message, ServeRequest)
        count = 1 + (request.segment_token is None) + request.helpers
        # All of the message's, whatever becomes of it: what stayed would be taken for those of the next one.
        passed = [self._descriptors.popleft() for _ in range(min(count, len(self._descriptors)))]
        # Fewer come where this process has no room for them.
        if len(passed) == count and len(self._connections) < _max_connections():
            with contextlib.suppress(OSError):
                self._serve(request, passed)
        # Where it is not served, its consumer sees the end of its pipe before any message, and knows what that means;
        # no other transfer suffers.
        for descriptor in passed:
            os.close(descriptor)

    def _serve(self, request: ServeRequest, passed: list[int]) -> None:
        """Serve a pipe: the first of the descriptors, before the segment's, and those of pipes to helpers. Takes out of
        `passed` what is owned elsewhere from then on. Raises `OSError` where the segment cannot be mapped: for that a
        descriptor is needed as well.
        """
        token = request.segment_token
        segment = Segment.attach(request.segment_bytes, descriptor=passed.pop(1) if token is None else -1, token=token)
        if request.limit_rate is not None and self._http.throttle is None:
            self._http.throttle = Throttle(request.limit_rate)
        pipe, *helpers = [socket.socket(fileno=descriptor) for descriptor in passed]
        passed.clear()
        self._connections.add(
            EngineConnection(
                pipe,
                segment,
                request,
                helpers,
                self._http,
                self._hash_pool,
                self._write_threads,
                self._folders,
                self._changed,
            )
        )

    def _changed(self, connection: EngineConnection) -> None:
        self._active_at = self._loop.time()
        if connection.closed:
            self._connections.discard(connection)

    def _look_idle(self) -> None:
        """End, if nothing was served for the idle time; otherwise check again when that may be so."""
        if any(connection.active for connection in self._connections):
            self._active_at = self._loop.time()
        left_s = self._active_at + self._idle_s - self._loop.time()
        if left_s <= 0:
            self._stopped.set()
        else:
            self._idle_timer = self._loop.call_later(left_s, self._look_idle)


def _max_connections() -> int:
    """The most pipes to consumers: each has a descriptor, and needs another one for its requests."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(1, (limit - _RESERVED_DESCRIPTORS) // 2)


def serve(control: socket.socket, parent_pid: int | None, idle_s: float = IDLE_S) -> None:
    """Run an engine on this thread until it ends."""
    with asyncio.Runner(loop_factory=EngineLoop) as runner:
        runner.run(EngineServer(control, idle_s, parent_pid).run())


def main(control_descriptor: int, parent_pid: int) -> None:
    """The engine process. Ctrl-C goes to the whole process group: the engine leaves it to its parent."""
    # The parent says what permissions a new file gets: it may have changed its umask since.
    os.umask(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # As many descriptors as the system allows: the usual limit is for programs that use `select`.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        # macOS promises more than it gives.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Imported modules live as long as the process: the garbage collector need not examine them again and again.
    gc.freeze()
    set_rare_collections()
    gc.enable()
    serve(socket.socket(fileno=control_descriptor), parent_pid)
    # Nothing is left to wait for. The interpreter would free all imported modules one by one: a sixth of the CPU of a
    # short engine.
    os._exit(0)
