"""The options of the download command: one parser, from which the help, the completions and the manual are made."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from getm._version import __version__
from getm.batch.settings import DEFAULT_PER_HOST, EXISTING, MAX_JOBS
from getm.cli.output.errors import JSON_ERRORS
from getm.cli.output.progress import KINDS
from getm.cli.parser import Once, Parser, amount, json_errors, number, short_form
from getm.cli.session_options import (
    add_config_options,
    add_connection_options,
    add_filters,
    add_rate_limit,
    add_retry_options,
    add_url_command,
)
from getm.manifests.formats import FORMATS
from getm.options import MAX_CONCURRENCY

USAGE = (
    "getm [options] URL [FILE]\n       getm [options] URL URL... [-d DIR]\n       getm [options] -m LIST\n"
    "       getm ls NAME...\n       getm run -- COMMAND ARGUMENTS...\n       getm serve NAME...\n"
    "       getm verify FILE ALG:VALUE\n       getm verify SUMSFILE...\n       getm verify --receipt FILE\n"
    "       getm hash [-a ALG] FILE...\n       getm report RECEIPT [-o FILE]\n       getm sources\n"
    "       getm demo [--size MIB]\n       getm help [TOPIC]"
)

# What -h prints.
SHORT = """\
usage: getm [options] URL [FILE]
       getm [options] URL URL... [-d DIR]
       getm [options] -m LIST [-d DIR]

  FILE                  where to: a file, a folder (data/), an object
                        (s3://bucket/key), or - for standard output; without
                        it, the name in the URL
  -d DIR                folder for all targets
  -m LIST               download what a list names; - is standard input
  --checksum ALG:VALUE  what the data must match (default: what the server
                        declares); --strict: fail where nothing verifies it
  -x N, -j N            connections for a file, files at once (default: auto)
  --limit-rate 20M      most bytes a second
  -c                    continue with the other files after a failure
  -nc, -N               skip files that exist; download only what is newer
  -H 'NAME: VALUE'      send this header; -H @FILE reads them from a file
  -q, -v, --json        no progress; a log; a JSON object for each file
  --dry-run             print names and sizes, and download nothing

  getm ls s3://bucket/in/     getm verify SHA256SUMS     getm hash FILE...
  getm run -- samtools view s3://bucket/x.bam chr1

All options: getm --help. About one thing: getm help TOPIC (lists, checksums,
listing, resume, connections, logins, output, config, environment, ...).
"""

_EPILOG = """\
examples:
  getm https://host/sample.bam
  getm https://host/sample.bam data/ -x 8 --checksum sha256:9f86d081884c7d...
  getm https://host/a.bam https://host/b.bam -d data
  getm https://host/sample.tar - | tar x
  getm 's3://bucket/in/*.cram' hf://org/model -d data
  getm -m manifest.json -j 8 -c --receipt received.jsonl
  sed 's|^|https://host/|' names | getm -i - -d data
  getm -m SHA256SUMS --base-url https://host/release/
  getm https://host/sample.bam --on-complete 'samtools index'
  getm https://host/sample.bam -H @token.headers --config getm.toml
  getm verify SHA256SUMS
  getm demo

A file appears at its target complete and verified, or not at all. With
--no-fsync that holds for a kill, but not for a power failure: files that are
in place may then be empty or hold zeros. An interrupted download resumes
where it stopped when the same command runs again.

More about one thing: getm help TOPIC, where TOPIC is lists, listing, checksums,
resume, connections, logins, output, config, environment, files, stores or
exit-status.
"""


class PrintShort(argparse.Action):
    """Prints the usual options, and ends."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments, nargs=0, default=argparse.SUPPRESS)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        _write(SHORT)
        parser.exit()


class PrintWhole(PrintShort):
    """Prints all options, what they mean together, and the exit statuses, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        # Needed by few.
        from getm.cli.help import read_topic

        title, rest = read_topic("exit-status").split("\n\n", 1)
        _write(f"{parser.format_help()}\n{title.partition(':')[0].lower()}:\n{rest}")
        parser.exit()


def _write(text: str) -> None:
    if sys.stdout is not None:
        sys.stdout.write(text)


def build_parser() -> Parser:
    """The parser of `getm`."""
    parser = Parser(
        prog="getm",
        usage=USAGE,
        description="Fast downloads over HTTP, checked against every checksum the server declares\n"
        "or you give. Also verifies local files.",
        epilog=_EPILOG,
        add_help=False,
    )
    flag: dict[str, Any] = {"action": "store_true"}
    each: dict[str, Any] = {"action": "append", "default": []}
    add = parser.add_argument_group("what to download, and where to").add_argument
    add("operands", nargs="*", metavar="URL [FILE]", help="an object, and its target; or several URLs")
    add(
        "-o",
        "-O",
        "--filepath",
        action=Once,
        metavar="FILE",
        help="target: a file, a folder, an object (s3://...), or - (standard output)",
    )
    add("-d", "--dir", action=Once, metavar="DIR", help="folder for all targets; no target may leave it")
    add("-m", "-i", "--manifest", action=Once, metavar="FILE", help="download what a list names; - is standard input")
    formats = f"format of the list: {', '.join(FORMATS)} (default: detected)"
    add("--format", action=Once, choices=FORMATS, metavar="FORMAT", help=formats)
    add("--base-url", action=Once, metavar="URL", help="what the names in a checksum file are relative to")
    columns = "which columns of a CSV or TSV hold url, path, size, md5, ..."
    add("--columns", action=Once, metavar="FIELD=NAME,...", help=columns)
    add_url_command(add)
    below = "URLs that end with a slash or have wildcards stand for what index pages list; all of a folder is meant"
    add("-r", "--recursive", **flag, help=below)
    add_filters(add)
    literal = "names with wildcards, or a slash at the end, are those of single objects"
    add("--no-glob", **flag, help=literal)
    add = parser.add_argument_group("what must be right").add_argument
    checksums = (
        "what the data must match; repeatable: all must. auto (default): what the server declares; none: nothing"
    )
    add("-cs", "--checksum", **each, metavar="ALG:VALUE", help=checksums)
    algorithms = "md5, gs_crc32c, s3_etag, null, ...: --checksum is then the value alone"
    add("-ca", "--checksum-algorithm", **each, metavar="ALG", help=algorithms)
    add("--strict", **flag, help="fail where nothing verifies the data")
    add("--receipt", action=Once, metavar="FILE", help="append a JSON line for each file; see getm verify --receipt")
    add = parser.add_argument_group("files that are there already").add_argument
    left = (
        "what becomes of files that exist: replace (default); keep; verify: those that have the size and checksum of"
        " the list, the receipt or the server are left, others are downloaded again; update: those that the server has"
        " not modified since are left; repair: as verify, and only damaged blocks are downloaded"
    )
    add("--existing", action=Once, choices=EXISTING, metavar="WHAT", help=left)
    add("-nc", "--no-clobber", **short_form("existing", "keep", "skip files that exist"))
    add("-N", **short_form("existing", "update", "download what is newer"))
    add("--no-resume", **flag, help="start over, and keep no partial data")
    add("-R", "--remote-time", **flag, help="give files the server's time (Last-Modified)")
    add = parser.add_argument_group("how fast").add_argument
    at_once = "range requests at once for a file; auto (default): one, and more while they bring more"
    add("-x", "--concurrency", **number(1, MAX_CONCURRENCY, "auto", auto=True), help=at_once)
    files = "files at once; auto (default): many small ones, few large ones"
    add("-j", "--jobs", **number(1, MAX_JOBS, "auto", auto=True), help=files)
    connections = f"most connections to one host (default {DEFAULT_PER_HOST})"
    add("--per-host", **number(1, MAX_JOBS * MAX_CONCURRENCY, DEFAULT_PER_HOST), help=connections)
    engines = "background processes that download; auto: one, and more where they pay (default auto)"
    add("--processes", **number(1, default="auto", auto=True), help=engines)
    cluster = "the workers of a Dask cluster download: tcp://HOST:PORT, or local[:N], processes on this machine"
    add("--dask", action=Once, metavar="SCHEDULER", help=cluster)
    threshold = "smaller objects are downloaded over one connection despite -x"
    add("--multipart-threshold", **amount(0, default=0), help=threshold)
    add_rate_limit(add)
    no_fsync = "do not wait for the disk: faster, but after a power failure new files may be empty or damaged"
    add("--no-fsync", **flag, help=no_fsync)
    add = parser.add_argument_group("when something fails").add_argument
    add("-c", "--continue-after-error", **flag, help="continue with the other files after a failure")
    add_retry_options(add)
    add_connection_options(parser)
    add = parser.add_argument_group("what is shown, and what follows").add_argument
    add("--progress", choices=KINDS, default="auto", help="on standard error (default auto: bars on a terminal)")
    add("-q", "--quiet", "--no-progress", **flag, help="no progress bar on a terminal")
    add("-v", "--verbose", action="count", default=0, help="log to standard output (with -: to a terminal); -vv: more")
    add("--explain", **flag, help="say where the time went, and what limits the speed")
    add("--json", **flag, help="a JSON object on standard output for each file")
    add(JSON_ERRORS, **json_errors())
    add("--dry-run", **flag, help="print names, sizes, the total and the free space, and download nothing")
    command = (
        "run this for each file that has come, with its path as last argument, and GETM_PATH, GETM_SIZE and"
        " GETM_CHECKSUM; without a shell"
    )
    add("--on-complete", action=Once, metavar="CMD", help=command)
    add = parser.add_argument_group("help, and defaults").add_argument
    add("-h", action=PrintShort, help="the usual options")
    add("--help", action=PrintWhole, help="all options")
    add("--version", action="version", version=f"getm {__version__}", help="print the version")
    add_config_options(add)
    return parser
