"""`getm verify`: local files against checksums, sums files (as sha256sum writes them) or the receipt of a download."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from getm.cli import defaults
from getm.cli.exit_status import EXIT_OK, EXIT_OTHER
from getm.cli.output.errors import JSON_ERRORS, print_error, print_failure, print_unreadable
from getm.cli.output.result_lines import Lines, one_line, size_bytes
from getm.cli.parser import Once, Parser, json_errors, number, refuse_urls
from getm.cli.session_options import (
    add_config_options,
    add_connection_options,
    add_rate_limit,
    add_retry_options,
    add_url_command,
    session_parser,
)
from getm.cli.standard_input import STANDARD_INPUT, check_operands
from getm.core.this_process import usable_cpus
from getm.core.url_path import is_url
from getm.errors import InvalidInput
from getm.files.receipt_lines import ReceiptEntry, read_receipt
from getm.files.streams import needs_order
from getm.integrity.algorithms import require_algorithm
from getm.integrity.file_batch import FileReport, check_files
from getm.integrity.sums_files import read_sums
from getm.integrity.values import Checksum, parse_checksum
from getm.manifests.document import Document
from getm.manifests.fields import looks_like_checksum

if TYPE_CHECKING:
    from getm.destinations.checking import ObjectChecker

_EPILOG = """\
examples:
  getm verify sample.bam md5:9e107d9d372bb6826bd81d3542a419d6
  getm verify sample.bam crc32c:AAAAAA== md5:9e107d9d372bb6826bd81d3542a419d6
  getm verify SHA256SUMS MD5SUMS
  curl -s https://host/SHA256SUMS | getm verify --ignore-missing -
  getm verify --receipt data/receipt.jsonl
  getm verify --receipt data/receipt.jsonl --repair

Sums files are those of md5sum, sha1sum, sha256sum, sha512sum and "cksum -a",
in the GNU form ("DIGEST  NAME", also -z) and in the BSD form ("ALGORITHM (NAME)
= DIGEST"). Their names are relative to the current folder, as for "sha256sum
-c". An operand after FILE is a checksum if it begins with the name of an
algorithm and ":" or "=", otherwise a sums file.

Receipts are what "getm --receipt" writes. The last line with "done" for a path
says which size and checksums the file must have. Their names are relative to
the receipt's folder. Objects in a store (s3://...) are read from there.

Standard output has a line for each file: "NAME: OK", "NAME: FAILED", "NAME:
FAILED open or read", or "NAME: NOT VERIFIED" (an S3 multipart ETag whose part
size cannot be found, or a receipt without a checksum).

With --repair, files that are damaged, too short, too long or missing are
downloaded from where they came from: only damaged blocks of 1 MiB or more,
where the receipt has their checksums, otherwise the whole. All of it must be of
the version that was received, and is verified before it replaces the file, so a
repair that is interrupted or fails leaves the file as it was. Their line is
"NAME: REPAIRED" or "NAME: FAILED, not repaired". The receipt gets a line for
each.

exit status:
  0  every file is as expected, or was repaired
  1  a file is not, or cannot be read or verified; a line cannot be understood
  2  bad options, or a sums file or receipt that cannot be read

