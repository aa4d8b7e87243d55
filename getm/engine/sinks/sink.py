"""What the bytes of one span go into, whatever takes them: the interface of `RingSink` and `SegmentSink`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from getm.core.spans import Span


class Sink(Protocol):
    """Takes the bytes of one span, in order, to its end; where that is not known, to that of the content.

    `fast`: nothing less than a whole block need be taken notice of. `waited`: whether there was no room at any time
    since this was last cleared; `waits`: how often. `may_cut`: whether a response fills it that may be cut.
    """

    position: int
    stop: int
    fast: bool
    waited: bool
    waits: int
    may_cut: bool

    @property
    def remaining(self) -> Span:
        """The bytes still to come."""

    @property
    def ended(self) -> bool:
        """Whether nothing more is wanted."""

    def border(self, position: int) -> int:
        """Where it may be cut: at or beyond `position`, and beyond what is being filled."""

    def cut(self, stop: int, *, hold: bool) -> None:
        """Others bring the bytes from `stop` on, a border. `hold`: wait there until `resume`, since it is not certain
        that they can."""

    def resume(self, stop: int | None = None) -> None:
        """After `cut` with `hold`: others bring the rest; or nobody does, and `stop` is where it was before."""

    async def begin(self) -> None:
        """Wait until the span may be fetched."""

    def notify(self, on_space: Callable[[], None], on_pace: Callable[[], None]) -> None:
        """Call `on_space()` when there is space again after `space()` found none; `on_pace()` when `fast` changes."""

    def silence(self) -> None:
        """Call nothing any more."""

    def space(self) -> memoryview | None:
        """The memory for the next bytes, never empty. None where there is none now, or no more is wanted, or may be."""

    def advance(self, count: int) -> bool:
        """`count` bytes were written to `space()`. True where `space()` is then another one."""

    def end_of_content(self) -> None:
        """The content of unknown length has ended."""

    async def write(self, data: bytes | memoryview) -> None:
        """Copy `data`, waiting for room as needed: the plain path."""

    def close(self) -> None:
        """The span is over, complete or not."""
