"""How fast something comes, and how long it will still take."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from getm.cli.output.columns import Row
from getm.cli.output.formatting import amount_text, bytes_text, duration_text

# Speeds are those of the last seconds: long enough to be readable, short enough to show a stall.
_WINDOW_S = 10.0


class _Sample(NamedTuple):
    at: float
    received_bytes: int
    counted: int


class Meter:
    """How far one thing was within the last seconds. `began`: when it was at its start, by the clock of `row`;
    `counted`: how much of what is counted was there already."""

    def __init__(self, began: float, counted: int = 0) -> None:
        self._samples = deque([_Sample(began, 0, counted)])

    def row(
        self,
        name: str,
        now: float,
        done_bytes: int,
        total_bytes: int | None,
        *,
        before_bytes: int = 0,
        counted: tuple[int, int | None] | None = None,
    ) -> Row:
        """What to draw of it at `now`, in seconds: `done_bytes` of `total_bytes` (None: not known), of which
        `before_bytes` were there at its start. `counted`: how many of how many the bar shows; None: the bytes."""
        done, total = counted or (done_bytes, total_bytes)
        samples = self._samples
        samples.append(_Sample(now, done_bytes - before_bytes, done))
        while now - samples[0].at > _WINDOW_S:
            samples.popleft()
        first, last = samples[0], samples[-1]
        elapsed_s, more = last.at - first.at, last.counted - first.counted
        # What starts over falls back.
        speed = max(0.0, (last.received_bytes - first.received_bytes) / elapsed_s) if elapsed_s else 0.0
        left_s = None if total is None or more <= 0 else max(0, total - done) * elapsed_s / more
        return Row(
            name,
            done / total if total else None,
            f"{done * 100 // total} %" if total else "",
            _amount(done_bytes, total_bytes),
            f"{bytes_text(round(speed))}/s" if speed else "",
            "" if left_s is None else duration_text(left_s),
        )


def _amount(done_bytes: int, total_bytes: int | None) -> str:
    """How much of how much, as wide at the beginning as at the end."""
    text = amount_text(done_bytes, total_bytes)
    whole = "" if total_bytes is None else amount_text(total_bytes, total_bytes)
    return text.rjust(len(whole) + len(whole.partition(" ")[0]) + 1)
