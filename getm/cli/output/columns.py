"""Which columns the rows of a progress display have, and how wide they are: decided by the terminal's width alone."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from getm.cli.output.cells import last_part, padded, width_of
from getm.cli.output.terminal import Marks, Style, Terminal

# Blanks between columns, fewer where the terminal is narrower than usual.
_GAP, _NARROW_GAP, _USUAL_COLUMNS = "  ", " ", 80
_LEAST_BAR = 10
_LEAST_NAME = 12
# As wide as they usually become, so that they need not grow.
_LEAST = {"percent": len("100 %"), "speed": len("999.9 MiB/s"), "remaining": len("59:59")}
# What is left out first where the terminal is too narrow for all: whole columns, since half a number is a wrong one.
_DROPPED = ("amount", "speed", "remaining", "note", "bar", "percent")
# In this order on the terminal, after the name and the bar.
_NUMBERS = ("percent", "amount", "speed", "remaining")


class Row(Struct):
    """One line of a display: a name, how much of it is there as a fraction (None: not known), and texts, each empty
    where there is nothing to say. `waiting`: alternatives, the longest first, of which one is shown in place of all
    else but the name."""

    name: str
    fraction: float | None = None
    percent: str = ""
    amount: str = ""
    speed: str = ""
    remaining: str = ""
    note: str = ""
    waiting: tuple[str, ...] = ()


class Columns:
    """Lays out rows for `terminal`. Columns only grow, as long as the terminal's width stays: numbers that change do
    not make the others move."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._for = 0
        self._widths: dict[str, int] = {}

    def lines(self, rows: Sequence[Row], columns: int) -> list[str]:
        """The rows as text that is drawn in less than `columns` columns."""
        width, gap = columns - 1, _GAP if columns >= _USUAL_COLUMNS else _NARROW_GAP
        if self._for != width:
            self._for, self._widths = width, {}
        wanted = self._widths
        names = max((width_of(row.name) for row in rows), default=0)
        wanted["name"] = max(wanted.get("name", 0), min(names, max(_LEAST_NAME, width // 3)))
        for name in (*_NUMBERS, "note"):
            widest = max((width_of(getattr(row, name)) for row in rows), default=0)
            wanted[name] = max(wanted.get(name, 0), widest and max(widest, _LEAST.get(name, 0)))
        wanted["bar"] = _LEAST_BAR if any(row.fraction is not None for row in rows) else 0
        shown = {name: count for name, count in wanted.items() if count}
        for name in _DROPPED:
            if _taken(shown, gap) <= width:
                break
            shown.pop(name, None)
        free = width - _taken(shown, gap)
        if "bar" in shown:
            shown["bar"] += free
        else:
            shown["name"] = min(max(names, 1), shown.get("name", 0) + free)
        return [self._line(row, shown, width, gap) for row in rows]

    def _line(self, row: Row, shown: dict[str, int], width: int, gap: str) -> str:
        terminal, marks = self._terminal, self._terminal.marks
        name_width = min(shown.get("name", 0), width)
        if row.waiting:
            return self._waiting_line(row, name_width, width, gap)
        name = padded(last_part(row.name, name_width, marks.ellipsis), name_width)
        cells = [name] if name else []
        if "bar" in shown:
            cells.append(self._bar(row.fraction, shown["bar"], marks))
        cells += [padded(getattr(row, name), shown[name], right=True) for name in _NUMBERS if name in shown]
        if "note" in shown:
            cells.append(terminal.styled(row.note, Style.WAITING))
        return gap.join(cells).rstrip()

    def _waiting_line(self, row: Row, name_width: int, width: int, gap: str) -> str:
        """The longest of its texts for which the name has room enough."""
        least = min(name_width, _LEAST_NAME)
        text = next((text for text in row.waiting if width_of(text) <= width - least - len(gap)), "")
        name_width = min(name_width, width - len(gap) - width_of(text))
        name = padded(last_part(row.name, name_width, self._terminal.marks.ellipsis), name_width)
        return f"{name}{gap}{self._terminal.styled(text, Style.WAITING)}".rstrip()

    def _bar(self, fraction: float | None, width: int, marks: Marks) -> str:
        if fraction is None:
            return " " * width
        halves = int(min(1.0, max(0.0, fraction)) * width * 2)
        done = marks.filled * (halves // 2) + (marks.half if halves % 2 else "")
        style = Style.GOOD if fraction >= 1 else Style.DONE
        return self._terminal.styled(done, style) + self._terminal.styled(marks.empty * (width - len(done)), Style.DIM)


def _taken(shown: dict[str, int], gap: str) -> int:
    return sum(shown.values()) + len(gap) * (len(shown) - 1)
