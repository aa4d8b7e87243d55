"""The options of the download command: one parser, from which the help, the completions and the manual are made."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from getm._version import __version__
from getm.cli.output.progress import KINDS
from getm.cli.parser import Once, Parser
from getm.errors import InvalidInput
from getm.manifests import FORMATS

USAGE = (
    "getm [options] URL [FILE]\n       getm [options] URL URL... [-d DIR]\n       getm [options] -m MANIFEST\n"
    "       getm verify FILE ALG:VALUE\n       getm verify SUMSFILE...\n       getm verify --receipt FILE\n"
    "       getm hash [-a ALG] FILE...\n       getm demo [--size MIB]"
)

_EPILOG = """\
examples:
  getm https://host/sample.bam
  getm https://host/sample.bam data/ -x 8 --checksum md5:9e107d9d372bb6826bd81d3542a419d6
  getm https://host/a.bam https://host/b.bam -d data
  getm https://host/sample.tar - | tar x
  getm -m manifest.json -j 8 -c --receipt received.jsonl
  sed 's|^|https://host/|' names | getm -i - -d data
  getm -m SHA256SUMS --base-url https://host/release/
  getm verify SHA256SUMS
  getm demo

A manifest is a JSON list of {"url", "filepath", "checksum", "checksum-algorithm"}; all but "url" may be left out. Also
read: JSON Lines, a URL on each line, aria2 input files, checksum files, CSV and TSV, Metalink 4, BagIt fetch.txt. What
it is shows; --format says so where it does not.

A file appears at its target complete and verified, or not at all. What an interrupted run has brought is kept beside
the target (.NAME.getm-part), and the next one goes on from there. -v tells what verified a file, and who declared it.
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

_SUFFIXES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", re.IGNORECASE)


def amount(text: str) -> int:
    """Bytes, with the suffixes K, M, G and T for powers of 1024, as curl, wget and aria2 have them."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of bytes; give one like 500K, 20M or 1048576")
    return int(float(match[1]) * _SUFFIXES[match[2].lower()])


def build_parser() -> Parser:
    """The parser of `getm`."""
    parser = Parser(
        prog="getm",
        usage=USAGE,
        description="Download data from http(s) URLs, fast, with every byte verified. Or verify files at hand.",
        epilog=_EPILOG,
    )
    parser.add_argument("operands", nargs="*", metavar="URL [FILE]", help="what to download, and where to")
    add = parser.add_argument_group("where it comes from and goes to").add_argument
    add(
        "-o", "-O", "--filepath", action=Once, metavar="FILE", help="target: a file, a folder, or - for standard output"
    )
    add("-d", "--dir", action=Once, metavar="DIR", help="folder for all targets; none leaves it")
    add("-m", "-i", "--manifest", action=Once, metavar="FILE", help="download what a list names; - is standard input")
    add(
        "--format",
        action=Once,
        choices=FORMATS,
        metavar="FORMAT",
        help=f"of the list: {', '.join(FORMATS)} (default: see what it is)",
    )
    add("--base-url", action=Once, metavar="URL", help="what the names in a checksum file are relative to")
    add(
        "--columns",
        action=Once,
        metavar="FIELD=NAME,...",
        help="which columns of a CSV or TSV hold url, path, size, md5, ...",
    )
    add("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="send this header; repeatable")
    add("--cacert", action=Once, metavar="FILE", help="trust the certificate authorities in this PEM file")
    add(
        "-k",
        "--insecure",
        action="store_true",
        help="check no certificates: anybody on the way can change the data",
    )
    add = parser.add_argument_group("verification").add_argument
    add(
        "-cs",
        "--checksum",
        action="append",
        default=[],
        metavar="ALG:VALUE",
        help="what must match (repeatable: all must); auto (default): what the server declares; none",
    )
    add(
        "-ca",
        "--checksum-algorithm",
        action="append",
        default=[],
        metavar="ALG",
        help="md5, gs_crc32c, s3_etag, null, ...: then --checksum is the value",
    )
    add("--strict", action="store_true", help="fail when nothing verifies the bytes")
    add(
        "--receipt",
        action=Once,
        metavar="FILE",
        help="append a JSON line about each file; getm verify --receipt proves them later",
    )
    add = parser.add_argument_group("speed and limits").add_argument
    add("-x", "--concurrency", type=int, default=1, metavar="N", help="range requests at once for a file (default 1)")
    add("-j", "--jobs", type=int, default=8, metavar="N", help="files at once (default 8)")
    add("--per-host", type=int, default=64, metavar="N", help="connections to one host at most (default 64)")
    add("--processes", type=int, default=1, metavar="N", help="background processes that fetch (default 1)")
    add(
        "--multipart-threshold",
        type=amount,
        default=0,
        metavar="BYTES",
        help="smaller objects are fetched over one connection despite -x",
    )
    add("--limit-rate", type=amount, metavar="BYTES", help="bytes a second at most, over everything (500K, 20M, ...)")
    add("--timeout", type=float, metavar="SECONDS", help="longest silence of a connection (default 30, then 60)")
    add(
        "--speed-limit",
        type=amount,
        metavar="BYTES",
        help="give up a connection that brings fewer a second (1K)",
    )
    add("--speed-time", type=float, metavar="SECONDS", help="... over this time (default 30)")
    add("--retries", type=int, default=5, metavar="N", help="attempts after the first without progress (default 5)")
    add("-c", "--continue-after-error", action="store_true", help="go on with the other files after a failure")
    add = parser.add_argument_group("files").add_argument
    add("--no-resume", action="store_true", help="begin anew, whatever an interrupted run has left, and leave nothing")
    add("-nc", "--no-clobber", action="store_true", help="leave files that exist as they are")
    add("-R", "--remote-time", action="store_true", help="give files the server's time (Last-Modified)")
    add = parser.add_argument_group("what it tells").add_argument
    add("--dry-run", action="store_true", help="ask for sizes only; list what would be downloaded, and the free space")
    add("--json", action="store_true", help="a JSON object on standard output for each file")
    add("--progress", choices=KINDS, default="auto", help="on standard error (default auto: bars on a terminal)")
    add("-q", "--quiet", "--no-progress", action="store_true", help="no progress bar on a terminal")
    add("-v", "--verbose", action="count", default=0, help="log to standard output (with -: to a terminal); -vv: more")
    add("--version", action="version", version=f"getm {__version__}")
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a download. Raises `InvalidInput`."""
    options = build_parser().parse(arguments)
    for name in ("concurrency", "jobs", "per_host", "processes"):
        if getattr(options, name) < 1:
            raise InvalidInput(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(options, name)}")
    if options.limit_rate is not None and options.limit_rate < 1:
        raise InvalidInput("--limit-rate must be 1 byte a second or more")
    return options
