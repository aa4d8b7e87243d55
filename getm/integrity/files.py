"""Checksums of files and of bytes in memory: reading and hashing overlap, several algorithms share one pass."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

from getm.core.validate import refuse, validate_path
from getm.integrity.algorithms import require_algorithm
from getm.integrity.blocks import block_bytes_for
from getm.integrity.declared.types import Declared
from getm.integrity.hashing.hasher import PartsHasher
from getm.integrity.hashing.threads import HashPool, borrowed
from getm.integrity.values import Checksum
from getm.integrity.verdict import Verdict

if TYPE_CHECKING:
    from typing_extensions import Buffer

_READ_BYTES = 1 << 20
_READ_AHEAD = 4
"""Buffers for each file: enough to keep two digests busy while the disk is read, few enough for the CPU's cache."""

_FEED_BYTES = 4 << 20


def checksum(source: str | os.PathLike[str] | Buffer, algorithm: str = "sha256") -> Checksum:
    """Compute the checksum of a file or of bytes in memory, in threads of its own and without holding the GIL.

    Args:
        source: A file's path (`str` or path-like), or any object with the buffer protocol (`bytes`, a memoryview, a
            NumPy array).
        algorithm: md5, sha1, sha224, sha256, sha384, sha512, git-blob, crc32, crc32c, crc64nvme, or, where the extra is
            installed, blake3, xxh64, xxh3-64, xxh3-128, in any usual spelling; s3-etag is that of a single-part upload.

    Returns:
        The checksum. `str()` gives "algorithm:hex".

    Raises:
        InvalidInput: An unknown algorithm, or a source that is neither a path nor a buffer.
        MissingExtra: The algorithm's package is not installed.
        OSError: The file cannot be read.

    Example:
        >>> str(getm.checksum(b"123456789", "crc32"))
        'crc32:cbf43926'
    """
    names = (require_algorithm(algorithm),)
    if isinstance(source, (str, os.PathLike)):
        return check_file(validate_path(source, "source"), also=names).computed[0]
    view = _flat(source)
    blocks = ((view[start : start + _FEED_BYTES], _nothing) for start in range(0, view.nbytes, _FEED_BYTES))
    with HashPool() as pool:
        return _check(PartsHasher((), size=view.nbytes, pool=pool, also=names), blocks).computed[0]


def check_file(
    file: str | os.PathLike[str] | int,
    expected: Iterable[Checksum | Declared] = (),
    *,
    also: Sequence[str] = (),
    blocks: bool = False,
    pool: HashPool | None = None,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> Verdict:
    """Read a file once, check it against `expected` and compute the (canonical) algorithms `also`; and `blocks`, the
    CRC32C of its blocks.

    The verdict's source is "caller" for those that do not say who declared them. A mismatch is in the verdict and is
    not raised; a multipart S3 ETag can come out as "not verified", see `PartsHasher`. A descriptor is read from its
    position to the end, and stays open. `on_bytes` is called with the number of bytes of each read; what it raises ends
    the work and is passed on. Raises `MissingExtra`, or `OSError` where the file cannot be read.
    """
    declared = [each if isinstance(each, Declared) else Declared(each, "caller") for each in expected]
    with open(file, "rb", buffering=0, closefd=not isinstance(file, int)) as opened, borrowed(pool) as threads:
        state = os.fstat(opened.fileno())
        size_bytes = state.st_size - opened.tell() if stat.S_ISREG(state.st_mode) else None
        block_bytes = block_bytes_for(size_bytes) if blocks else None
        hasher = PartsHasher(declared, size=size_bytes, pool=threads, also=also, block_bytes=block_bytes)
        # One byte more than the file: a small file then shows its end without a second buffer.
        buffer_bytes = min(_READ_BYTES, size_bytes + 1) if size_bytes else _READ_BYTES
        return _check(hasher, _blocks(opened.fileno(), buffer_bytes, on_bytes))


def check_blocks(blocks: Iterable[bytes], size: int | None, expected: Iterable[Declared]) -> Verdict:
    """`check_file` for bytes that come from elsewhere, in order. `size`: of all of them, None where unknown."""
    turns: SimpleQueue[None] = SimpleQueue()
    for _ in range(_READ_AHEAD):
        turns.put(None)

    def taken() -> Iterator[_Block]:
        for block in blocks:
            turns.get()
            yield memoryview(block), partial(turns.put, None)

    with HashPool() as pool:
        return _check(PartsHasher(list(expected), size=size, pool=pool), taken())


_Block = tuple[memoryview, Callable[[], None]]
"""Bytes, and whom to call when they have been read."""


def _blocks(descriptor: int, buffer_bytes: int, on_bytes: Callable[[int], None]) -> Iterator[_Block]:
    """The bytes of a file, in buffers that are used in turns."""
    free: SimpleQueue[bytearray] = SimpleQueue()
    made = 0
    while True:
        if free.empty() and made < _READ_AHEAD:
            made += 1
            free.put(bytearray(buffer_bytes))
        buffer = free.get()
        # Not readinto(), which takes the "nothing yet" of a non-blocking descriptor for the end.
        count = os.readv(descriptor, (buffer,))
        if not count:
            return
        yield memoryview(buffer)[:count], partial(free.put, buffer)
        on_bytes(count)


def _check(hasher: PartsHasher, blocks: Iterable[_Block]) -> Verdict:
    """The verdict on all blocks, which come in order."""
    offset = 0
    try:
        for view, done in blocks:
            hasher.feed(offset, view, done)
            offset += view.nbytes
        verdicts: SimpleQueue[Verdict] = SimpleQueue()
        hasher.finish(offset, verdicts.put)
        return verdicts.get()
    finally:
        hasher.cancel()


def _flat(source: Buffer) -> memoryview:
    """All bytes of a buffer: a view, or a copy where no view can show them as bytes."""
    try:
        view = memoryview(source)
    except TypeError:
        refuse("source", "a path or an object with the buffer protocol", source)
    except ValueError:
        return memoryview(b"".join((source,)))  # NumPy's dates, which have no format but bytes
    return view.cast("B") if view.nbytes and view.c_contiguous else memoryview(view.tobytes())


def _nothing() -> None:
    """The caller of `checksum` keeps the bytes alive; nobody waits for single blocks."""
