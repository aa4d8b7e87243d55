"""An engine process, from its start to its end, seen from the process that starts it.

Light, apart from everything else of getm: the command starts its first engine by this, and imports the rest while the
engine imports what it needs.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading

# As in the package's __init__: `typing` would be a third of what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

# How long an engine that was told to end may take.
STOP_S = 5.0
# The caller's `sys.path` comes by the environment, without running the caller's __main__ again. That a process has this
# variable means that it was started as an engine, whatever it took itself for: see `python`.
_PATH_VARIABLE = "GETM_ENGINE_PATH"
# What would change how an engine starts. What PYTHONPATH says is in the caller's `sys.path`.
_NOT_PASSED_ON = frozenset({"PYTHONPATH", "PYTHONSTARTUP", "PYTHONINSPECT"})
# Where the package lies, whatever the current folder is by the time an engine starts.
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
# aiohttp reads the system's certificates, twice, for contexts that an engine does not use: more than a quarter of all
# that its start would take. It is told that there are none, and forgets that as soon as aiohttp is there: what the
# caller's variables say comes with each request. Nor is it to open SSLKEYLOGFILE for them, which may be unwritable.
_NO_CERTIFICATES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
# The standard library comes before all of the caller's folders: a file `http.py` there is no part of an engine. The
# package is entered without its __init__, which an engine has no use for. The collector would look again and again at
# what is imported, a tenth of the start; `main` turns it on.
_BOOTSTRAP = """\
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
import gc
gc.disable()
import os, sys
library = os.path.dirname(os.__file__)
sys.path[:] = [path for path in sys.path if path.startswith(library) and "-packages" not in path]
import json, types
sys.path += json.loads(os.environ.pop({variable!r}))
key_log = os.environ.pop("SSLKEYLOGFILE", None)
package = sys.modules["getm"] = types.ModuleType("getm")
package.__path__ = [{package!r}]
from getm.engine.main import main
for name in {no_certificates!r}:
    del os.environ[name]
if key_log is not None:
    os.environ["SSLKEYLOGFILE"] = key_log
main({control}, {parent})
"""

# The engine's ends of sockets that are just being sent to it. A child forked at that moment must close them, or the
# end of the engine would never show as end of file.
in_transit: set[socket.socket] = set()

# The engines whose end is waited for in a thread of its own.
leaving: set[Launched] = set()


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """`socket.socketpair`, but never with one of the descriptors 0 to 2. Raises `OSError`.

    Where those are closed, whoever prints would write into the socket, an engine's would be replaced by its own
    standard streams, and libuv ends the process: so they become the null device's, as daemons do it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    return socket.socketpair()


@contextlib.contextmanager
def control_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of an engine's control socket, ours first, for the time of its start: the other one is in passage.
    Where the start fails, ours is closed. The other one is the caller's to close, who knows whether an engine has it by
    then: one in a thread would never learn of its end."""
    ours, theirs = socket_pair()
    in_transit.add(theirs)
    try:
        yield ours, theirs
    except BaseException:
        ours.close()
        raise
    finally:
        in_transit.discard(theirs)


def python() -> str | None:
    """The Python that can run an engine; None where there is none, and an engine must be a thread of this process.

    A frozen program, and one that has Python embedded, name themselves: started, they would be themselves once more.
    """
    if _PATH_VARIABLE in os.environ:
        # Just so: an engine was wanted, and this program came. It must not start another one.
        return None
    # Set by programs that are frozen or embedded, and have a Python beside them.
    spawn = sys.modules.get("multiprocessing.spawn")
    chosen = os.fsdecode(spawn.get_executable() or "") if spawn is not None else ""
    if chosen and chosen != sys.executable:
        return chosen
    name = os.path.basename(sys.executable or "").lower()  # noqa: PTH119
    return None if getattr(sys, "frozen", False) or not ("python" in name or "pypy" in name) else sys.executable


def _flags() -> list[str]:
    """The interpreter's options (-X, -W, -E, -I, ...), as this process has them, and no current folder in its path."""
    # As multiprocessing does it; there is no public name for it.
    return [*subprocess._args_from_interpreter_flags(), "-P"]  # type: ignore[attr-defined]  # not in typeshed


def _paths() -> list[str]:
    """`sys.path` made absolute. The current folder and the program's own come last: third parties' modules, which an
    engine imports, are not expected there, and the user's own may have the same names."""
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        current = os.getcwd()  # noqa: PTH109
    except OSError:
        # It is gone, and so is what was relative to it.
        current = ""
    paths = [os.path.join(current, path) for path in sys.path if isinstance(path, str)]  # noqa: PTH118
    paths = [os.path.normpath(path) for path in paths if os.path.isabs(path)]  # noqa: PTH117
    own = {current, os.path.join(current, os.path.dirname(program)) if program else current}  # noqa: PTH118, PTH120
    return sorted(paths, key=lambda path: path in own)


