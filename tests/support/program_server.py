"""A server in a process of its own: a Python program that prints its port, and serves until its standard input ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_STOP_TIMEOUT_S = 20.0


class ProgramServer:
    """A server on a free loopback port, at `endpoint`. It also ends when tests are killed. Use as a context manager.

    Args:
        program: Its code.
        argument: What the program gets in `sys.argv[1]`.
        log: The file that takes its standard error.
        without: Variables of the environment whose names begin so are kept from it. So are those that make errors of
            warnings in somebody else's code.
    """

    def __init__(self, program: str, argument: str, log: Path, *, without: tuple[str, ...] = ()) -> None:
        self.endpoint = ""
        self._program = program
        self._argument = argument
        self._log = log
        self._without = (*without, "PYTHONWARN")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self._program, self._argument],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={name: value for name, value in os.environ.items() if not name.startswith(self._without)},
            )
        try:
            assert self._process.stdout is not None
            port = self._process.stdout.readline().decode().strip()
            if not port.isdecimal():
                raise RuntimeError(f"the server did not start ({port}): {self._log.read_text()}")
            self.endpoint = f"http://127.0.0.1:{port}"
            self._prepare()
        except BaseException:
            self.stop()
            raise
        return self

    def _prepare(self) -> None:
        """Called once it serves."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server. Safe to call again."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
