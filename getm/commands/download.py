"""`getm URL [FILE]` and `getm -m MANIFEST`: downloads, one or a batch."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import getm
from getm._version import __version__
from getm.commands.parser import Parser
from getm.commands.process import logging_to_stdout
from getm.commands.report import EXIT_OK, report, sum_up
from getm.downloads import DownloadResult, StreamTarget
from getm.downloads.naming import name_from_url
from getm.downloads.progress import KINDS, open_display
from getm.downloads.receipt import Receipt
from getm.downloads.wording import finished_text
from getm.errors import GetmError, InvalidInput, TargetError
from getm.events import Event, Failed, Finished, Planned, Progressed, Started
from getm.integrity import parse_checksum, parse_pair
from getm.lists import open_list
from getm.options import parse_header
from getm.redact import redact

# Log records keep away from the data, by whichever name it goes there.
_STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")

_log = logging.getLogger("getm.cli")

_EPILOG = """\
examples:
  getm https://host/sample.bam
  getm https://host/sample.bam data/ -x 8 --checksum md5:9e107d9d372bb6826bd81d3542a419d6
  getm https://host/sample.tar - | tar x
  getm -m manifest.json -j 8 -c --receipt receipt.jsonl
  getm verify SHA256SUMS
  getm demo

A manifest is a JSON list of {"url", "filepath", "checksum", "checksum-algorithm"}; all but "url" may be left out.
A file appears at its target complete and verified, or not at all; -v tells what verified it, and who had declared it.
More on files at hand: getm verify --help, getm hash --help.

exit status:
  0  success                              8  the server answered with an error status
  1  another failure, or several kinds;   9  wrong checksum, or unverified with --strict
     getm verify: a file is not right   130  interrupted (Ctrl-C); 143 terminated
  2  bad options, URL or manifest       141  the reader of standard output has gone
  3  the target cannot be written
  4  network: connection, TLS, time, truncation