On failure, standard error has "ERROR:getm.cli:" and a JSON object on one line,
unless it is a terminal, which gets a line for people.
"""

_OK, _FAILED, _UNREADABLE, _NOT_VERIFIED = "OK", "FAILED", "FAILED open or read", "NOT VERIFIED"
_REPAIRED, _NOT_REPAIRED = "REPAIRED", "FAILED, not repaired"


class _Entry(Struct, frozen=True):
    """What a list says of a file. `size` in bytes, None where it is not given. `received`: what a receipt says, and
    `receipt` which one."""

    name: str
    checksums: tuple[Checksum, ...]
    size: int | None = None
    received: ReceiptEntry | None = None
    receipt: str = ""

    @property
    def is_object(self) -> bool:
        """Whether it is in a store, and no file."""
        return self.received is not None and is_url(self.name)


def main(arguments: Sequence[str]) -> int:
    """Run `getm verify` with `arguments` and return its exit status; raises what getm raises."""
    parser = build_parser()
    if "--repair" in arguments:
        # What is checked only needs no connections.
        options = defaults.parse(parser, arguments, only=session_parser())
    else:
        options = parser.parse(arguments)
    if options.repair and (not options.receipt or STANDARD_INPUT in options.receipt):
        raise InvalidInput("--repair is for the files of a receipt: give it with --receipt FILE")
    if options.receipt and (options.operands or options.algorithm):
        raise InvalidInput("--receipt takes no FILE, SUMSFILE or --algorithm: it has the files and their checksums")
    if not options.receipt and not options.operands:
        raise InvalidInput("one of FILE ALG:VALUE, SUMSFILE and --receipt must be given; see getm verify --help")
    refuse_urls([*options.operands, *options.receipt])
    others = options.operands[1:]
    if others and all(map(_reads_as_checksum, others)):
        return _verify_one(options.operands[0], [parse_checksum(other) for other in others], options)
    misplaced = next(filter(_reads_as_checksum, options.operands), None)
    if misplaced is not None:
        raise InvalidInput(f"expected FILE ALG:VALUE or sums files, got {misplaced[:100]!r}; see getm verify --help")
    lists = [_read_sums(name, options.algorithm) for name in options.operands] or map(_read_receipt, options.receipt)
    entries, problems = (list(chain.from_iterable(each)) for each in zip(*lists, strict=True))
    if options.repair and (elsewhere := next((entry for entry in entries if entry.is_object), None)) is not None:
        raise InvalidInput(
            f"--repair is for files, and the receipt has objects in a store, such as {elsewhere.name}: download them "
            "again with --existing=verify"
        )
    return _verify_lists(entries, problems, options)


def build_parser() -> Parser:
    """The parser of `getm verify`."""
    parser = Parser(
        prog="getm verify",
        usage="getm verify [options] FILE ALG:VALUE...\n       getm verify [options] SUMSFILE...\n"
        "       getm verify [options] --receipt FILE [--repair]",
        description="Check files against checksums, on all cores.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add("operands", nargs="*", metavar="FILE ALG:VALUE | SUMSFILE", help="- as FILE or SUMSFILE is standard input")
    digests = "what the digests of a sums file are, where that is not clear"
    add("-a", "--algorithm", action=Once, metavar="ALG", help=digests)
    add("--ignore-missing", action="store_true", help="skip files of a sums file or receipt that do not exist")
    add("-j", "--jobs", **number(1), help="files at once (default: the number of cores)")
    add("-q", "--quiet", action="store_true", help="no lines for files that are as expected, no progress bar")
    add(JSON_ERRORS, **json_errors())
    add("--receipt", action="append", default=[], metavar="FILE", help="check the files of a receipt; repeatable")
    mended = "with --receipt: download what is damaged or missing, by blocks where the receipt has them"
    add("--repair", action="store_true", help=mended)
    add = parser.add_argument_group("how --repair downloads").add_argument
    add_url_command(add)
    add_rate_limit(add)
    add_retry_options(add)
    add_connection_options(parser)
    add_config_options(parser.add_argument_group("defaults").add_argument)
    return parser


def _reads_as_checksum(operand: str) -> bool:
    """Whether it is ALG:VALUE or ALG=VALUE of a known algorithm; or of an unknown one, unless a file is called so."""
    unknown = re.fullmatch("[^:=/]+[:=][^/]*", operand) is not None and not Path(operand).exists()
    return looks_like_checksum(operand) or unknown


# FILE ALG:VALUE... ---------------------------------------------------------------------------------------------------


def _verify_one(name: str, expected: Sequence[Checksum], options: argparse.Namespace) -> int:
    for checksum in expected:
        require_algorithm(checksum.algorithm)
    with Lines([name], shown=not options.quiet) as lines:
        (report,) = check_operands([(name, expected)], lines.advance)
        outcome = _outcome(report)
        _write_line(lines, name, outcome, options)
    verdict = report.verdict
    if verdict is None:
        print_unreadable(name, report.error)
    elif verdict.mismatch is not None:
        print_failure(verdict.mismatch.as_error(), path=name)
    elif not verdict.verified:
        print_error({"message": f"{name} could not be verified: {verdict.reason}.", "path": name})
    return EXIT_OK if outcome == _OK else EXIT_OTHER


# SUMSFILE... and --receipt FILE --------------------------------------------------------------------------------------


def _verify_lists(entries: Sequence[_Entry], problems: Sequence[str], options: argparse.Namespace) -> int:
    for algorithm in {checksum.algorithm for entry in entries for checksum in entry.checksums}:
        require_algorithm(algorithm)
    with contextlib.ExitStack() as stack:
        return _check_lists(entries, problems, options, stack)


def _check_lists(
    entries: Sequence[_Entry], problems: Sequence[str], options: argparse.Namespace, stack: contextlib.ExitStack
) -> int:
    """`stack`: closes what talks to stores of objects."""
    sizes = {entry: None if entry.is_object else size_bytes(entry.name) for entry in entries}
    objects: ObjectChecker | None = None
    if any(entry.is_object for entry in entries):
        from getm.destinations.checking import ObjectChecker

        objects = stack.enter_context(ObjectChecker(options.jobs or usable_cpus()))
        known = objects.sizes([entry.name for entry in entries if entry.is_object])
        sizes |= {entry: known[entry.name] for entry in entries if entry.is_object}
    if options.ignore_missing:
        entries = [entry for entry in entries if sizes[entry] is not None]
    # Of another size than the receipt says: reading it is needless.
    wrong = {entry for entry in entries if entry.size is not None and sizes[entry] not in (None, entry.size)}
    # A pipe in place of a file that was received would block.
    wrong |= {entry for entry in entries if entry.received is not None and needs_order(entry.name)}
    read = [entry for entry in entries if entry not in wrong]
    outcomes: Counter[str] = Counter()
    damaged: list[_Entry] = []
    with Lines((entry.name for entry in read), shown=not options.quiet) as lines:
        files = ((entry.name, entry.checksums) for entry in read if not entry.is_object)
        reports: Iterator[FileReport] = check_files(files, jobs=options.jobs, on_bytes=lines.advance)
        others: Iterator[FileReport] = iter(())
        if objects is not None:
            elsewhere = [(entry.name, entry.checksums) for entry in read if entry.is_object]
            others = objects.check(elsewhere, lines.advance)
        for entry in entries:
            outcome = _outcome(None if entry in wrong else next(others if entry.is_object else reports))
            if options.repair and outcome in (_FAILED, _UNREADABLE):
                damaged.append(entry)
                continue
            outcomes[outcome] += 1
            _write_line(lines, entry.name, outcome, options)
    if damaged:
        outcomes += _repair(damaged, options)
    return _sum_up(outcomes, problems)


def _repair(damaged: Sequence[_Entry], options: argparse.Namespace) -> Counter[str]:
    """Repair files, and write a line for each."""
    from getm.cli.repair import repair

    outcomes: Counter[str] = Counter()
    with Lines((), shown=False) as lines:
        for receipt in dict.fromkeys(entry.receipt for entry in damaged):
            entries = [each.received for each in damaged if each.receipt == receipt and each.received is not None]
            for entry, result in repair(receipt, entries, options):
                outcome, more = _NOT_REPAIRED, ""
                if result is not None and result.left is not None:
                    outcome = _OK
                elif result is not None:
                    outcome, more = _REPAIRED, f" ({result.stats.received_bytes:,} of {result.size:,} bytes downloaded)"
                outcomes[outcome] += 1
                _write_line(lines, os.fspath(entry.path), outcome, options, more)
    return outcomes


def _read_receipt(name: str) -> tuple[list[_Entry], Sequence[str]]:
    """The files of a receipt, and what could not be understood of it."""
    folder = "" if name == STANDARD_INPUT else Path(name).parent
    files = read_receipt(io.BytesIO(Document.read(name, "receipt").data), folder)
    if not files.entries:
        why = files.problems[0] if files.problems else "no line of it says that a file was downloaded"
        raise InvalidInput(f"The receipt {name} proves nothing: {why}.")
    entries = [_Entry(os.fspath(each.path), each.proofs, each.size, each, name) for each in files.entries]
    return entries, files.problems


def _read_sums(name: str, algorithm: str | None) -> tuple[list[_Entry], Sequence[str]]:
    """The files of a sums file, and what could not be understood of it."""
    shown = "standard input" if name == STANDARD_INPUT else Path(name).name
    sums = read_sums(Document.read(name, "sums file").data, shown, algorithm)
    return [_Entry(entry.name, (entry.checksum,)) for entry in sums.entries], list(map(str, sums.problems))


# Results -------------------------------------------------------------------------------------------------------------


def _outcome(report: FileReport | None) -> str:
    """What is said of a file. `report` None: it has a wrong size."""
    if report is None or (report.verdict is not None and report.verdict.mismatch is not None):
        return _FAILED
    if report.verdict is None:
        return _UNREADABLE
    return _OK if report.verdict.verified else _NOT_VERIFIED


def _write_line(lines: Lines, name: str, outcome: str, options: argparse.Namespace, more: str = "") -> None:
    if outcome != _OK or not options.quiet:
        lines.write(f"{one_line(name)}: {outcome}{more}")


def _sum_up(outcomes: Counter[str], problems: Sequence[str]) -> int:
    """The exit status over all files, and on failure the one line that says what went wrong."""
    files = outcomes.total()
    failed, unreadable, unverified = outcomes[_FAILED], outcomes[_UNREADABLE], outcomes[_NOT_VERIFIED]
    not_repaired = outcomes[_NOT_REPAIRED]
    counts = {
        "failed": failed,
        "not_repaired": not_repaired,
        "unreadable": unreadable,
        "unverified": unverified,
        "malformed": len(problems),
    }
    are, lines = "is" if failed == 1 else "are", "line" if len(problems) == 1 else "lines"
    sentences = {
        "failed": f"Checksum failed! {failed} of {files} files {are} not what was declared",
        "not_repaired": f"{not_repaired} of {files} files could not be repaired",
        "unreadable": f"{unreadable} of {files} files could not be read",
        "unverified": f"{unverified} of {files} files could not be verified",
        "malformed": f"{len(problems)} {lines} could not be understood: {''.join(problems[:1])}",
    }
    wrong = [sentence for name, sentence in sentences.items() if counts[name]]
    if not files:
        wrong.append("no file was verified: none of the listed files exists")
    if not wrong:
        return EXIT_OK
    if len(wrong) == not_repaired == 1:
        # Its error was printed.
        return EXIT_OTHER
    print_error({"message": f"{'; '.join(wrong)}.", **{name: count for name, count in counts.items() if count}})
    return EXIT_OTHER
