"""The command, run as a process: in a pipeline, under way, and on a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from getm.cli.main import main

# The installed script where there is one beside this interpreter; the module otherwise.
_SCRIPT = shutil.which("getm", path=str(Path(sys.executable).parent))
GETM = [_SCRIPT] if _SCRIPT else [sys.executable, "-m", "getm"]


def getm(*arguments: object, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    run = subprocess.run([*GETM, *map(str, arguments)], cwd=cwd, input=stdin, capture_output=True)
    assert b"Traceback" not in run.stderr + run.stdout
    assert b"SECRET" not in run.stderr + run.stdout
    return run


def refused(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """As `getm`, within this process and without an engine: for arguments that lead to no request. The start of Python
    and of an engine is nearly all that such a run takes."""
    given, out, err = list(map(str, arguments)), io.StringIO(), io.StringIO()
    with (
        mock.patch("getm.cli.main.launch_ahead"),
        mock.patch("gc.freeze"),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main(given)
    assert "SECRET" not in err.getvalue() + out.getvalue()
    assert "Traceback" not in err.getvalue() + out.getvalue()
    return subprocess.CompletedProcess(given, status, out.getvalue().encode(), err.getvalue().encode())


@contextlib.contextmanager
def started(*arguments: object, cwd: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The command under way; killed where the test fails before it ends."""
    with subprocess.Popen([*GETM, *map(str, arguments)], cwd=cwd, **options) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failure(run: subprocess.CompletedProcess[bytes]) -> dict[str, object]:
    """The one JSON object of the one line on standard error."""
    (line,) = run.stderr.decode("ascii").splitlines()
    assert line.startswith("ERROR:getm.cli:{")
    facts: dict[str, object] = json.loads(line.removeprefix("ERROR:getm.cli:"))
    assert isinstance(facts["message"], str) and facts["message"]
    return facts


def on_a_terminal(
    *arguments: object,
    cwd: Path,
    watch: Callable[[str], None] | None = None,
    begun: Callable[[int], None] | None = None,
    stdout: int = subprocess.DEVNULL,
    columns: int = 100,
    **environment: str,
) -> tuple[int, str]:
    """Exit status, and what came on a terminal as standard error; `watch` sees it grow, `begun` gets the process's
    number. `environment`: more variables."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, columns))
    variables = {**os.environ, "TERM": "xterm", **environment}
    ends = {"stdin": terminal, "stdout": stdout, "stderr": terminal}
    with started(*arguments, cwd=cwd, env=variables, **ends) as process:
        os.close(terminal)
        if begun is not None:
            begun(process.pid)
        shown = b""
        # Reading a terminal whose other end is closed is EIO on Linux, where a pipe would give b"".
        with contextlib.suppress(OSError):
            while data := os.read(controller, 65536):
                shown += data
                if watch is not None:
                    watch(shown.decode(errors="replace"))
        os.close(controller)
    return process.returncode, shown.decode()