On failure, standard error begins with "ERROR:getm.cli:" and a JSON object on the same line.
"""


class _BatchStopped(Exception):
    """Ends a download whose batch has failed elsewhere; told to nobody."""


@dataclass(frozen=True, slots=True)
class _Job:
    index: int
    url: str
    path: str | None
    checksum: str | None


def main(arguments: Sequence[str]) -> int:
    """Run the command with `arguments` and return its exit status; raises what getm raises."""
    return _download(_parse(arguments))


def build_parser() -> Parser:
    """The parser of downloads, `getm` without one of its words."""
    parser = Parser(
        prog="getm",
        usage=(
            "getm [options] URL [FILE]\n       getm [options] -m MANIFEST\n       getm verify FILE ALG:VALUE\n"
            "       getm verify SUMSFILE...\n       getm verify --receipt FILE\n       getm hash [-a ALG] FILE...\n"
            "       getm completion bash|zsh|fish\n       getm demo [--size MIB]"
        ),
        description="Download data from http(s) URLs, fast, with every byte verified. Or verify files at hand.",
        epilog=_EPILOG,
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
    add(
        "--progress",
        choices=KINDS,
        default="auto",
        metavar="KIND",
        help="auto (default): a bar on a terminal, else none; bar, plain (lines), json, none",
    )
    add("--receipt", metavar="FILE", help="add a line of JSON for each file, for getm verify --receipt FILE")
    add("-v", "--verbose", action="count", default=0, help="log to standard output (with -: to a terminal); -vv: more")
    add("--version", action="version", version=f"getm {__version__}")
    return parser


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    options = build_parser().parse(arguments)
    for name in ("concurrency", "jobs"):
        if getattr(options, name) < 1:
            raise InvalidInput(f"--{name} must be 1 or more, not {getattr(options, name)}")
    return options


def _jobs(options: argparse.Namespace) -> list[_Job]:
    operands, filepath = options.operands, options.filepath
    if options.manifest is not None:
        if operands or filepath or options.checksum or options.checksum_algorithm:
            raise InvalidInput("--manifest takes no URL, FILE or checksum beside it: these stand in the manifest")
        with open_list(options.manifest, format="json") as entries:
            return [
                _Job(index, entry.urls[0], _path(entry), str(entry.checksum or "auto"))
                for index, entry in enumerate(entries)
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
    return [_Job(0, operands[0], path, _checksum(options.checksum, options.checksum_algorithm))]


def _path(entry: getm.Entry) -> str | None:
    """None where the list leaves the name open: the server may then tell it."""
    return None if entry.path is None else entry.path if entry.path.endswith("/") else entry.target()


def _checksum(value: str | None, algorithm: str | None) -> str | None:
    if algorithm is not None:
        pair = parse_pair(algorithm, value)
        return str(pair) if pair else "auto"
    if value is None or value == "auto":
        return "auto"
    return None if value == "none" else str(parse_checksum(value))


def _download(options: argparse.Namespace) -> int:
    jobs = _jobs(options)
    to_stdout = any(job.path in _STANDARD_OUTPUT for job in jobs)
    with (
        logging_to_stdout(options.verbose, to_stdout),
        getm.Session(
            headers=[parse_header(line) for line in options.header],
            timeout=options.timeout,
            cacert=options.cacert,
            retries=options.retries,
        ) as session,
    ):
        kind = options.progress
        # With -v, log records tell what a bar would, and would tear it apart.
        torn = options.verbose or (to_stdout and sys.stdout and sys.stdout.isatty())
        if options.quiet or (torn and kind == "auto"):
            kind = "none"
        with contextlib.ExitStack() as stack:
            consumers = [stack.enter_context(open_display(sys.stderr, kind, files=len(jobs))).on_event]
            if options.receipt is not None:
                consumers.append(stack.enter_context(Receipt(options.receipt)).on_event)
            batch = _Batch(session, options, consumers)
            batch.tell(Planned(len(jobs), None))
            if options.manifest is None:
                batch.fetch(jobs[0])
                return EXIT_OK
            return batch.fetch_all(jobs)


class _Batch:
    """Downloads with one session, one at a time or several at once."""

    def __init__(
        self, session: getm.Session, options: argparse.Namespace, consumers: Sequence[Callable[[Event], None]]
    ) -> None:
        self._session = session
        self._options = options
        self._consumers = consumers
        self._stop = threading.Event()

    def fetch_all(self, jobs: list[_Job]) -> int:
        """All of `jobs`, `-j` at once. Reports each failure as it happens; the first one stops the rest unless `-c`."""
        failures: list[Exception] = []
        pool = concurrent.futures.ThreadPoolExecutor(self._options.jobs, thread_name_prefix="getm-download")
        try:
            futures = {pool.submit(self._fetch_unless_stopped, job): job for job in jobs}
            for future in concurrent.futures.as_completed(futures):
                error = future.exception()
                if isinstance(error, Exception) and not isinstance(error, _BatchStopped):
                    failures.append(error)
                    report(error, futures[future].url)
                    if self._stop.is_set():
                        break
        finally:
            # Downloads under way end at their next byte; closing the session ends those that wait for one.
            self._stop.set()
            self._session.close()
            pool.shutdown(cancel_futures=True)
        return sum_up(failures, len(jobs))

    def _fetch_unless_stopped(self, job: _Job) -> None:
        self._go_on()
        try:
            self.fetch(job)
        except Exception:
            if not self._options.continue_after_error:
                # Set here, in the worker: it would begin with the next file before the main thread hears of this one.
                self._stop.set()
            raise

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _BatchStopped

    def tell(self, event: Event) -> None:
        """Tell `event` to the display and the receipt."""
        for consume in self._consumers:
            consume(event)

    def fetch(self, job: _Job) -> None:
        """One download, to its file or to standard output."""
        url, path = redact(job.url), Path(job.path or name_from_url(job.url))
        self.tell(Started(job.index, url, path, None))
        try:
            result = self._to_stdout(job) if job.path == "-" else self._to_file(job)
        except _BatchStopped:
            raise
        except Exception as error:
            known = error if isinstance(error, GetmError) else GetmError(f"{type(error).__name__}: {error}")
            self.tell(Failed(job.index, url, path, known))
            raise
        self.tell(Finished(job.index, result))
        _log.info("%s", finished_text(result))

    def _to_file(self, job: _Job) -> DownloadResult:
        def on_progress(done_bytes: int, total_bytes: int | None) -> None:
            self._go_on()
            self.tell(Progressed(job.index, done_bytes, total_bytes))

        return self._session.download(
            job.url,
            job.path,
            checksum=job.checksum,
            concurrency=self._concurrency(job),
            strict=self._options.strict,
            on_progress=on_progress,
        )

    def _to_stdout(self, job: _Job) -> DownloadResult:
        if sys.stdout is None:
            raise TargetError("Standard output is closed; give a FILE, or open it.", path="-")
        sys.stdout.flush()
        began = time.monotonic()
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
                self.tell(Progressed(job.index, done_bytes, parts.size))
            verdict, stats = parts.checksum, parts.stats
        return DownloadResult(Path("-"), done_bytes, verdict, verdict.verified, time.monotonic() - began, stats)

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
