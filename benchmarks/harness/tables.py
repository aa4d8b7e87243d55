"""Rows of text as a table, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

Rows = Sequence[Sequence[str]]


def terminal_table(heads: Sequence[str], rows: Rows, *, left: int) -> str:
    """Columns as wide as their content; the first `left` are aligned to the left, the others to the right."""
    widths = [max(len(row[index]) for row in (heads, *rows)) for index in range(len(heads))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if index < left else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (heads, *rows)
    )


def markdown_table(heads: Sequence[str], rows: Rows, *, left: int) -> str:
    lines = [heads, ["---" if index < left else "--:" for index in range(len(heads))], *rows]
    return "\n".join(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |" for row in lines)
