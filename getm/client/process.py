"""An engine process, from its start to its end, seen from the process that starts it.

Small, and independent of the rest of getm: the command starts its first engine by it, and imports the rest while the
engine imports what it needs.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import socket
import subprocess
import sys
import threading

from getm.core.readable import readable

# As in the package's __init__: `typing` would be a third of what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

# How long an engine may take to end.
STOP_S = 5.0
# The caller's `sys.path` comes by the environment, without running the caller's __main__ again. A process that has this
# variable was started as an engine, even if it is another program: see `python`.
_PATH_VARIABLE = "GETM_ENGINE_PATH"
# Variables that would change how an engine starts. The caller's `sys.path` has the folders of PYTHONPATH.
_NOT_PASSED_ON = frozenset({"PYTHONPATH", "PYTHONSTARTUP", "PYTHONINSPECT"})
# The folder of the package, whatever the current folder is when an engine starts.
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
# aiohttp reads the system's certificates, twice, for contexts that an engine does not use: more than a quarter of its
# start. So its variables name none until aiohttp is imported: the caller's variables come with each request. Nor must
# it open SSLKEYLOGFILE for them, which may be unwritable.
NO_CERTIFICATES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
# The standard library comes before all of the caller's folders: a file `http.py` there is no part of an engine. The
# package is imported without its __init__, which an engine does not need, and so is aiohttp, whose client, cookies and
# tracing are a tenth of the start; should that fail with a future release, aiohttp is imported as usual. The garbage
# collector would examine the imported modules again and again, another tenth; `main` turns it on.
_BOOTSTRAP = """\
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
import gc
gc.disable()
import os, sys
library = os.path.dirname(os.__file__)
sys.path[:] = [path for path in sys.path if path.startswith(library) and "-packages" not in path]
import ast, types
from importlib.machinery import PathFinder
sys.path += ast.literal_eval(os.environ.pop({variable!r}))
key_log = os.environ.pop("SSLKEYLOGFILE", None)
package = sys.modules["getm"] = types.ModuleType("getm")
package.__path__ = [{package!r}]
aiohttp = None if "aiohttp" in sys.modules else PathFinder.find_spec("aiohttp")
if aiohttp is not None and aiohttp.submodule_search_locations:
    package = sys.modules["aiohttp"] = types.ModuleType("aiohttp")
    package.__path__ = aiohttp.submodule_search_locations
    package.__version__ = "3"
try:
    from getm.engine.main import main
except (ImportError, AttributeError):
    for name in [name for name in sys.modules if name.startswith(("aiohttp", "getm."))]:
        del sys.modules[name]
    from getm.engine.main import main
for name in {no_certificates!r}:
    del os.environ[name]
if key_log is not None:
    os.environ["SSLKEYLOGFILE"] = key_log
main({control}, {parent})
"""

# Sockets that are being made for an engine, which gets one end of each. A child forked at that moment must close them:
# otherwise the end of the engine would never show as end of file.
in_transit: set[socket.socket] = set()

# The engines whose end is waited for in a thread of its own.
leaving: set[Launched] = set()


@contextlib.contextmanager
def passed_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a socket, ours first, for as long as it takes to pass the other one to an engine: then that one
    is closed here, and ours as well where it could not be passed. Raises `OSError`.

    Never one of the descriptors 0 to 2. Where those are closed, prints would go into the socket, an engine's would be
    replaced by its own standard streams, and libuv ends the process: so they are opened on the null device, as daemons
    do.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    ours, theirs = pair = socket.socketpair()
    in_transit.update(pair)
    try:
        yield pair
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        in_transit.difference_update(pair)


def python() -> str | None:
    """The Python that can run an engine; None where there is none, and an engine must be a thread of this process.

    Frozen programs, and those with an embedded Python, have their own name there: they would start themselves.
    """
    if _PATH_VARIABLE in os.environ:
        # That has happened: this program was started as an engine. It must not start another one.
        return None
    # Set by frozen or embedding programs that come with a Python.
    spawn = sys.modules.get("multiprocessing.spawn")
    chosen = os.fsdecode(spawn.get_executable() or "") if spawn is not None else ""
    if chosen and chosen != sys.executable:
        return chosen
    name = os.path.basename(sys.executable or "").lower()  # noqa: PTH119
    return None if getattr(sys, "frozen", False) or not ("python" in name or "pypy" in name) else sys.executable


def interpreter_flags() -> list[str]:
    """The interpreter's options (-X, -W, -E, -I, ...), as this process has them, and no current folder in its path."""
    # As in multiprocessing; there is no public name for it.
    return [*subprocess._args_from_interpreter_flags(), "-P"]  # type: ignore[attr-defined]  # not in typeshed


