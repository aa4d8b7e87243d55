"""One segment of memory that two processes map. It has a descriptor and no name."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sys
from pathlib import Path

from getm.errors import DescriptorsExhausted, MemoryUnavailable

# Set to "posix" to use POSIX shared memory though memfd is there.
BACKING_VARIABLE = "GETM_SHARED_MEMORY"

# linux/mman.h, since 5.14: the pages are there afterwards, or it fails.
_MADV_POPULATE_WRITE = 23

# Segments for an engine in a thread of this process: mapping them twice by a descriptor would only cost page tables.
_private: dict[int, mmap.mmap] = {}


class Segment:
    """`size` bytes of memory, of which the first `reserved` may be used: touching those can never end in SIGBUS.

    `memory` is the mapping. It is never closed, since views may be exported from it: it is freed with the last of them.
    `descriptor` (-1 for private memory) is sent to the engine over a Unix socket; then call `close_descriptor`.
    """

    # Nothing to close yet, should a Ctrl-C come in __init__.
    descriptor: int = -1

    def __init__(
        self, memory: mmap.mmap, descriptor: int, token: int | None = None, reserved: int | None = None
    ) -> None:
        self.memory = memory
        self.token = token
        self.size: int = len(memory)
        self.reserved: int = self.size if reserved is None else reserved
        self.descriptor = descriptor

    def __del__(self) -> None:
        # Ctrl-C may have come before `close_descriptor`.
        if self.descriptor >= 0:
            os.close(self.descriptor)

    @classmethod
    def create(cls, size: int, *, private: bool = False, reserved: int | None = None) -> Segment:
        """A new segment of `size` bytes, all of them reserved, or only so many.

        With `private`, memory of this process only. Raises `MemoryUnavailable` where the machine cannot give it.
        """
        reserved = size if reserved is None else reserved
        available = available_bytes()
        if available is not None and reserved > available:
            # Checked here: beyond the limit of a control group, reserving memory does not fail but kills the process.
            raise _unavailable(reserved, available, "the machine, or the control group, has less")
        if private:
            return cls._create_private(size)
        memfd = sys.platform == "linux" and os.environ.get(BACKING_VARIABLE) != "posix"
        refused = ""
        for opener in (_open_memfd, _open_posix) if memfd else (_open_posix,):
            try:
                descriptor = opener()
                try:
                    _reserve(descriptor, size, reserved)
                    return cls(mmap.mmap(descriptor, size), descriptor, reserved=reserved)
                except BaseException:
                    os.close(descriptor)
                    raise
            except (OSError, ImportError, ValueError, OverflowError) as error:
                # A seccomp profile may refuse memfd_create; a container may have no /dev/shm; under a memory limit not
                # even the module may load. Try the next one.
                if found := DescriptorsExhausted.found(error):
                    raise found from None
                refused = str(error)
        raise _unavailable(reserved, available, refused)

    def reserve(self, stop: int) -> bool:
        """Reserve the bytes up to `stop` as well; False where the system cannot, and those so far stay."""
        if stop <= self.reserved:
            return True
        available = available_bytes()
        if available is not None and stop - self.reserved > available:
            return False
        start = self.reserved // mmap.PAGESIZE * mmap.PAGESIZE
        try:
            self.memory.madvise(_MADV_POPULATE_WRITE, start, stop - start)
        except (AttributeError, OSError):
            # Older than Linux 5.14, or not Linux; or there is less memory than the system has said.
            return False
        self.reserved = stop
        return True

    @classmethod
    def _create_private(cls, size: int) -> Segment:
        try:
            # Private: a forked process keeps its views as they are.
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, ValueError) as error:
            raise MemoryUnavailable(f"{size} bytes of memory could not be allocated ({error})", wanted=size) from None
        token = id(memory)
        _private[token] = memory
        return cls(memory, -1, token)

    @classmethod
    def attach(cls, size: int, *, descriptor: int = -1, token: int | None = None) -> Segment:
        """Map a segment that the other end created. Closes the descriptor."""
        if token is not None:
            return cls(_private.pop(token), -1)
        try:
            return cls(mmap.mmap(descriptor, size), -1)
        finally:
            os.close(descriptor)

    def close_descriptor(self) -> None:
        """To be called when the engine has the descriptor: from then on the mapping alone keeps the memory."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self.token is not None:
            _private.pop(self.token, None)


def _unavailable(size: int, available: int | None, reason: str) -> MemoryUnavailable:
    return MemoryUnavailable(
        f"shared memory of {size} bytes could not be allocated ({reason}); lower max_memory, or use concurrency=None, "
        "which needs none",
        wanted=size,
        available=available,
    )


def _open_memfd() -> int:
    # Anonymous: no name to leak, no size limit of its own, gone with the last process that maps it.
    return os.memfd_create("getm", os.MFD_CLOEXEC)


def _open_posix() -> int:
    # The module behind multiprocessing.shared_memory, without the resource tracker process that the latter starts.
    import _posixshmem  # type: ignore[import-not-found]  # not in typeshed

    name = f"/getm-{os.urandom(8).hex()}"
    descriptor: int = _posixshmem.shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
    # Unlinked before it is used: the descriptor is passed on, so no name is needed, and none can be left behind.
    _posixshmem.shm_unlink(name)
    return descriptor


def _reserve(descriptor: int, size: int, reserved: int) -> None:
    """Give the file its size, and its first pages now. A sparse file would end in SIGBUS when memory runs out later."""
    os.ftruncate(descriptor, size)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, reserved)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise


def available_bytes() -> int | None:
    """Bytes of memory that could be taken without pushing the machine or this process's cgroup over its limit.

    None where the system does not say. Reserving more than a cgroup allows does not fail: it kills.
    """
    known = [value for value in (_machine_bytes(), _cgroup_bytes(), _posix_bytes()) if value is not None]
    return min(known) if known else None


def _number(file: Path, *names: str) -> int | None:
    """The number of the first of these names in a file with one name and number a line; None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            name, number, *_ = line.split()
            if name in names:
                return int(number)
    return None


def _machine_bytes() -> int | None:
    kib = _number(Path("/proc/meminfo"), "MemAvailable:")
    return None if kib is None else kib * 1024


def _cgroup_bytes(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """What the control group (v1 or v2) and all its ancestors still allow."""
    limits: list[int] = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit_name, used_name = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit_name, used_name = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = base / path.lstrip("/")
        for level in (folder, *folder.parents):
            if not level.is_relative_to(base):
                break
            with contextlib.suppress(OSError, ValueError):
                # Not every level shows its files inside a container; the others still count.
                limit, used = (level / limit_name).read_text().strip(), int((level / used_name).read_text())
                if limit != "max":
                    # The kernel frees page cache before it kills: without it, a group that has read files would look
                    # full.
                    cache = _number(level / "memory.stat", "inactive_file", "total_inactive_file") or 0
                    limits.append(max(0, int(limit) - used + cache))
    return min(limits) if limits else None


def _posix_bytes() -> int | None:
    """Free bytes of /dev/shm, where segments are there; else None."""
    if os.environ.get(BACKING_VARIABLE) != "posix" and sys.platform == "linux":
        return None
    try:
        info = os.statvfs("/dev/shm")
    except OSError:
        return None
    return info.f_bavail * info.f_frsize
