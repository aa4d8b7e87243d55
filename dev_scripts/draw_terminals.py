"""Draws what people see on a terminal, as SVG for the documentation: real runs of the command against its own server.

python dev_scripts/draw_terminals.py [FOLDER]    # docs/assets by default
"""

from __future__ import annotations

import os
import pty
import random
import re
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html import escape
from pathlib import Path
from typing import IO, cast

import pyte

ROOT = Path(__file__).parent.parent
COLUMNS = 84
HOST = "https://data.example.org/"
FILES = {"sample_1.fastq.gz": 220, "sample_2.fastq.gz": 230, "sample.bam": 340, "sample.bam.bai": 3}  # MiB
# Slow enough that there is something to see.
RATE = "--limit-rate=150M"

COLOURS = {
    "default": "#d7dae0",
    "black": "#5c6370",
    "red": "#f07178",
    "green": "#98c379",
    "brown": "#e5c07b",
    "blue": "#61afef",
    "magenta": "#c678dd",
    "cyan": "#56b6c2",
    "white": "#ffffff",
    "brightblack": "#7f848e",
}
CELL, LINE, MARGIN, BAR = 8.4, 20, 16, 34

# A cell: its character, the colour and whether it is bold.
Cell = tuple[str, str, bool]
Row = list[Cell]


def main(arguments: list[str]) -> int:
    target = Path(arguments[0]) if arguments else ROOT / "docs" / "assets"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _server(folder / "served") as url:
            (folder / "files.txt").write_text("".join(f"{url}{file}\n" for file in FILES))
            draw = _Pictures(folder, url)
            download = "getm -i files.txt -d data --receipt received.jsonl"
            (target / "progress.svg").write_text(_svg(draw.run(download, RATE, until=r" 6\d %")))

            rows = draw.run(download, RATE)
            with (folder / "data" / "sample.bam").open("r+b") as file:
                file.seek(100_000_000)
                file.write(b"damage")
            rows += draw.run("getm verify --receipt received.jsonl")
            rows += draw.run("getm verify --receipt received.jsonl --repair")
            rows += draw.run(f"getm {HOST}sample.vcf")
            (target / "terminal.svg").write_text(_svg(rows))
    return 0


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    folder.mkdir()
    for name, mebibytes in FILES.items():
        # The same bytes each time.
        (folder / name).write_bytes(random.Random(name).randbytes(1 << 20) * mebibytes)
    command = [sys.executable, "-m", "getm", "demo", "--serve", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            yield cast(IO[str], server.stdout).readline().strip()
        finally:
            server.terminate()


class _Pictures:
    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url

    def run(self, line: str, *options: str, until: str | None = None) -> list[Row]:
        """What a terminal shows when a command has ended, or, with `until`, as soon as a line has that in it.
        `options`: further ones, which are not shown."""
        controller, end = pty.openpty()
        termios.tcsetwinsize(controller, (40, COLUMNS))
        environment = os.environ | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
        program = [sys.executable, "-m", *line.replace(HOST, self._url).split(), *options]
        screen = pyte.Screen(COLUMNS, 40)
        stream = pyte.ByteStream(screen)
        with subprocess.Popen(program, cwd=self._folder, env=environment, stdin=end, stdout=end, stderr=end) as process:
            os.close(end)
            rows: list[Row] = []
            with suppress(OSError):  # the other end is closed
                while data := os.read(controller, 65536):
                    stream.feed(data.replace(self._url.encode(), HOST.encode()))
                    if until is not None and not rows and any(re.search(until, line) for line in screen.display):
                        rows = _rows(screen)
            os.close(controller)
            process.wait()
        return [_prompt(line), *(rows or _rows(screen))]


def _rows(screen: pyte.Screen) -> list[Row]:
    lines = [[screen.buffer[number][column] for column in range(COLUMNS)] for number in range(screen.lines)]
    while lines and all(cell.data == " " for cell in lines[-1]):
        lines.pop()
    return [[(cell.data, cell.fg, cell.bold) for cell in line] for line in lines]


def _prompt(line: str) -> Row:
    return [("$", "green", True), (" ", "default", False), *((character, "white", True) for character in line)]


# Drawing -------------------------------------------------------------------------------------------------------------


def _svg(rows: list[Row]) -> str:
    width, height = COLUMNS * CELL + 2 * MARGIN, len(rows) * LINE + 2 * MARGIN + BAR
    dots = "".join(
        f'<circle cx="{MARGIN + 6 + 20 * number}" cy="{BAR / 2 + 3}" r="6" fill="{colour}"/>'
        for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    texts = "\n".join(_text(row, BAR + MARGIN + LINE * number + 14) for number, row in enumerate(rows))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="ui-monospace, \'DejaVu Sans Mono\', Menlo, Consolas, monospace" '
        f'font-size="14">\n<!-- Drawn by dev_scripts/draw_terminals.py from real runs. -->\n'
        f'<rect width="100%" height="100%" rx="10" fill="#1e2127"/>\n{dots}\n{texts}\n</svg>\n'
    )


def _text(row: Row, y: float) -> str:
    """A line. Each run of one style begins at its column, so that a font with other widths breaks no table."""
    runs: list[tuple[int, str, str, bool]] = []
    for column, (character, colour, bold) in enumerate(row):
        if runs and runs[-1][2:] == (colour, bold) and not (character == " " and runs[-1][1].endswith(" ")):
            start, text, *_ = runs.pop()
            runs.append((start, text + character, colour, bold))
        elif character != " ":
            runs.append((column, character, colour, bold))
    weight = {True: ' font-weight="bold"', False: ""}
    spans = "".join(
        f'<tspan x="{MARGIN + start * CELL:g}" fill="{_colour(colour)}"{weight[bold]}>{escape(text.rstrip())}</tspan>'
        for start, text, colour, bold in runs
    )
    return f'<text y="{y:g}">{spans}</text>'


def _colour(name: str) -> str:
    return COLOURS.get(name) or f"#{name}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
