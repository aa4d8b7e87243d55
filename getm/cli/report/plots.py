"""Plots as inline SVG: no script, no file beside the page, and the colours of its style."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from getm.cli.output.formatting import bytes_text, duration_text
from getm.cli.report.facts import Bin

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 440, 190, 58, 14, 26
_MOST_LABELS = 6


def histogram(bins: Sequence[Bin], what: str, unit: str = "") -> str:
    """Bars for bins that are powers of 2, in bytes; `unit`: what follows ("/s")."""
    most = max(each.count for each in bins)
    width = (_WIDTH - _LEFT) / len(bins)
    height = _HEIGHT - _TOP - _BOTTOM
    every = -(-len(bins) // _MOST_LABELS)
    bars, labels = [], []
    for number, each in enumerate(bins):
        x, tall = _LEFT + number * width, height * each.count / most
        if each.count:
            # At least a line, since there are some.
            tall = max(tall, 1.5)
        span = f"{_amount(each.low)}{unit} to {_amount(each.high)}{unit}: {each.count:,}"
        bars.append(
            f'<rect class="bar" x="{x + 1:.1f}" y="{_TOP + height - tall:.1f}" width="{max(1.0, width - 2):.1f}" '
            f'height="{tall:.1f}"><title>{escape(span)}</title></rect>'
        )
        if number % every == 0:
            labels.append(f'<text x="{x:.1f}" y="{_HEIGHT - 10}">{_amount(each.low)}{unit}</text>')
    return _svg(what, [*_scale(f"{most:,}"), *bars, *labels])


def curve(points: Sequence[tuple[datetime, int]], began: datetime, what: str) -> str:
    """How a sum of bytes grew from `began` on."""
    seconds = max(1e-3, (points[-1][0] - began).total_seconds())
    most = max(1, points[-1][1])
    height = _HEIGHT - _TOP - _BOTTOM
    ground = f"{_TOP + height:.1f}"
    places, y = [f"{_LEFT},{ground}"], ground
    for at, count in points:
        x = f"{_LEFT + (_WIDTH - _LEFT) * (at - began).total_seconds() / seconds:.1f}"
        # A step: files come whole.
        places.append(f"{x},{y}")
        y = f"{_TOP + height * (1 - count / most):.1f}"
        places.append(f"{x},{y}")
    line = " ".join(places)
    end = duration_text(seconds) if seconds >= 1 else f"{seconds:.2f} s"
    return _svg(
        what,
        [
            *_scale(bytes_text(most)),
            f'<polygon class="under" points="{_LEFT},{ground} {line} {_WIDTH},{ground}"/>',
            f'<polyline class="curve" points="{line}"/>',
            f'<text x="{_LEFT}" y="{_HEIGHT - 10}">0</text>',
            f'<text x="{_WIDTH}" y="{_HEIGHT - 10}" text-anchor="end">{end}</text>',
        ],
    )


def share(part: float) -> str:
    """A bar that is filled to `part` of 1."""
    return (
        '<svg viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="bar" width="{max(0.5, 100 * part):.2f}" height="4"/></svg>'
    )


def _scale(top: str) -> list[str]:
    ground = _HEIGHT - _BOTTOM
    return [
        f'<line class="axis" x1="{_LEFT}" y1="{_TOP}" x2="{_WIDTH}" y2="{_TOP}"/>',
        f'<line class="axis" x1="{_LEFT}" y1="{ground}" x2="{_WIDTH}" y2="{ground}"/>',
        f'<text x="{_LEFT - 6}" y="{_TOP + 4}" text-anchor="end">{top.replace(" ", chr(0xA0))}</text>',
        f'<text x="{_LEFT - 6}" y="{ground + 4}" text-anchor="end">0</text>',
    ]


def _svg(what: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(what)}">{"".join(parts)}</svg>'


def _amount(count: float) -> str:
    """A power of 2 of bytes."""
    return bytes_text(int(count)).replace(".0 ", " ").replace(" bytes", " B")
