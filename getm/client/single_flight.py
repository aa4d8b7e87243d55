"""One transfer of a version of an object for all processes of a user on this machine.

For each version there is a small file, in a folder that only this user can use. Who has its lock brings the object, or
gets at the memory of a process that has it: the file says which processes those are. The kernel releases the lock when
its owner dies, at whatever moment (flock(2)).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from getm import errors
from getm.buffers.object_memory import ObjectMemory
from getm.core.lazy import importing
from getm.core.redact import redact
from getm.core.version import Version
from getm.integrity.declared.types import Declared
from getm.integrity.values import parse_checksum
from getm.integrity.verdict import Mismatch, Verdict
from getm.protocol.messages import OpenRequest


class Holding(msgspec.Struct, frozen=True):
    """The memory that some processes have: the name and size of it, what verified it, and each process with its
    descriptor."""

    name: str
    size: int
    verdict: Verdict
    version: Version
    holders: tuple[tuple[int, int], ...]


# The descriptors of the locks that this process has, or waits for. A forked child would keep them when this process is
# killed.
_locks: set[int] = set()


def _after_fork_in_child() -> None:
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_after_fork_in_child)


def key_of(url: str, version: Version) -> str:
    """What is the same for each request for one version: `url`, which is redacted, without a query, since that has the
    signature of a signed URL; and the strong validator."""
    text = "\0".join((url, str(version.size), version.strong or ""))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class Flight:
    """The place at which processes meet that want one version. To be used while `taken`."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._path = _folder() / key
        self._descriptor = -1

    @contextlib.contextmanager
    def taken(self, timeout_s: float | None) -> Iterator[None]:
        """A context in which no other process, and no other thread, is in it. Raises `TimedOut`, `TargetError`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while not self._try_lock(None if deadline is None else max(0.0, deadline - time.monotonic())):
                pass
        except errors.TimedOut as error:
            error.timeout_s = timeout_s or 0.0
            raise
        except OSError as error:
            found = errors.DescriptorsExhausted.found(error)
            raise found or errors.TargetError(
                f"{self._path} cannot be used ({error}): it is where processes meet that share a transfer",
                path=str(self._path),
                errno=error.errno,
            ) from None
        try:
            yield
        finally:
            self._unlock()

    def _try_lock(self, timeout_s: float | None) -> bool:
        """Lock the file; False where another process has removed it in the meantime."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        _locks.add(self._descriptor)
        try:
            _lock_within(self._descriptor, timeout_s)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):  # noqa: PTH116
                    return True
        except errors.TimedOut:
            # The thread that waits for it closes it.
            raise
        except BaseException:
            self._unlock()
            raise
        self._unlock()
        return False

    def _unlock(self) -> None:
        # The lock ends with the descriptor.
        _close(self._descriptor)

    def find(self) -> tuple[ObjectMemory, Holding] | None:
        """The memory, from a process that has it; None where none has."""
        holding = self._read()
        if holding is None:
            return None
        for pid, descriptor in holding.holders:
            with contextlib.suppress(errors.MemoryUnavailable):
                return ObjectMemory.find(pid, descriptor, holding.name, holding.size), holding
        return None

    def add(self, memory: ObjectMemory, verdict: Verdict, version: Version) -> None:
        """This process has the memory from now on."""
        known = self._read()
        pid, descriptor, name = memory.address()
        holders = () if known is None or known.name != name else known.holders
        living = [each for each in holders if ObjectMemory.is_at(*each, name)]
        holding = Holding(name, memory.size, verdict, version, (*living, (pid, descriptor)))
        data = msgspec.msgpack.encode(holding)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, data, 0)

    def _read(self) -> Holding | None:
        try:
            data = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
            return msgspec.msgpack.decode(data, type=Holding)
        except msgspec.MsgspecError:
            # Nobody has written to it, or only a part before a kill.
            return None

    def sweep(self) -> None:
        """Remove the files of others whose memory is gone, and which nobody waits for."""
        for path in self._path.parent.iterdir():
            if path == self._path or len(path.name) != len(self._key):
                continue
            with contextlib.suppress(OSError):
                other = Flight(path.name)
                other._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                _locks.add(other._descriptor)
                try:
                    fcntl.flock(other._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    holding = other._read()
                    if holding is None or not any(ObjectMemory.is_at(*each, holding.name) for each in holding.holders):
                        path.unlink()
                finally:
                    other._unlock()


def _close(descriptor: int) -> None:
    _locks.discard(descriptor)
    os.close(descriptor)


def _lock_within(descriptor: int, timeout_s: float | None) -> None:
    """Wait for the lock. Raises `TimedOut`: then the descriptor is closed later."""
    if timeout_s is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    # The system has no limit for this wait, so it is another thread's.
    waiting = _Waiting(descriptor)
    threading.Thread(target=waiting.run, name="getm-lock", daemon=True).start()
    if not waiting.wait(timeout_s):
        raise errors.TimedOut(
            "another process was bringing the object until the time for the whole was over",
            phase="total",
            timeout_s=timeout_s,
        )


class _Waiting:
    """Waits for a lock in a thread, and gives it back where nobody wants it any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._abandoned = False

    def run(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        with self._lock:
            self._ended.set()
            if self._abandoned:
                _close(self._descriptor)

    def wait(self, timeout_s: float) -> bool:
        self._ended.wait(timeout_s)
        with self._lock:
            self._abandoned = not self._ended.is_set()
        return not self._abandoned


def _folder() -> Path:
    """The folder of this user. Raises `TargetError` where others could use it as well."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    # Some set it for sessions that have none.
    if runtime and os.access(runtime, os.W_OK):
        folder = Path(runtime) / "getm"
    else:
        folder = Path(tempfile.gettempdir()) / f"getm-{os.geteuid()}"
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(errno.EPERM, "it is not a folder of this user alone")
    except OSError as error:
        raise errors.TargetError(
            f"{folder} cannot be used ({error}): it is where processes meet that share a transfer",
            path=str(folder),
            errno=error.errno,
        ) from None
    return folder


def verdict_of_found(request: OpenRequest, memory: ObjectMemory, verdict: Verdict) -> Verdict:
    """The verdict on memory that another process has filled, whose verdict is `verdict`. Raises `IntegrityError`."""
    if request.checksums is not None:
        for text in request.checksums:
            expected = parse_checksum(text)
            if expected in verdict.computed:
                actual = expected
            else:
                with importing:
                    from getm.integrity.files import checksum
                actual = expected if expected.parts is not None else checksum(memory.view(), expected.algorithm)
            if actual != expected:
                memory.close()
                raise Mismatch(Declared(expected, "caller"), actual).as_error(redact(request.url))
            if expected.parts is None:
                verdict = Verdict(True, expected, "caller", None, (*verdict.computed, expected))
    if request.strict and not verdict.verified:
        memory.close()
        raise errors.Unverified(
            f"strict was asked for and nothing verified the bytes: {verdict.reason}",
            url=redact(request.url),
            reason=verdict.reason or "",
        )
    return verdict
