"""An object in memory that processes share: what `shared` returns."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from getm.buffers.object_memory import ObjectMemory
from getm.core.brief import cut
from getm.core.version import Version
from getm.errors import MemoryUnavailable
from getm.integrity.verdict import Verdict

__all__ = ["SharedObject"]


class SharedObject:
    """A whole object in memory that nobody can change, and that other processes can map: the same pages, no copy.

    It can be pickled, into `multiprocessing` workers of every start method, `concurrent.futures`, or any other process
    of the same user on this machine. Who unpickles it maps the memory of who pickled it, and must do so while that
    process has this open; it has memory of its own right from then on. Forked processes need no pickle.

    Views stay valid after `close`, which only ends that others can get at the memory by this object.

    Attributes:
        size: in bytes.
        checksum: what verified the bytes, or why nothing did.
        version: Size and validators of the object.

    Example:
        >>> with getm.shared("https://data.example.org/numbers.f64") as numbers:
        ...     with concurrent.futures.ProcessPoolExecutor() as workers:
        ...         print(list(workers.map(work, [numbers] * 8)))
    """

    def __init__(self, memory: ObjectMemory, checksum: Verdict, version: Version) -> None:
        self.size: int = memory.size
        self.checksum: Verdict = checksum
        self.version: Version = version
        self._memory = memory
        self._view = memory.view()

    @property
    def view(self) -> memoryview:
        """The bytes, read-only. It stays valid as long as it is held."""
        return self._view

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"<{cut(f'SharedObject of {self.size} bytes, {self.checksum}', 97)}>"

    def close(self) -> None:
        """End that other processes can get at the memory by this object. Its views stay valid.

        Example:
            >>> numbers = getm.shared("https://data.example.org/numbers.f64")
            >>> numbers.close()
        """
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._memory.descriptor < 0:
            raise MemoryUnavailable("the shared object is closed: other processes cannot get at its memory any more")
        # While multiprocessing starts a process, it can pass the descriptor itself: then this object need not be kept.
        context = sys.modules.get("multiprocessing.context")
        if context is not None and context.get_spawning_popen() is not None:
            from multiprocessing.reduction import DupFd

            return _passed, (DupFd(self._memory.descriptor), self._memory.name, self.size, self.checksum, self.version)
        return _found, (*self._memory.address(), self.size, self.checksum, self.version)


def _found(pid: int, descriptor: int, name: str, size: int, checksum: Verdict, version: Version) -> SharedObject:
    return SharedObject(ObjectMemory.find(pid, descriptor, name, size), checksum, version)


def _passed(descriptor: Any, name: str, size: int, checksum: Verdict, version: Version) -> SharedObject:
    return SharedObject(ObjectMemory(size, name, descriptor.detach()), checksum, version)
