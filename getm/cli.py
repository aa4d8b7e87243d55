"""The command `getm`: arguments, printing, exit codes.

What callers may rely on: on success standard error is empty (unless it is a terminal, which gets a progress bar). On
failure it begins `ERROR:getm.cli:`, followed on the same line by one JSON object with `"message"`, `"url"` (without
query and userinfo) where a URL is concerned, and `"status_code"` for HTTP errors; in a batch there is such a line for
each failure and, after several, one that sums them up. No traceback, no warning and no log record goes there.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import getm
from getm._version import __version__
from getm.downloads import DownloadResult, StreamTarget, parse_manifest
from getm.downloads.naming import name_from_url
from getm.downloads.progress import Progress, ProgressCallback, open_progress
from getm.errors import (
    ChecksumMismatch,
    GetmError,
    HTTPStatusError,
    IntegrityError,
    InvalidInput,
    NetworkError,
    TargetError,
)
from getm.integrity import parse_checksum, parse_pair
from getm.redact import redact

EXIT_OK = 0
EXIT_OTHER = 1
# 2, 3, 4 and 8 mean what they mean to wget (wget(1), "Exit status").
EXIT_USAGE = 2
EXIT_DISK = 3
EXIT_NETWORK = 4
EXIT_HTTP = 8
EXIT_INTEGRITY = 9
# 128 plus the number of a signal, as shells report it.
EXIT_SIGNAL = 128

_EXIT_CODES: tuple[tuple[type[GetmError], int], ...] = (
    (InvalidInput, EXIT_USAGE),
    (TargetError, EXIT_DISK),
    (HTTPStatusError, EXIT_HTTP),
    (NetworkError, EXIT_NETWORK),
    (IntegrityError, EXIT_INTEGRITY),
)

# Log records keep away from the data, by whichever name it goes there.
_STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")

_log = logging.getLogger("getm.cli")

_EPILOG = """\
examples:
  getm https://host/sample.bam
  getm https://host/sample.bam data/ -x 8 --checksum md5:9e107d9d372bb6826bd81d3542a419d6
  getm https://host/sample.tar - | tar x
  getm -m manifest.json -j 8 -c
  getm demo

A manifest is a JSON list of {"url", "filepath", "checksum", "checksum-algorithm"}; all but "url" may be left out.
A file appears at its target complete and verified, or not at all.

exit status:
  0  success                              8  the server answered with an error status
  1  another failure, or several kinds    9  wrong checksum, or unverified with --strict
  2  bad options, URL or manifest       130  interrupted (Ctrl-C); 143 terminated
  3  the target cannot be written       141  the reader of standard output has gone
  4  network: connection, TLS, time, truncation

On failure, standard error begins with "ERROR:getm.cli:" and a JSON object on the same line.
"""


class _Stopped(KeyboardInterrupt):
    """A signal asks this process to end: KeyboardInterrupt for more signals than SIGINT."""

    def __init__(self, number: int) -> None:
        self.number = number


class _BatchStopped(Exception):
    """Ends a download whose batch has failed elsewhere; told to nobody."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidInput(f"{message}; see getm --help")


@dataclass(frozen=True, slots=True)
class _Job:
    url: str
    path: str | None
    checksum: str | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: this process's arguments) and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _occupy_standard_descriptors()
    with _quiet_process():
        try:
            if arguments[:1] == ["demo"]:
                from getm import demo

                return demo.main(arguments[1:])
            return _run(_parse(arguments))
        except SystemExit as exit_:
            # argparse, after --help and --version.
            return exit_.code if isinstance(exit_.code, int) else EXIT_OK
        except KeyboardInterrupt as stop:
            number = stop.number if isinstance(stop, _Stopped) else signal.SIGINT
            word = "Interrupted" if number == signal.SIGINT else "Terminated"
            _print_error({"message": f"{word} by {signal.Signals(number).name}; unfinished files were removed."})
            return EXIT_SIGNAL + number
        except Exception as error:
            if _reader_has_gone(error):
                return EXIT_SIGNAL + signal.SIGPIPE
            return _report(error)


