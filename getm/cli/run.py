"""`getm run -- COMMAND ARGUMENTS...`: a program that only knows URLs reads objects by way of getm.

The program takes the place of this process: so its exit status, its streams, its signals and its jobs are its own, and
nobody else's business. Before that a server is started, which is nobody's child and in a session of its own. It ends
with the program, whose end the kernel tells it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from getm.adapter.arguments import replace_names
from getm.adapter.locations import Locations
from getm.adapter.sockets import HOST, listen, url_of
from getm.cli.defaults import Defaults, parse
from getm.cli.exit_status import EXIT_CANNOT_RUN, EXIT_NO_COMMAND, EXIT_OK
from getm.cli.output.errors import error_form, print_error, print_failure
from getm.cli.output.logs import quiet_process
from getm.cli.parser import Parser
from getm.cli.serving import add_beside, add_serving_options, is_served
from getm.cli.serving import serve as serve_until
from getm.cli.session_options import session_parser
from getm.client.process import end_ahead, interpreter_flags, launch_ahead, python
from getm.core.readable import readable
from getm.errors import GetmError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

_EPILOG = """\
Each argument that is the name of an object (https://, s3://, gs://, drs://,
hf://, ...: getm sources) becomes a URL on this machine, by which the program
reads it; also after "=" (--ref=NAME), and within text such as SQL or a shell's
command. The files beside it (x.bam.bai) are found as they are at its origin.

examples:
  getm run -- samtools view s3://bucket/x.bam chr1:1000-2000
  getm run -- duckdb -c "SELECT count(*) FROM 's3://bucket/x.parquet'"
  getm run --with "$SIGNED_BAI" -- samtools view "$SIGNED_BAM" chr1
  getm run -- sh -c 'bcftools view https://host/x.vcf.gz | head'

exit status: the program's; 2 for bad options, 127 where there is no such
program, and 126 where it cannot be run.
"""

# What the server runs. Its arguments are secrets: they come by a pipe.
_SERVER = (
    "import json, os, sys; given = json.load(os.fdopen({pipe})); sys.path[:] = given['path']; "
    "from getm.cli.run import serve; serve(given, {lifeline}, {listener})"
)


def main(arguments: Sequence[str]) -> int:
    """Run `getm run` with `arguments`: this process is the program then. Returns an exit status only where that is not
    possible; raises what getm raises."""
    parser = build_parser()
    number = arguments.index("--") if "--" in arguments else len(arguments)
    own, command = list(arguments[:number]), list(arguments[number + 1 :])
    given = Defaults(parser, own, only=session_parser())
    options, operands = parser.parse_known_args(own)
    options = given.applied(options)
    if not command or any(not operand.startswith("-") for operand in operands):
        parser.error("expected a command behind --: getm run [options] -- COMMAND ARGUMENTS")
    if operands:
        parser.refuse(operands)
    environment = dict(os.environ)
    # It is connected to before its server has started.
    with listen() as listener:
        token = secrets.token_urlsafe(24)
        replaced = _replace(options, command, Locations(token), listener)
        if replaced != command:
            _start_server({"own": own, "command": command, "token": token}, listener)
            environment = _without_proxy(environment)
    return _become(replaced, environment)


def _replace(
    options: argparse.Namespace, command: list[str], locations: Locations, listener: socket.socket
) -> list[str]:
    """The command with URLs of the server, which is to serve `locations`."""

    def local(name: str) -> str:
        return url_of(listener, locations.add(name)) if is_served(name) and name not in options.keep else name

    add_beside(locations, options)
    return [command[0], *(replace_names(argument, local) for argument in command[1:])]


def _become(command: list[str], environment: dict[str, str]) -> int:
    # Python ignores these, and so would the program.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        print_error({"message": f"{command[0]} cannot be run: {error.strerror}."})
        return EXIT_NO_COMMAND if isinstance(error, FileNotFoundError) else EXIT_CANNOT_RUN


def _without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, in which no proxy is asked for what this machine has."""
    changed = dict(environment)
    if any(name.lower().endswith("_proxy") for name in environment):
        for name in ("no_proxy", "NO_PROXY"):
            changed[name] = ",".join(filter(None, (environment.get(name), HOST)))
    return changed


# The server ----------------------------------------------------------------------------------------------------------


def _start_server(given: dict[str, Any], listener: socket.socket) -> None:
    """Start the server of this process, as nobody's child: a program may wait for its own. Raises `OSError`."""
    executable = python()
    if executable is None:
        raise GetmError("getm run needs a Python to start, and sys.executable names none")
    lifeline, kept = _lifeline()
    pipe, writing = os.pipe()
    started = os.fork()
    if started == 0:
        try:
            # Signals of a terminal are the program's.
            os.setsid()
            if os.fork() == 0:
                null = os.open(os.devnull, os.O_RDWR)
                for number in (0, 1):
                    os.dup2(null, number)
                passed = (lifeline, pipe, listener.fileno())
                for descriptor in passed:
                    os.set_inheritable(descriptor, True)
                if kept is not None:
                    os.close(kept)
                code = _SERVER.format(pipe=pipe, lifeline=lifeline, listener=listener.fileno())
                os.execv(executable, [executable, *interpreter_flags(), "-c", code])
        finally:
            os._exit(EXIT_CANNOT_RUN)
    os.waitpid(started, 0)
    os.close(pipe)
    os.close(lifeline)
    # Should the server fail to start, the program's connections fail, too.
    with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "w") as file:
        json.dump({**given, "path": sys.path}, file)


def _lifeline() -> tuple[int, int | None]:
    """A descriptor that is readable once this process has ended, whatever program it is by then; and another one that
    this is to keep open for that, where the system needs it."""
    try:
        return os.pidfd_open(os.getpid()), None
    except (AttributeError, OSError):
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        return reading, writing


def serve(given: dict[str, Any], lifeline: int, listener: int) -> None:
    """Serve the program until it ends, in the process that was started for that."""
    own: list[str] = given["own"]
    launch_ahead()
    # What is done when the program has ended is the last of them.
    ends: list[Callable[[], None]] = [_leave]

    def wait() -> None:
        readable(lifeline, None)
        ends[-1]()

    threading.Thread(target=wait, name="getm-lifeline", daemon=True).start()
    with quiet_process(), error_form(own):
        try:
            options = parse(build_parser(), own, only=session_parser())
            locations = Locations(given["token"])
            with socket.socket(fileno=listener) as listening:
                _replace(options, given["command"], locations, listening)

                def watch(end: Callable[[], None]) -> None:
                    # Not needed by the process that becomes the program.
                    import asyncio

                    loop = asyncio.get_running_loop()
                    ends.append(lambda: _call_soon(loop, end))

                serve_until(options, locations, listening, watch)
        except GetmError as error:
            print_failure(error)


def _call_soon(loop: AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):
        # It is closed: it has ended by itself.
        loop.call_soon_threadsafe(call)


def _leave() -> None:
    """End this process, before it has served anything."""
    end_ahead()
    os._exit(EXIT_OK)


def build_parser() -> Parser:
    """The parser of `getm run`."""
    parser = Parser(
        prog="getm run",
        usage="getm run [options] -- COMMAND ARGUMENTS...",
        description="Run a program that reads objects by URLs on this machine.",
        epilog=_EPILOG,
    )
    kept = "leave this URL or name in the arguments as it is; repeatable: for what the program writes to, or a proxy"
    parser.add_argument("--keep", action="append", default=[], metavar="NAME", help=kept)
    add_serving_options(parser)
    return parser
