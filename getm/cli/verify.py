"""`getm verify`: local files against checksums, sums files (as sha256sum writes them) or the receipt of a download."""

from __future__ import annotations

import argparse
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from msgspec import Struct

from getm.cli.exit_status import EXIT_OK, EXIT_OTHER
from getm.cli.output.errors import JSON_ERRORS, print_error, print_failure, print_unreadable
from getm.cli.output.result_lines import Lines, one_line, size_bytes
from getm.cli.parser import Once, Parser, json_errors, number, refuse_urls
from getm.cli.standard_input import STANDARD_INPUT, check_operands
from getm.errors import InvalidInput
from getm.files.receipt_lines import read_receipt
from getm.integrity.algorithms import require_algorithm
from getm.integrity.file_batch import FileReport, check_files
from getm.integrity.sums_files import read_sums
from getm.integrity.values import Checksum, parse_checksum
from getm.manifests.document import Document
from getm.manifests.fields import looks_like_checksum

_EPILOG = """\
examples:
  getm verify sample.bam md5:9e107d9d372bb6826bd81d3542a419d6
  getm verify sample.bam crc32c:AAAAAA== md5:9e107d9d372bb6826bd81d3542a419d6
  getm verify SHA256SUMS MD5SUMS
  curl -s https://host/SHA256SUMS | getm verify --ignore-missing -
  getm verify --receipt data/receipt.jsonl

Sums files are those of md5sum, sha1sum, sha256sum, sha512sum and "cksum -a",
in the GNU form ("DIGEST  NAME", also -z) and in the BSD form ("ALGORITHM (NAME)
= DIGEST"). Their names are relative to the current folder, as for "sha256sum
-c". An operand after FILE is a checksum if it begins with the name of an
algorithm and ":" or "=", otherwise a sums file.

Receipts are what "getm --receipt" writes. The last line with "done" for a path
says which size and checksums the file must have. Their names are relative to
the receipt's folder.

Standard output has a line for each file: "NAME: OK", "NAME: FAILED", "NAME:
FAILED open or read", or "NAME: NOT VERIFIED" (an S3 multipart ETag whose part
size cannot be found, or a receipt without a checksum).

exit status:
  0  every file is as expected
  1  a file is not, or cannot be read or verified; a line cannot be understood
  2  bad options, or a sums file or receipt that cannot be read

On failure, standard error has "ERROR:getm.cli:" and a JSON object on one line,
unless it is a terminal, which gets a line for people.
"""

_OK, _FAILED, _UNREADABLE, _NOT_VERIFIED = "OK", "FAILED", "FAILED open or read", "NOT VERIFIED"


class _Entry(Struct, frozen=True):
    """What a list says of a file. `size` in bytes, None where it is not given."""

    name: str
    checksums: tuple[Checksum, ...]
    size: int | None = None


def main(arguments: Sequence[str]) -> int:
    """Run `getm verify` with `arguments` and return its exit status; raises what getm raises."""
    options = build_parser().parse(arguments)
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
    return _verify_lists(entries, problems, options)


def build_parser() -> Parser:
    """The parser of `getm verify`."""
    parser = Parser(
        prog="getm verify",
        usage="getm verify [options] FILE ALG:VALUE...\n       getm verify [options] SUMSFILE...\n"
        "       getm verify [options] --receipt FILE",
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
        outcome = _write_result(lines, name, report, options)
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
    sizes = {entry: size_bytes(entry.name) for entry in entries}
    if options.ignore_missing:
        entries = [entry for entry in entries if sizes[entry] is not None]
    # Of another size than the receipt says: reading it is needless.
    wrong = {entry for entry in entries if entry.size is not None and sizes[entry] not in (None, entry.size)}
    read = [entry for entry in entries if entry not in wrong]
    outcomes: Counter[str] = Counter()
    with Lines((entry.name for entry in read), shown=not options.quiet) as lines:
        work = ((entry.name, entry.checksums) for entry in read)
        reports = check_files(work, jobs=options.jobs, on_bytes=lines.advance)
        for entry in entries:
            outcomes[_write_result(lines, entry.name, None if entry in wrong else next(reports), options)] += 1
    return _sum_up(outcomes, problems)


def _read_receipt(name: str) -> tuple[list[_Entry], Sequence[str]]:
    """The files of a receipt, and what could not be understood of it."""
    folder = "" if name == STANDARD_INPUT else Path(name).parent
    files = read_receipt(io.BytesIO(Document.read(name, "receipt").data), folder)
    if not files.entries:
        why = files.problems[0] if files.problems else "no line of it says that a file was downloaded"
        raise InvalidInput(f"The receipt {name} proves nothing: {why}.")
    return [_Entry(os.fspath(entry.path), entry.checksums, entry.size) for entry in files.entries], files.problems


def _read_sums(name: str, algorithm: str | None) -> tuple[list[_Entry], Sequence[str]]:
    """The files of a sums file, and what could not be understood of it."""
    shown = "standard input" if name == STANDARD_INPUT else Path(name).name
    sums = read_sums(Document.read(name, "sums file").data, shown, algorithm)
    return [_Entry(entry.name, (entry.checksum,)) for entry in sums.entries], list(map(str, sums.problems))


# Results -------------------------------------------------------------------------------------------------------------


def _write_result(lines: Lines, name: str, report: FileReport | None, options: argparse.Namespace) -> str:
    """Write the line of a file and return the outcome in it. `report` None: it has a wrong size."""
    if report is None or (report.verdict is not None and report.verdict.mismatch is not None):
        outcome = _FAILED
    elif report.verdict is None:
        outcome = _UNREADABLE
    else:
        outcome = _OK if report.verdict.verified else _NOT_VERIFIED
    if outcome != _OK or not options.quiet:
        lines.write(f"{one_line(name)}: {outcome}")
    return outcome


def _sum_up(outcomes: Counter[str], problems: Sequence[str]) -> int:
    """The exit status over all files, and on failure the one line that says what went wrong."""
    files = outcomes.total()
    failed, unreadable, unverified = outcomes[_FAILED], outcomes[_UNREADABLE], outcomes[_NOT_VERIFIED]
    counts = {"failed": failed, "unreadable": unreadable, "unverified": unverified, "malformed": len(problems)}
    are, lines = "is" if failed == 1 else "are", "line" if len(problems) == 1 else "lines"
    sentences = {
        "failed": f"Checksum failed! {failed} of {files} files {are} not what was declared",
        "unreadable": f"{unreadable} of {files} files could not be read",
        "unverified": f"{unverified} of {files} files could not be verified",
        "malformed": f"{len(problems)} {lines} could not be understood: {''.join(problems[:1])}",
    }
    wrong = [sentence for name, sentence in sentences.items() if counts[name]]
    if not files:
        wrong.append("no file was verified: none of the listed files exists")
    if not wrong:
        return EXIT_OK
    print_error({"message": f"{'; '.join(wrong)}.", **{name: count for name, count in counts.items() if count}})
    return EXIT_OTHER