def _paths() -> list[str]:
    """`sys.path` made absolute. The current folder and the program's own come last: they have no third-party modules,
    which an engine imports, but may have modules of the same names."""
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
    """An engine process, started as a program: this works in daemonic workers, with threads, in notebooks and in
    `python -`. No URL is ever in its arguments.

    `control` is our end of its control socket, whose end of file ends it. Raises `OSError` where there is no Python to
    start, or no process can be made.
    """

    def __init__(self) -> None:
        executable = python()
        if executable is None:
            raise OSError("sys.executable names no Python")
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
        # What it prints when it crashes goes into the error, not to the caller's terminal.
        self._stderr = _nameless_file()
        # One thread may ask why the engine died while another one closes it.
        self._reading = threading.Lock()
        self.control: socket.socket
        try:
            with passed_pair() as (self.control, theirs):
                code = _BOOTSTRAP.format(
                    variable=_PATH_VARIABLE,
                    package=_PACKAGE,
                    no_certificates=tuple(NO_CERTIFICATES),
                    control=theirs.fileno(),
                    parent=os.getpid(),
                )
                self.process: subprocess.Popen[bytes] = subprocess.Popen(
                    [executable, *interpreter_flags(), "-c", code],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    pass_fds=(theirs.fileno(),),
                    env={**environment, **NO_CERTIFICATES, _PATH_VARIABLE: ascii(_paths())},
                )
        except BaseException:
            self._stderr.close()
            raise

    def wait(self) -> int:
        """Its exit status, as in `subprocess`. It is killed if it does not end in time."""
        if not self.has_ended(STOP_S):
            # It cannot be trusted any more.
            self.process.kill()
        return self.process.wait()

    def has_ended(self, timeout_s: float) -> bool:
        """Whether it has, or does so within that time."""
        if self.process.returncode is None:
            # `Popen.wait` polls, in the end every 50 ms. It must do where there is no such descriptor.
            with contextlib.suppress(AttributeError, OSError):
                descriptor = os.pidfd_open(self.process.pid)
                try:
                    readable(descriptor, timeout_s)
                finally:
                    os.close(descriptor)
                timeout_s = 0
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

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
        """Wait for its end, which was requested."""
        self.control.close()
        self.wait()
        with self._reading:
            self._stderr.close()
        leaving.discard(self)

    def leave(self) -> None:
        """`end` for a finalizer, which may not wait: in a thread of its own."""
        # Not by `threading`, whose `start` waits for the thread. While the interpreter shuts down no thread can start:
        # nobody is left then who would need the engine's end.
        leaving.add(self)
        with contextlib.suppress(RuntimeError):
            _thread.start_new_thread(self.end, ())

    def kill(self) -> None:
        """Kill it: it has no work."""
        self.process.kill()
        self.end()

    def abandon(self) -> None:
        """In a forked child: the engine is the parent's. Forget it without a message to it."""
        self.control.close()
        self._stderr.close()
        # It is no child of this process: Popen must neither wait for it nor warn that it is running.
        self.process.returncode = 0


def _nameless_file() -> IO[bytes]:
    try:
        return open(os.memfd_create("getm-engine-stderr"), "w+b", buffering=0)  # noqa: PTH123
    except (AttributeError, OSError):
        # Missing or refused, as it may be for segments. Importing it costs more than all of the above.
        import tempfile

        return tempfile.TemporaryFile(prefix="getm-", buffering=0)


# One engine that was started before it was needed, or none. A list: taking from it is atomic.
_ahead: list[Launched] = []


def launch_ahead() -> None:
    """Start an engine for the first `take`. Where none can be started, that `take` raises."""
    with contextlib.suppress(OSError):
        _ahead.append(Launched())


def take() -> Launched:
    """The engine that was started ahead, or else a new one; the caller must end it. Raises `OSError`."""
    try:
        return _ahead.pop()
    except IndexError:
        return Launched()


def end_ahead() -> None:
    """End the engine that was started ahead, if it was not taken."""
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
