"""A pseudo-terminal, and what a person would see on it."""

from __future__ import annotations

import os
import pty
import termios
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

import pyte

# How long a test waits for something to be shown before it says what was shown instead.
_PATIENCE_S = 30.0


class PseudoTerminal:
    """A terminal of `columns` by `lines`; a context manager. `end`: the descriptor of its end for a program, which the
    test closes, or hands over and closes.

    `raw`: all that came. Leaving the context waits until nothing holds `end` any more.
    """

    def __init__(self, columns: int = 100, lines: int = 40) -> None:
        self._controller, self.end = pty.openpty()
        self.raw: bytes = b""
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._set_size(columns, lines)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(OSError):
                os.close(self.end)
        self._thread.join()
        os.close(self._controller)

    def _read(self) -> None:
        # Reading a terminal whose other end is closed is EIO on Linux, where a pipe would give b"".
        with suppress(OSError):
            while data := os.read(self._controller, 65536):
                with self._more:
                    self.raw += data
                    self._stream.feed(data)
                    self._more.notify_all()

    def _set_size(self, columns: int, lines: int) -> None:
        termios.tcsetwinsize(self._controller, (lines, columns))

    def resize(self, columns: int, lines: int = 40) -> None:
        """Give the window another size. What is there is cut, as xterm does, and not wrapped anew."""
        with self._more:
            self._screen.resize(lines, columns)
            self._set_size(columns, lines)

    def lines(self) -> list[str]:
        """What is shown now, without empty lines."""
        with self._more:
            return self._lines()

    def _lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display if line.strip()]

    def shows(self, *texts: str) -> list[str]:
        """Wait until each of `texts` is in a line; the lines."""
        with self._more:
            if not self._more.wait_for(
                lambda: all(any(text in line for line in self._lines()) for text in texts), _PATIENCE_S
            ):
                raise AssertionError(f"expected {texts}, got {self._lines()}")
            return self._lines()

    def end_of_output(self) -> list[str]:
        """What is left when nothing writes to it any more."""
        self._thread.join()
        return self.lines()


def screen(shown: str, columns: int = 100) -> list[str]:
    """The lines, but empty ones, that a terminal shows after `shown`."""
    terminal = pyte.Screen(columns, 400)
    pyte.Stream(terminal).feed(shown)
    return [line.rstrip() for line in terminal.display if line.strip()]
