"""Memory for one whole object: an engine writes it, and once that has let go of it nobody can change it any more.

A memfd with seals (memfd_create(2), fcntl(2)). The consumer never maps it for writing. When the bytes are verified and
the engine has no mapping left, F_SEAL_WRITE makes the kernel refuse every further write, by any process. Where some
mapping is left, F_SEAL_FUTURE_WRITE refuses all others.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import sys
import weakref

from getm.buffers.segment import BACKING_VARIABLE, available_bytes
from getm.core.writing import write_all
from getm.errors import DescriptorsExhausted, MemoryUnavailable

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

# linux/fcntl.h and linux/mman.h; Python has not all of them.
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_F_SEAL_SEAL, _F_SEAL_SHRINK, _F_SEAL_GROW, _F_SEAL_WRITE, _F_SEAL_FUTURE_WRITE = 1, 2, 4, 8, 16
_MADV_POPULATE_WRITE = 23

# A share of what is available is left for others: so it is for those that come to need a little.
_LEFT_SHARE = 16
# Those that are being filled, whose pages may not be taken yet, by their identities. Used by single calls, which are
# atomic: objects are read in several threads, and end in finalisers.
_filling: dict[int, weakref.ref[ObjectMemory]] = {}


def _being_filled() -> list[ObjectMemory]:
    return [memory for reference in list(_filling.values()) if (memory := reference()) is not None]


# Pages are taken so many bytes at a time, just before they are written: the kernel clears them in one call, and they
# are still in the processor's cache. (All at once, before the first byte, takes a fifth more CPU.)
_STEP_BYTES = 4 * 1024 * 1024

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_MAP_FAILED = ctypes.c_void_p(-1).value


def is_supported() -> bool:
    """Whether this system has memory that can be sealed, and grants it: a seccomp profile may refuse it."""
    if sys.platform != "linux" or os.environ.get(BACKING_VARIABLE) == "posix":
        return False
    try:
        descriptor = _create()
        try:
            fcntl.fcntl(descriptor, _F_ADD_SEALS, _F_SEAL_GROW)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Those that have no descriptor left are told so.
        return DescriptorsExhausted.found(error) is not None
    return True


def _create(name: str = "getm-object") -> int:
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


class ObjectMemory:
    """Memory of `size` bytes for one object, in the consumer. `descriptor` is for the engine, and for other processes;
    close it with `close`: views stay valid. `name` tells it from all others, of any process."""

    # Nothing to close yet, should a Ctrl-C come in __init__.
    descriptor: int = -1

    def __init__(self, size: int, name: str | None = None, descriptor: int = -1) -> None:
        """New memory; or, with a name and a descriptor, which is this object's then, that of another process. Raises
        `MemoryUnavailable` where there is not so much, before any is taken."""
        self.size: int = size
        self.name: str = name or f"getm-object-{os.urandom(12).hex()}"
        if descriptor >= 0:
            self.descriptor = descriptor
            return
        available = available_bytes()
        if available is not None:
            available -= available // _LEFT_SHARE + sum(other.size for other in _being_filled())
            if size > available:
                raise _unavailable(size, max(0, available), "others need the rest")
        _filling[id(self)] = weakref.ref(self)
        try:
            self.descriptor = _create(self.name)
            os.ftruncate(self.descriptor, size)
            # From here on touching its pages can never end in SIGBUS by a change of its size.
            fcntl.fcntl(self.descriptor, _F_ADD_SEALS, _F_SEAL_SHRINK | _F_SEAL_GROW)
        except OSError as error:
            self.close()
            raise DescriptorsExhausted.found(error) or _unavailable(size, available, str(error)) from None

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        _filling.pop(id(self), None)
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def seal(self) -> None:
        """Nobody can change it any more."""
        _filling.pop(id(self), None)
        try:
            fcntl.fcntl(self.descriptor, _F_ADD_SEALS, _F_SEAL_WRITE | _F_SEAL_SEAL)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # The engine has not let go of it: it is done, and no other process can write.
            fcntl.fcntl(self.descriptor, _F_ADD_SEALS, _F_SEAL_FUTURE_WRITE | _F_SEAL_SEAL)

    def address(self) -> tuple[int, int, str]:
        """Where other processes find it: this process, its descriptor there, and the name."""
        return os.getpid(), self.descriptor, self.name

    @classmethod
    def find(cls, pid: int, descriptor: int, name: str, size: int) -> ObjectMemory:
        """The memory that another process has, or this one, by its address. Raises `MemoryUnavailable` where it has it
        no more."""
        path = f"/proc/{pid}/fd/{descriptor}"
        try:
            # For reading: it is sealed, and nobody gets another right to it.
            found = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DescriptorsExhausted.found(error) or _gone(pid, str(error)) from None
        memory = cls(size, name, found)
        # By the descriptor: the process may have closed its own, and have another file by that number.
        if not cls.is_at(os.getpid(), found, name) or os.fstat(found).st_size != size or not is_sealed(found):
            memory.close()
            raise _gone(pid, "it has closed it")
        return memory

    @staticmethod
    def is_at(pid: int, descriptor: int, name: str) -> bool:
        """Whether the memory of that name is there."""
        try:
            return os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith(f"/memfd:{name} ")  # noqa: PTH115 - no file
        except OSError:
            return False

    @classmethod
    def holding(cls, data: memoryview) -> ObjectMemory:
        """Sealed memory with a copy of `data`."""
        memory = cls(len(data))
        try:
            write_all(memory.descriptor, data, 0)
            memory.seal()
        except OSError as error:
            memory.close()
            raise _unavailable(len(data), available_bytes(), str(error)) from None
        except BaseException:
            memory.close()
            raise
        return memory

    def view(self) -> memoryview:
        """All of it, read-only. The memory is unmapped with the last view made from it."""
        return map_read_only(self.descriptor, self.size)


def _after_fork_in_child() -> None:
    # The threads that wait for them are not in the child, which would keep the memory as long as it lives.
    for memory in _being_filled():
        memory.close()


os.register_at_fork(after_in_child=_after_fork_in_child)


def is_sealed(descriptor: int) -> bool:
    """Whether nobody can change the memory any more. Raises OSError for what is no memfd."""
    seals: int = fcntl.fcntl(descriptor, _F_GET_SEALS)
    return bool(seals & (_F_SEAL_WRITE | _F_SEAL_FUTURE_WRITE))


def map_read_only(descriptor: int, size: int) -> memoryview:
    """Views of sealed memory. Raises `MemoryUnavailable` where the address space is used up.

    By a call of its own: Python's mmap keeps a descriptor for each mapping. MAP_PRIVATE, since before Linux 6.7 no
    shared mapping of write-sealed memory was allowed: what nobody writes to is never copied.
    """
    if not size:
        return memoryview(b"")
    address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE, descriptor, 0)
    if address == _MAP_FAILED:
        raise _unavailable(size, None, os.strerror(ctypes.get_errno()))
    array = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(array, _libc.munmap, address, size).atexit = False
    return memoryview(array).cast("B").toreadonly()


class WritableMemory:
    """The engine's mapping of an `ObjectMemory`, by its descriptor, which this closes."""

    def __init__(self, descriptor: int, size: int) -> None:
        try:
            self._map = mmap.mmap(descriptor, size)
        except (OSError, ValueError, OverflowError) as error:
            os.close(descriptor)
            raise DescriptorsExhausted.found(error, "the engine") or _unavailable(size, None, str(error)) from None
        self.descriptor: int = descriptor
        self.size: int = size
        self._view = memoryview(self._map)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        # Which steps have pages.
        self._taken = bytearray(-(-size // _STEP_BYTES))

    def space(self, start: int, stop: int) -> memoryview:
        """The memory for the bytes from `start` to `stop`, at most a step, which may be written. Raises
        `MemoryUnavailable`."""
        for step in {start // _STEP_BYTES, (stop - 1) // _STEP_BYTES}:
            if not self._taken[step]:
                self._take(step * _STEP_BYTES)
                self._taken[step] = 1
        return self._view[start:stop]

    def _take(self, start: int) -> None:
        # A page that is not there when it is written would end in SIGBUS where the memory has run out.
        length = min(_STEP_BYTES, self.size - start)
        try:
            # By ctypes, which releases the GIL, as Python's own call does not: hash threads want it.
            if _libc.madvise(self._address + start, length, _MADV_POPULATE_WRITE) < 0:
                number = ctypes.get_errno()
                if number != errno.EINVAL:
                    raise OSError(number, os.strerror(number))
                # Older than Linux 5.14.
                os.posix_fallocate(self.descriptor, start, length)
        except OSError as error:
            raise _unavailable(self.size, available_bytes(), str(error)) from None

    def write(self, start: int, data: memoryview) -> None:
        """Copy `data` to `start`. By a system call: pages that it fills need not be cleared first, as those of `space`.
        Raises `MemoryUnavailable`."""
        try:
            write_all(self.descriptor, data, start)
        except OSError as error:
            raise _unavailable(self.size, available_bytes(), str(error)) from None

    def bytes(self, start: int, stop: int) -> memoryview:
        """What was written there."""
        return self._view[start:stop].toreadonly()

    def close(self) -> bool:
        """Unmap it; False where a view of it is left."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self._view.release()
        with contextlib.suppress(BufferError):
            self._map.close()
        return self._map.closed


def _gone(pid: int, reason: str) -> MemoryUnavailable:
    return MemoryUnavailable(
        f"the process {pid} has the object's memory no more ({reason}): it must keep the shared object until others "
        "have it",
        wanted=None,
        available=None,
    )


def _unavailable(size: int, available: int | None, reason: str) -> MemoryUnavailable:
    left = "" if available is None else f", of which {available} are left"
    return MemoryUnavailable(
        f"the object needs {size} bytes of memory{left} ({reason}); read it in parts by iter_content, or download it "
        "to a file",
        wanted=size,
        available=available,
    )
