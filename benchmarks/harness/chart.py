"""A bar chart of one question as SVG, light or dark as the reader's system is; bars need no library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from benchmarks.harness.question import Answer, Question, Series, Spread

_WIDTH = 760
_LABEL = 7.4  # a letter of a tool's name
_VALUES = 150  # beside the longest bar
_ROW = 24
_BAR = 14
_HEAD = 70
_CASE = 28
_FOOT = 14

# Colors stand in each rule: programs that know no custom properties draw the light chart.
_STYLE = """
  text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  text.title { font-size: 17px; font-weight: 600 }
  text.faint { font-size: 12px; fill: #59636e }
  text.case, text.ours { font-weight: 600 }
  rect.ours { fill: #0969da }
  rect.theirs { fill: #b6bfc8 }
  path.spread { stroke: #1f2328; stroke-width: 1.2; opacity: 0.6; fill: none }
  rect.ground { fill: #ffffff; stroke: #d1d9e0 }
  path.axis { stroke: #8c959f }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    text.faint { fill: #9198a1 }
    rect.ours { fill: #4493f8 }
    rect.theirs { fill: #4a5560 }
    path.spread { stroke: #e6edf3 }
    rect.ground { fill: #0d1117; stroke: #3d444d }
    path.axis { stroke: #656c76 }
  }
"""


def chart(question: Question, answer: Answer) -> str:
    """The question's first column as bars: medians, with the quartiles as whiskers."""
    column = question.columns[0]
    bars = [
        (series, Spread.of(numbers))
        for series in answer.series
        if question.charted(series) and (numbers := column.numbers(series, answer.series))
    ]
    cases = [(case, list(several)) for case, several in groupby(bars, key=lambda bar: bar[0].case)]
    largest = max((spread.high for _, spread in bars), default=1.0)
    runs = max((len(next(iter(series.values.values()))) for series, _ in bars), default=0)
    left = 40 + _LABEL * max((len(series.tool) for series, _ in bars), default=0)
    parts, y = [], float(_HEAD)
    for case, several in cases:
        parts.append(f'<text class="case" x="20" y="{y + 16:g}">{escape(case)}</text>')
        y += _CASE
        scale = max(spread.high for _, spread in several) if question.scaled_by_case else largest
        top = y
        for series, spread in several:
            parts += _bar(question, series, spread, left, y, (_WIDTH - left - _VALUES) / (scale or 1.0))
            y += _ROW
        parts.append(f'<path class="axis" d="M{left:g} {top - 2:g}V{y - 2:g}"/>')
    height = y + _FOOT
    better = "" if column.better == "neither" else f", {column.better} is better"
    note = f"{column.head}{better} · medians of {runs} interleaved runs, whiskers are quartiles"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:g}" '
            f'viewBox="0 0 {_WIDTH} {height:g}" role="img">',
            f"<title>{escape(question.title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1:g}" rx="8"/>',
            f'<text class="title" x="20" y="32">{escape(question.title)}</text>',
            f'<text class="faint" x="20" y="52">{escape(note)}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def _bar(question: Question, series: Series, spread: Spread, left: float, y: float, scale: float) -> Sequence[str]:
    whose = "ours" if question.ours(series.tool) else "theirs"
    middle = y + _BAR / 2
    width, low, high = (left + value * scale for value in (spread.median, spread.low, spread.high))
    label = f"{spread.median:,.{question.columns[0].digits}f}"
    return [
        f'<text class="{whose}" x="{left - 10:g}" y="{y + 11:g}" text-anchor="end">{escape(series.tool)}</text>',
        f'<rect class="{whose}" x="{left:g}" y="{y:g}" width="{max(width - left, 1):.1f}" height="{_BAR}" rx="2"/>',
        f'<path class="spread" d="M{low:.1f} {middle:g}H{high:.1f}M{low:.1f} {y + 4:g}v6M{high:.1f} {y + 4:g}v6"/>',
        f'<text x="{max(width, high) + 8:.1f}" y="{y + 11:g}">{label}</text>',
    ]
