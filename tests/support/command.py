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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from getm.cli.main import main

# The installed script where there is one beside this interpreter; the module otherwise.
_SCRIPT = shutil.which("getm", path=str(Path(sys.executable).parent))
GETM = [_SCRIPT] if _SCRIPT else [sys.executable, "-m", "getm"]


def getm(
    *arguments: object, cwd: Path, stdin: bytes = b"", variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """`variables`: of the environment."""
    environment = {**os.environ, **(variables or {})}
    run = subprocess.run([*GETM, *map(str, arguments)], cwd=cwd, input=stdin, capture_output=True, env=environment)
    assert b"Traceback" not in run.stderr + run.stdout
    assert b"SECRET" not in run.stderr + run.stdout
    return run


def refused(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """As `getm`, within this process, and without an engine that is started ahead: for arguments that lead to no
    request, or to few. The start of Python and of an engine is nearly all that such a run takes."""
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


def refused_on_a_terminal(*arguments: object, cwd: Path) -> tuple[int, str]:
    """As `refused`, with a terminal as standard error; exit status and what came there."""
    controller, terminal = pty.openpty()
    with (
        os.fdopen(controller, "rb", buffering=0) as shown,
        os.fdopen(terminal, "w", encoding="utf-8") as stderr,
        mock.patch("getm.cli.main.launch_ahead"),
        mock.patch("gc.freeze"),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(stderr),
    ):
        status = main(list(map(str, arguments)))
        stderr.write("\0")
        stderr.flush()
        data = b""
        while not data.endswith(b"\0"):
            data += shown.read(65536)
    return status, data.removesuffix(b"\0").decode()


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
    stdout: int | None = subprocess.DEVNULL,
    columns: int = 100,
    variables: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Exit status, and what came on a terminal as standard error; `watch` sees it grow, `begun` gets the process's
    number. `variables`: more of the environment. `stdout` None: the same terminal."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, columns))
    environment = {**os.environ, "TERM": "xterm", **(variables or {})}
    ends = {"stdin": terminal, "stdout": terminal if stdout is None else stdout, "stderr": terminal}
    with started(*arguments, cwd=cwd, env=environment, **ends) as process:
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
