"""Checking one representation while its bytes arrive, in any order, off the consumer's thread and without copying."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from getm.core.coverage import Coverage
from getm.core.log import get_logger
from getm.integrity.algorithms import crc_function, new_digest
from getm.integrity.blocks import ALGORITHM
from getm.integrity.combine import GENERATORS
from getm.integrity.declared.types import Declared
from getm.integrity.hashing.streams import Block, BlockCrcStream, Crcs, CrcStream, HashStream, OrderedStream
from getm.integrity.hashing.threads import HashPool
from getm.integrity.multipart_etag import PartedMd5, candidate_part_bytes
from getm.integrity.values import DIGEST_BYTES, Checksum
from getm.integrity.verdict import Mismatch, Verdict, unverified

_log = get_logger("integrity")

INLINE_BYTES = 32 * 1024
"""Blocks up to this size are hashed by the feeding thread, in 40 µs or less for each digest: about what waking another
thread costs."""

_BLOCKS_A_TURN = 32
"""After this many blocks a stream goes back to the end of the pool's queue, so that one long transfer whose bytes are
all there does not keep others waiting."""

_DIFFERENT = "the bytes are not what was declared"


class PartsHasher:
    """Checks one representation against what it should be, from blocks of it that are fed in any order.

    `expectations` are all computed, in parallel; `size` is the representation's length in bytes, or None; `also` names
    algorithms to compute without an expectation (they appear in `Verdict.computed`). A multipart S3 ETag is computed
    for each candidate part size at once, in at most `multipart_etag.MAX_CANDIDATES` MD5 passes; where none fits, or
    `size` is None, the verdict is "not verified", never a mismatch. So it is for a git-blob without a `size`.
    `block_bytes`: the verdict also has the CRC32C of blocks of that size; None: it has not.

    Raises `MissingExtra` where an algorithm's package is not installed, `InvalidInput` for an unknown one.

    `feed` and `finish` are called from one thread at a time; `cancel` may be called from any.
    """

    def __init__(
        self,
        expectations: Sequence[Declared],
        *,
        size: int | None,
        pool: HashPool,
        also: Sequence[str] = (),
        block_bytes: int | None = None,
    ) -> None:
        self._expectations = tuple(expectations)
        self._pool = pool
        self._lock = threading.Lock()
        self._streams: dict[str, HashStream] = {}
        # For each multipart ETag the part sizes that its upload may have had.
        self._layouts: dict[Checksum, list[PartedMd5]] = {}
        names: list[str] = []
        for declared in self._expectations:
            if declared.checksum.algorithm == "git-blob" and size is None:
                continue
            if declared.checksum.parts is None:
                names.append(declared.checksum.algorithm)
            else:
                candidates = () if size is None else candidate_part_bytes(size, declared.checksum.parts)
                self._layouts[declared.checksum] = [PartedMd5(part_bytes) for part_bytes in candidates]
        self._blocks: BlockCrcStream | None = None
        if block_bytes is not None and size is not None:
            self._blocks = BlockCrcStream(crc_function(ALGORITHM), pool.threads, size, block_bytes)
        for name in dict.fromkeys((*names, *also)):
            if name == ALGORITHM and self._blocks is not None:
                self._streams[name] = self._blocks
            elif name in GENERATORS:
                self._streams[name] = CrcStream(name, crc_function(name), pool.threads)
            else:
                self._streams[name] = OrderedStream(new_digest(name, size, paged=pool.paged))
        layouts = [OrderedStream(layout) for each in self._layouts.values() for layout in each]
        streams = (*self._streams.values(), *layouts)
        alone = self._blocks is not None and ALGORITHM not in self._streams
        self._all_streams: tuple[HashStream, ...] = (*streams, self._blocks) if alone and self._blocks else streams
        self._coverage = Coverage()
        self._fed_bytes = 0
        self._open_blocks = 0
        self._cancelled = False
        self._failure: str | None = None
        self._callback: Callable[[Verdict], None] | None = None

    @property
    def ordered(self) -> bool:
        """Whether one thread computes a digest in the order of the bytes: that can lag behind a fast transfer. CRCs,
        which all threads compute together, do not."""
        return any(isinstance(stream, OrderedStream) for stream in self._all_streams)

    def feed(self, offset: int, view: memoryview, done: Callable[[], None]) -> None:
        """Hand over the bytes at `offset`: a contiguous view of bytes, which must not change until `done()` is called.

        `done` is called exactly once, from any thread, also after `cancel()`; the hasher's own reference to the view is
        gone by then. Never waits. Up to `INLINE_BYTES` are hashed before this returns, where no other block is open.
        """
        size_bytes = view.nbytes
        with self._lock:
            streams = self._all_streams if size_bytes and not self._cancelled else ()
            self._coverage.add(offset, offset + size_bytes)
            self._fed_bytes += size_bytes
            inline = size_bytes <= INLINE_BYTES and not self._open_blocks
            block = Block(offset, size_bytes, view, done, len(streams))
            self._open_blocks += bool(streams)
            ready = [stream for stream in streams if stream.offer(block)]
        # The streams hold the view now; this frame must not hold it longer than they do.
        del view
        if not streams:
            _give_back(block)
        for stream in ready:
            if inline:
                self._run(stream)
            else:
                self._pool.submit(partial(self._run, stream))

    def finish(self, total: int, callback: Callable[[Verdict], None]) -> None:
        """All of [0, total) has been fed: `callback` is called with the verdict, once, after every `done()`, from any
        thread; before `finish` returns where nothing is pending; not at all after `cancel()`.

        Raises `ValueError` (and cancels) when the spans fed are not exactly [0, total).
        """
        with self._lock:
            if self._cancelled:
                return
            # Each byte once: a digest that has read some twice is another one.
            covered = self._fed_bytes == total and self._coverage.is_exactly(total)
            if covered:
                self._callback = callback
        if not covered:
            self.cancel()
            raise ValueError(f"the blocks fed do not make up the {total} bytes of the representation")
        self._settle(0)

    def cancel(self) -> None:
        """Stop checking. Blocks not being read are given back at once, the others as soon as they have been read."""
        with self._lock:
            self._cancelled = True
            self._callback = None
            dropped = [block for stream in self._all_streams for block in stream.drop() if block.read_by_one()]
            self._open_blocks -= len(dropped)
        for block in dropped:
            _give_back(block)

    def _run(self, stream: HashStream) -> None:
        """Read what the stream has ready. Runs in a thread of the pool, or within `feed` for small blocks."""
        for _ in range(_BLOCKS_A_TURN):
            with self._lock:
                block = stream.take()
            if block is None:
                return
            result = self._read(stream, block)
            with self._lock:
                if not self._cancelled:
                    stream.merge(block, result)
                last = block.read_by_one()
            if last:
                _give_back(block)
                # Not before done() has returned, so that the verdict cannot overtake it.
                self._settle(1)
            del block  # an idle thread must not keep it
        self._pool.submit(partial(self._run, stream))

    def _read(self, stream: HashStream, block: Block) -> Crcs:
        try:
            return stream.read(block)
        except Exception as error:
            # A view released too early, a package that refuses it: the transfer must still end, and say so.
            _log.exception("hashing failed")
            self._failure = f"hashing failed: {type(error).__name__}: {error}"
            return ()

    def _settle(self, blocks: int) -> None:
        """So many blocks are done with: the verdict is given once all are."""
        with self._lock:
            self._open_blocks -= blocks
            callback = None if self._open_blocks else self._callback
            if callback is not None:
                self._callback = None
        if callback is not None:
            _call("the verdict", lambda: callback(self._verdict()))

    def _verdict(self) -> Verdict:
        computed = tuple(Checksum(name, stream.digest()) for name, stream in self._streams.items())
        if self._failure is not None:
            return unverified(self._failure)
        blocks = None if self._blocks is None else self._blocks.blocks()
        actual_by_name = {checksum.algorithm: checksum for checksum in computed}
        reasons: list[str] = []
        matched: Declared | None = None
        for declared in self._expectations:
            expected = declared.checksum
            if expected.algorithm not in actual_by_name and expected.parts is None:
                reasons.append(f"{expected} cannot be computed where the size is not known before the bytes")
                continue
            if expected.parts is None:
                actual = actual_by_name[expected.algorithm]
                if actual != expected:
                    return Verdict(False, None, None, _DIFFERENT, computed, Mismatch(declared, actual), blocks)
            elif any(
                layout.parts == expected.parts and layout.digest() == expected.value
                for layout in self._layouts[expected]
            ):
                computed += (expected,)
            else:
                reasons.append(_why_no_layout(expected, len(self._layouts[expected])))
                continue
            matched = matched or declared
        if matched is not None:
            return Verdict(True, matched.checksum, matched.source, None, computed, blocks=blocks)
        return unverified("; ".join(reasons) or "no checksum was declared", computed, blocks)


def check_small(declared: Declared, content: bytes | memoryview) -> Verdict:
    """The verdict on a representation by one checksum, which is none of a multipart upload: at once, in this thread.
    For up to `INLINE_BYTES`. Raises `MissingExtra`."""
    expected, view = declared.checksum, memoryview(content)
    name = expected.algorithm
    if name in GENERATORS:
        value = crc_function(name)(view, 0).to_bytes(DIGEST_BYTES[name], "big")
    else:
        digest = new_digest(name, view.nbytes)
        digest.update(view)
        value = digest.digest()
    actual = Checksum(name, value)
    if actual != expected:
        return Verdict(False, None, None, _DIFFERENT, (actual,), Mismatch(declared, actual))
    return Verdict(True, expected, declared.source, None, (actual,))


def _why_no_layout(etag: Checksum, tried: int) -> str:
    if not tried:
        return f"the part size of the upload behind {etag} cannot be found from the size of the object"
    return (
        f"none of the {tried} usual part sizes gives {etag}: either the upload used another one, "
        "or the bytes are wrong; this checksum cannot tell"
    )


def _give_back(block: Block) -> None:
    # The view goes first: done() may make its memory writable again.
    del block.view
    _call("a hashed block", block.done)


def _call(what: str, callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        _log.exception("the callback for %s failed", what)