def _build_parser() -> _Parser:
    parser = _Parser(
        prog="getm",
        usage="getm [options] URL [FILE]\n       getm [options] -m MANIFEST\n       getm demo [--size MIB]",
        description="Download data from http(s) URLs, fast, with every byte verified.",
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=34),
        # Abbreviations that scripts come to use would break with the next option.
        allow_abbrev=False,
    )
    parser.add_argument("operands", nargs="*", metavar="URL [FILE]", help="what to download, and where to")
    add = parser.add_argument_group("where it comes from and goes to").add_argument
    add("-o", "-O", "--filepath", metavar="FILE", help="target: a file, a folder, or - for standard output")
    add("-m", "-i", "--manifest", metavar="FILE", help="download what a JSON manifest lists; - is standard input")
    add("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="send this header; repeatable")
    add("--cacert", metavar="FILE", help="trust the certificate authorities in this PEM file")
    add = parser.add_argument_group("verification").add_argument
    add(
        "-cs", "--checksum", metavar="ALG:VALUE", help="what must match; auto (default): what the server declares; none"
    )
    add(
        "-ca",
        "--checksum-algorithm",
        metavar="ALG",
        help="md5, gs_crc32c, s3_etag, null, ...: then --checksum is the value",
    )
    add("--strict", action="store_true", help="fail when nothing verifies the bytes")
    add = parser.add_argument_group("speed and patience").add_argument
    add("-x", "--concurrency", type=int, default=1, metavar="N", help="range requests at once for a file (default 1)")
    add("-j", "--jobs", type=int, default=4, metavar="N", help="files of a manifest at once (default 4)")
    add(
        "--multipart-threshold", type=int, metavar="BYTES", help="smaller objects are fetched by one request despite -x"
    )
    add("--timeout", type=float, metavar="SECONDS", help="longest silence of a connection (default 30, then 60)")
    add("--retries", type=int, default=5, metavar="N", help="attempts after the first without progress (default 5)")
    add("-c", "--continue-after-error", action="store_true", help="go on with the other files of a manifest")
    add = parser.add_argument_group("what it tells").add_argument
    add("-q", "--quiet", "--no-progress", action="store_true", help="no progress bar on a terminal")
    add("-v", "--verbose", action="count", default=0, help="log to standard output (with -: to a terminal); -vv: more")
    add("--version", action="version", version=f"getm {__version__}")
    return parser


def _parse(arguments: list[str]) -> argparse.Namespace:
    options, unknown = _build_parser().parse_known_intermixed_args(arguments)
    if unknown:
        # Names only: what stands behind the "=", or after the name, may be a secret.
        names = ", ".join(argument.partition("=")[0] for argument in unknown if argument.startswith("-"))
        raise InvalidInput(f"unknown option: {names}; see getm --help")
    for name in ("concurrency", "jobs"):
        if getattr(options, name) < 1:
            raise InvalidInput(f"--{name} must be 1 or more, not {getattr(options, name)}")
    return options


def _jobs(options: argparse.Namespace) -> list[_Job]:
    operands, filepath = options.operands, options.filepath
    if options.manifest is not None:
        if operands or filepath or options.checksum or options.checksum_algorithm:
            raise InvalidInput("--manifest takes no URL, FILE or checksum beside it: these stand in the manifest")
        return [
            # "-" in a manifest is a file of that name: many downloads cannot share standard output.
            _Job(entry.url, "./-" if entry.path == "-" else entry.path, str(entry.checksum or "auto"))
            for entry in parse_manifest(_read_manifest(options.manifest))
        ]
    if not operands:
        raise InvalidInput("one of URL and --manifest must be given; see getm --help")
    if len(operands) > 2 or (len(operands) == 2 and operands[1].lower().startswith(("http://", "https://"))):
        raise InvalidInput("one URL at a time, with at most one FILE; list several in a manifest (-m)")
    if len(operands) == 2:
        if filepath is not None:
            raise InvalidInput("the target is given twice: by FILE and by --filepath")
        filepath = operands[1]
    # Shells do not expand "~" within --filepath=~/x, and getm 0.0.x did.
    path = os.path.expanduser(filepath) if filepath else None  # noqa: PTH111 - Path drops a trailing slash
    return [_Job(operands[0], path, _checksum(options.checksum, options.checksum_algorithm))]


def _read_manifest(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InvalidInput(f"The manifest {name} cannot be read: {error.strerror}.") from error


def _checksum(value: str | None, algorithm: str | None) -> str | None:
    if algorithm is not None:
        pair = parse_pair(algorithm, value)
        return str(pair) if pair else "auto"
    if value is None or value == "auto":
        return "auto"
    return None if value == "none" else str(parse_checksum(value))


def _headers(lines: list[str]) -> list[tuple[str, str]]:
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            # The line is not quoted: it may be a misplaced secret.
            raise InvalidInput("-H/--header expects 'NAME: VALUE'")
        headers.append((name.strip(), value.strip()))
    return headers


def _run(options: argparse.Namespace) -> int:
    jobs = _jobs(options)
    to_stdout = any(job.path in _STANDARD_OUTPUT for job in jobs)
    with (
        _logging(options.verbose, to_stdout),
        getm.Session(
            headers=_headers(options.header),
            timeout=options.timeout,
            cacert=options.cacert,
            retries=options.retries,
        ) as session,
    ):
        batch = _Batch(session, options)
        # With -v, log records tell what a bar would, and would tear it apart.
        shown = not options.quiet and not options.verbose and not (to_stdout and sys.stdout and sys.stdout.isatty())
        with open_progress(sys.stderr, shown=shown, files=len(jobs)) as progress:
            if options.manifest is None:
                batch.fetch(jobs[0], progress)
                return EXIT_OK
            return batch.fetch_all(jobs, progress)


class _Batch:
    """Downloads with one session, one at a time or several at once."""

    def __init__(self, session: getm.Session, options: argparse.Namespace) -> None:
        self._session = session
        self._options = options
        self._stop = threading.Event()

    def fetch_all(self, jobs: list[_Job], progress: Progress) -> int:
        """All of `jobs`, `-j` at once. Reports each failure as it happens; the first one stops the rest unless `-c`."""
        failures: list[Exception] = []
        pool = concurrent.futures.ThreadPoolExecutor(self._options.jobs, thread_name_prefix="getm-download")
        try:
            futures = {pool.submit(self._fetch_unless_stopped, job, progress): job for job in jobs}
            for future in concurrent.futures.as_completed(futures):
                error = future.exception()
                if isinstance(error, Exception) and not isinstance(error, _BatchStopped):
                    failures.append(error)
                    _report(error, futures[future].url)
                    if self._stop.is_set():
                        break
        finally:
            # Downloads under way end at their next byte; closing the session ends those that wait for one.
            self._stop.set()
            self._session.close()
            pool.shutdown(cancel_futures=True)
        return _sum_up(failures, len(jobs))

    def _fetch_unless_stopped(self, job: _Job, progress: Progress) -> None:
        self._go_on()
        try:
            self.fetch(job, progress)
        except Exception:
            if not self._options.continue_after_error:
                # Set here, in the worker: it would begin with the next file before the main thread hears of this one.
                self._stop.set()
            raise

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _BatchStopped

    def fetch(self, job: _Job, progress: Progress) -> None:
        """One download, to its file or to standard output."""
        callback = progress.start(job.path or name_from_url(job.url))
        try:
            line = self._to_stdout(job, callback) if job.path == "-" else self._to_file(job, callback)
        except BaseException:
            progress.finish(callback, f"{job.path or redact(job.url)}: failed")
            raise
        progress.finish(callback, line)
        _log.info("%s", line)

    def _to_file(self, job: _Job, callback: ProgressCallback) -> str:
        def on_progress(done_bytes: int, total_bytes: int | None) -> None:
            self._go_on()
            callback(done_bytes, total_bytes)

        result = self._session.download(
            job.url,
            job.path,
            checksum=job.checksum,
            concurrency=self._concurrency(job),
            strict=self._options.strict,
            on_progress=on_progress,
        )
        return _describe(result)

    def _to_stdout(self, job: _Job, callback: ProgressCallback) -> str:
        if sys.stdout is None:
            raise TargetError("Standard output is closed; give a FILE, or open it.", path="-")
        sys.stdout.flush()
        done_bytes = 0
        concurrency = self._concurrency(job)
        with (
            StreamTarget(sys.stdout.fileno(), Path("-")) as target,
            self._session.iter_content(
                job.url, concurrency=concurrency, checksum=job.checksum, strict=self._options.strict
            ) as parts,
        ):
            for part in parts:
                target.write(done_bytes, part)
                done_bytes += len(part)
                callback(done_bytes, parts.size)
            verdict = parts.checksum
        return f"-: {done_bytes:,} bytes, {verdict}"

    def _concurrency(self, job: _Job) -> int:
        """`-x`, but 1 for an object below `--multipart-threshold`. Its size is asked by a GET whose body is not read:
        a HEAD request is refused by URLs that are signed for GET."""
        concurrency: int = self._options.concurrency
        threshold: int | None = self._options.multipart_threshold
        if concurrency == 1 or threshold is None:
            return concurrency
        with self._session.iter_content(job.url, checksum=None) as probe:
            size = probe.size
        return 1 if size is not None and size < threshold else concurrency


def _describe(result: DownloadResult) -> str:
    return f"{result.path}: {result.size:,} bytes in {result.seconds:.1f} s, {result.checksum}"


# Telling what went wrong ---------------------------------------------------------------------------------------------


def exit_code(error: BaseException) -> int:
    """The exit status that stands for `error`."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), EXIT_OTHER)


def _report(error: Exception, url: str | None = None) -> int:
    if not isinstance(error, GetmError):
        _log.debug("unexpected error", exc_info=error)
        facts: dict[str, object] = {"message": f"Unexpected error, please report it: {type(error).__name__}: {error}"}
        if url is not None:
            facts["url"] = redact(url)
        _print_error(facts)
        return EXIT_OTHER
    # The words that callers of getm 0.0.x look for.
    wanting = isinstance(error, ChecksumMismatch) and "Checksum failed!" not in error.message
    message = f"Checksum failed! {error.message}" if wanting else error.message
    facts = {"message": message, "error": error.code}
    where = error.url or url
    if where is not None:
        facts["url"] = redact(where)
    fields = error.fields()
    if isinstance(error, HTTPStatusError):
        facts["status_code"] = fields.pop("status")
    facts.update((name, value) for name, value in fields.items() if value is not None)
    _print_error(facts)
    return exit_code(error)


def _sum_up(failures: list[Exception], jobs: int) -> int:
    """The exit status of a batch: that of its failures where they agree. After several, a last line sums them up."""
    codes = {exit_code(error) for error in failures}
    if len(failures) > 1:
        facts: dict[str, object] = {"message": f"{len(failures)} of {jobs} downloads failed.", "failed": len(failures)}
        statuses = [error.status for error in failures if isinstance(error, HTTPStatusError)]
        # Callers read the last status on standard error, and retry by it. One that no retry mends decides.
        lasting = [status for status in statuses if 400 <= status < 500 and status not in (408, 429)]
        if statuses:
            facts["status_code"] = (lasting or statuses)[0]
        _print_error(facts)
    return codes.pop() if len(codes) == 1 else EXIT_OTHER if codes else EXIT_OK


def _print_error(facts: dict[str, object]) -> None:
    if sys.stderr is not None:
        # json.dumps escapes everything beyond ASCII: the line stays one line for every reader.
        print(f"ERROR:getm.cli:{json.dumps(facts)}", file=sys.stderr, flush=True)


def _reader_has_gone(error: BaseException | None) -> bool:
    return isinstance(error, BrokenPipeError) or (
        isinstance(error, TargetError) and isinstance(error.__cause__, BrokenPipeError)
    )


# The process around it -----------------------------------------------------------------------------------------------


def _occupy_standard_descriptors() -> None:
    """Give descriptors 0 to 2 to /dev/null where they are closed: a socket or a file that got one of these numbers
    would be taken for standard input or output by a child process, and be written to by whatever prints."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one: those below it are taken by now.
            os.open(os.devnull, os.O_RDWR)


@contextlib.contextmanager
def _logging(verbosity: int, to_stdout: bool) -> Iterator[None]:
    """Log records to standard output, since callers take anything on standard error for a failure, whatever `-v` they
    give. Where the data itself goes to standard output, records go to standard error if that is a terminal."""
    stream = sys.stderr if to_stdout and sys.stderr is not None and sys.stderr.isatty() else sys.stdout
    if verbosity == 0 or stream is None or (to_stdout and stream is sys.stdout):
        yield
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)


@contextlib.contextmanager
def _quiet_process() -> Iterator[None]:
    """Nothing but `_print_error` writes to standard error, and signals that end the process clean up first."""
    root = logging.getLogger()
    # Without any handler, logging prints warnings to standard error.
    null = logging.NullHandler()
    root.addHandler(null)
    hooks = threading.excepthook, sys.unraisablehook, logging.raiseExceptions
    threading.excepthook = lambda args: _log.debug("unexpected error in a thread", exc_info=args.exc_value)
    sys.unraisablehook = lambda args: _log.debug("unexpected error in a finaliser", exc_info=args.exc_value)
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    handlers = _catch_signals()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        logging.captureWarnings(False)
        threading.excepthook, sys.unraisablehook, logging.raiseExceptions = hooks
        root.removeHandler(null)
        _flush_stdout()


def _catch_signals() -> dict[int, Callable[[int, FrameType | None], Any] | int]:
    """Make SIGINT, SIGTERM and SIGHUP raise `_Stopped`, where nobody (nohup, a shell's `&`) has said otherwise."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    caught: dict[int, Callable[[int, FrameType | None], Any] | int] = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before = signal.getsignal(number)
        if before is signal.SIG_DFL or before is signal.default_int_handler:
            signal.signal(number, _on_signal)
            caught[int(number)] = before
    return caught


def _on_signal(number: int, frame: FrameType | None) -> None:
    # A second one ends the process at once, should cleaning up take too long.
    signal.signal(number, signal.SIG_DFL)
    raise _Stopped(number)


def _flush_stdout() -> None:
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends, and would complain on standard error.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