class Launched:
    """An engine process that was started as a program: this works from daemonic workers, beside threads, from notebooks
    and `python -`. The URL never stands in its arguments.

    `control` is our end of its control socket, whose end of file tells it to end. Raises `OSError` where there is no
    Python to start, or no process can be made.
    """

    def __init__(self) -> None:
        executable = python()
        if executable is None:
            raise OSError("sys.executable names no Python")
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
        # What it prints when it crashes is for the error, not for the caller's terminal.
        self._stderr = _nameless_file()
        # One thread may ask why the engine died while another one is done with it.
        self._reading = threading.Lock()
        self.control: socket.socket
        try:
            with control_pair() as (self.control, theirs), theirs:
                code = _BOOTSTRAP.format(
                    variable=_PATH_VARIABLE,
                    package=_PACKAGE,
                    no_certificates=tuple(_NO_CERTIFICATES),
                    control=theirs.fileno(),
                    parent=os.getpid(),
                )
                self.process: subprocess.Popen[bytes] = subprocess.Popen(
                    [executable, *_flags(), "-c", code],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    pass_fds=(theirs.fileno(),),
                    env={**environment, **_NO_CERTIFICATES, _PATH_VARIABLE: json.dumps(_paths())},
                )
        except BaseException:
            self._stderr.close()
            raise

    def wait(self) -> int:
        """Its exit status, as `subprocess` has them. One that does not end in time is killed."""
        if not self.has_ended(STOP_S):
            # It cannot be trusted with anything any more.
            self.process.kill()
        return self.process.wait()

    def has_ended(self, timeout_s: float) -> bool:
        """Whether it has, or does so within that time."""
        if self.process.returncode is not None:
            return True
        try:
            descriptor = os.pidfd_open(self.process.pid)
        except (AttributeError, OSError):
            # Not here, or somebody else has waited for it. `Popen` looks again and again, at last every 50 ms.
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return False
            return True
        try:
            ended = select.poll()
            ended.register(descriptor, select.POLLIN)
            return bool(ended.poll(timeout_s * 1000))
        finally:
            os.close(descriptor)

    def said(self) -> str:
        """The last line on its standard error."""
        with self._reading:
            if self._stderr.closed:
                # By `end`.
                return ""
            self._stderr.seek(0)
            lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else ""

    def end(self) -> None:
        """Wait until it has ended, which it has been told to."""
        self.control.close()
        self.wait()
        with self._reading:
            self._stderr.close()

    def leave(self) -> None:
        """`end` for a finalizer, which may not wait: in a thread of its own."""
        # Not by `threading`, whose `start` waits for the thread. At the interpreter's end there is none to be had:
        # nobody is left then who would miss the engine's end.
        leaving.add(self)
        with contextlib.suppress(RuntimeError):
            _thread.start_new_thread(self._end_and_forget, ())

    def _end_and_forget(self) -> None:
        self.end()
        leaving.discard(self)

    def kill(self) -> None:
        """End it at once: nobody has asked it for anything."""
        self.process.kill()
        self.end()

    def abandon(self) -> None:
        """In a forked child: the engine is the parent's. Forget it without a word to it."""
        self.control.close()
        self._stderr.close()
        # It is no child of this process: Popen must not wait for it, nor warn that it runs.
        self.process.returncode = 0


def _nameless_file() -> IO[bytes]:
    try:
        return open(os.memfd_create("getm-engine-stderr"), "w+b", buffering=0)  # noqa: PTH123
    except (AttributeError, OSError):
        # Missing or refused, as it may be for segments. Costs more to import than all of the above.
        import tempfile

        return tempfile.TemporaryFile(prefix="getm-", buffering=0)


# One engine that was started before anybody asked for it, or none. A list: taking from it is atomic.
_ahead: list[Launched] = []


def launch_ahead() -> None:
    """Start an engine for the first who will `take` one. Where none can be started, that one will find out and tell."""
    with contextlib.suppress(OSError):
        _ahead.append(Launched())


def take() -> Launched:
    """The engine that was started ahead, else a new one; it is the caller's to end. Raises `OSError`."""
    try:
        return _ahead.pop()
    except IndexError:
        return Launched()


def end_ahead() -> None:
    """End the engine that was started ahead, if nobody took it."""
    while _ahead:
        _ahead.pop().kill()


def _after_fork_in_child() -> None:
    for end in list(in_transit):
        end.close()
    in_transit.clear()
    while leaving:
        leaving.pop().abandon()
    while _ahead:
        _ahead.pop().abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
