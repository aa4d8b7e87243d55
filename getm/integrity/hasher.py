"""Checking one representation while its parts arrive, in any order, off the consumer's thread and without copying."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from getm.integrity.algorithms import crc_function, is_crc, new_digest
from getm.integrity.declared import Declared
from getm.integrity.pool import HashPool
from getm.integrity.s3etag import PartedMd5, candidate_part_bytes
from getm.integrity.strands import Coverage, CrcStrand, OrderedStrand, Strand, Ticket
from getm.integrity.value import Checksum
from getm.integrity.verdict import Mismatch, Verdict, unverified
from getm.log import get_logger

_log = get_logger("integrity")

INLINE_BYTES = 32 * 1024
"""Parts up to this size are hashed by the feeding thread, at 40 µs or less for each digest: about what waking another
thread costs."""

_TURN_PARTS = 32
"""After this many parts a strand goes back to the end of the pool's queue, so that one long transfer with everything
at hand does not keep others waiting."""


_DIFFERENT = "the bytes are not what was declared"


class PartsHasher:
    """Checks one representation against what it should be, as its parts are fed.

    `expectations` are all computed, in parallel; `size` is the representation's length in bytes, or None; `also` names
    algorithms to compute without an expectation (they appear in `Verdict.computed`). A multipart S3 ETag is computed
    for each candidate part size at once, at most `s3etag.MAX_CANDIDATES` MD5 passes; where none fits, or `size` is
    None, the verdict is "not verified", never a mismatch.

    Raises `MissingExtra` where an algorithm's package is not installed, `InvalidInput` for an unknown one.

    Parts are fed from one thread at a time; `cancel` may come from any.
    """

    def __init__(
        self, expectations: Sequence[Declared], *, size: int | None, pool: HashPool, also: Sequence[str] = ()
    ) -> None:
        self._expectations = tuple(expectations)
        self._pool = pool
        self._lock = threading.Lock()
        self._strands: dict[str, Strand] = {}
        self._layouts: dict[Checksum, list[tuple[PartedMd5, Strand]]] = {}
        self._also = tuple(also)
        for declared in self._expectations:
            if declared.checksum.parts is None:
                self._add(declared.checksum.algorithm)
            else:
                self._add_layouts(declared.checksum, size)
        for algorithm in self._also:
            self._add(algorithm)
        layouts = [strand for layout in self._layouts.values() for _, strand in layout]
        self._all_strands: tuple[Strand, ...] = (*self._strands.values(), *layouts)
        self._coverage = Coverage()
        self._open_parts = 0
        self._cancelled = False
        self._failure: str | None = None
        self._callback: Callable[[Verdict], None] | None = None

    def _add(self, algorithm: str) -> None:
        if algorithm in self._strands:
            return
        if is_crc(algorithm):
            self._strands[algorithm] = CrcStrand(algorithm, crc_function(algorithm), self._pool.threads)
        else:
            self._strands[algorithm] = OrderedStrand(new_digest(algorithm, paged=self._pool.paged))

    def _add_layouts(self, etag: Checksum, size_bytes: int | None) -> None:
        if etag in self._layouts or etag.parts is None:
            return
        candidates = () if size_bytes is None else candidate_part_bytes(size_bytes, etag.parts)
        guesses = [PartedMd5(part_bytes) for part_bytes in candidates]
        self._layouts[etag] = [(guess, OrderedStrand(guess)) for guess in guesses]

    @property
    def ordered(self) -> bool:
        """Whether there is a digest that one thread computes in the order of the bytes: that lags behind a fast
        transfer, as CRCs, which every thread takes part in, do not."""
        return any(isinstance(strand, OrderedStrand) for strand in self._all_strands)

    def feed(self, offset: int, view: memoryview, done: Callable[[], None]) -> None:
        """Hand over the bytes at `offset`: a contiguous view of bytes, which is read until `done()` is called.

        That happens exactly once, from any thread, also after `cancel()`; the hasher's own reference to the view is
        gone by then. Never waits. A part of up to `INLINE_BYTES` with nothing unfinished before it is hashed here and
        now.
        """
        size_bytes = view.nbytes
        inline = False
        with self._lock:
            wanted = bool(self._all_strands) and size_bytes > 0 and not self._cancelled
            if size_bytes and not self._cancelled:
                self._coverage.add(offset, size_bytes)
            if wanted:
                inline = size_bytes <= INLINE_BYTES and not self._open_parts
                self._open_parts += 1
                ticket = Ticket(offset, view, done, len(self._all_strands))
                ready = [strand for strand in self._all_strands if strand.offer(ticket)]
        # From here on the strands hold the view, and this frame must not outlast them in that.
        del view
        if not wanted:
            _call(done)
        elif inline:
            for strand in ready:
                self._run(strand)
        else:
            for strand in ready:
                self._pool.submit(partial(self._run, strand))

    def finish(self, total: int, callback: Callable[[Verdict], None]) -> None:
        """All of [0, total) has been fed: `callback` gets the verdict, once and after every `done()`, from any thread;
        from this one, before `finish` returns, if nothing is pending. After `cancel()` it is not called.

        Raises `ValueError` (and cancels) when the spans fed are not exactly [0, total).
        """
        with self._lock:
            if self._cancelled:
                return
            covered = self._coverage.is_exactly(total)
            if covered:
                self._callback = callback
            due = self._callback_if_due()
        if not covered:
            self.cancel()
            raise ValueError(f"the parts fed do not make up the {total} bytes of the representation")
        if due is not None:
            self._deliver(due)

    def cancel(self) -> None:
        """Stop checking. Parts not being read now are given back at once, the others as soon as they have been."""
        with self._lock:
            self._cancelled = True
            self._callback = None
            dropped = [ticket for strand in self._all_strands for ticket in strand.drop() if ticket.read_by_one()]
            self._open_parts -= len(dropped)
        for ticket in dropped:
            _give_back(ticket)

    def _run(self, strand: Strand) -> None:
        """Read what the strand has ready. Runs in a pool thread, or in `feed` for small parts."""
        with self._lock:
            ticket = strand.take()
        turn = 0
        while ticket is not None:
            result = self._read(strand, ticket.view)
            with self._lock:
                if not self._cancelled:
                    strand.absorb(ticket, result)
                last = ticket.read_by_one()
            if last:
                _give_back(ticket)
            turn += 1
            due = None
            with self._lock:
                if last:
                    # Only now, so that the verdict cannot overtake the done() just called.
                    self._open_parts -= 1
                    due = self._callback_if_due()
                ticket = strand.take() if turn < _TURN_PARTS else None
            if due is not None:
                self._deliver(due)
        if turn == _TURN_PARTS:
            self._pool.submit(partial(self._run, strand))

    def _read(self, strand: Strand, view: memoryview) -> int:
        try:
            return strand.read(view)
        except Exception as error:
            # A view released too early, a package that refuses it: the transfer must still end, and say so.
            _log.exception("hashing failed")
            self._failure = f"hashing failed: {type(error).__name__}: {error}"
            return 0

    def _callback_if_due(self) -> Callable[[Verdict], None] | None:
        if self._open_parts:
            return None
        callback, self._callback = self._callback, None
        return callback

    def _deliver(self, callback: Callable[[Verdict], None]) -> None:
        try:
            callback(self._verdict())
        except Exception:
            _log.exception("the callback for the verdict failed")

    def _verdict(self) -> Verdict:
        computed = tuple(Checksum(name, strand.digest()) for name, strand in self._strands.items())
        if self._failure is not None:
            return unverified(self._failure)
        actual_by_name = {checksum.algorithm: checksum for checksum in computed}
        reasons: list[str] = []
        matched: Declared | None = None
        for declared in self._expectations:
            expected = declared.checksum
            if expected.parts is None:
                actual = actual_by_name[expected.algorithm]
                if actual != expected:
                    return Verdict(False, None, None, _DIFFERENT, computed, Mismatch(declared, actual))
            elif not self._layout_fits(expected):
                reasons.append(_why_no_layout(expected, len(self._layouts[expected])))
                continue
            else:
                computed += (expected,)
            matched = matched or declared
        if matched is not None:
            return Verdict(True, matched.checksum, matched.source, None, computed)
        return unverified("; ".join(reasons) or "no checksum was declared", computed)

    def _layout_fits(self, etag: Checksum) -> bool:
        return any(guess.parts == etag.parts and strand.digest() == etag.value for guess, strand in self._layouts[etag])


def _why_no_layout(etag: Checksum, tried: int) -> str:
    if not tried:
        return f"the part size of the upload behind {etag} cannot be found from the size of the object"
    return (
        f"none of the {tried} usual part sizes gives {etag}: either the upload used another one, "
        "or the bytes are wrong; this checksum cannot tell"
    )


def _give_back(ticket: Ticket) -> None:
    # The view goes first: done() may make its memory writable again.
    del ticket.view
    _call(ticket.done)


def _call(done: Callable[[], None]) -> None:
    try:
        done()
    except Exception:
        _log.exception("the callback for a hashed part failed")
