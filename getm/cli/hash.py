"""`getm hash FILE...`: checksums of files, in lines that sha256sum and `getm verify` read back."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from getm.cli.exit_status import EXIT_OK, EXIT_OTHER
from getm.cli.output.errors import JSON_ERRORS, print_unreadable
from getm.cli.output.result_lines import Lines
from getm.cli.parser import Parser, json_errors, number, refuse_urls
from getm.cli.standard_input import STANDARD_INPUT, check_operands
from getm.errors import InvalidInput
from getm.integrity.algorithms import available_algorithms, require_algorithm
from getm.integrity.sums_files import format_sums_line

# Those whose plain lines coreutils writes and checks; the length of a digest says which one it is.
_PLAIN = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")

_EPILOG = """\
examples:
  getm hash data/*.bam > SHA256SUMS
  getm hash -a md5 -a crc32c sample.bam
  tar c folder | getm hash -

One algorithm of the MD5, SHA-1 or SHA-2 family is written as sha256sum writes
it, "DIGEST  NAME"; several algorithms, and others, in the BSD form, "ALGORITHM
(NAME) = DIGEST". getm verify and sha256sum -c read both.

algorithms here:
{algorithms}

exit status:
  0  success
  1  a file could not be read
  2  bad options
"""


def main(arguments: Sequence[str]) -> int:
    """Run `getm hash` with `arguments` and return its exit status; raises what getm raises."""
    options = build_parser().parse(arguments)
    refuse_urls(options.files)
    if STANDARD_INPUT in options.files and len(options.files) > 1:
        raise InvalidInput('- stands for standard input and must be the only FILE; a file of that name is "./-"')
    algorithms = tuple(dict.fromkeys(require_algorithm(name) for name in options.algorithm or ["sha256"]))
    bsd = options.bsd or len(algorithms) > 1 or algorithms[0] not in _PLAIN
    status = EXIT_OK
    with Lines(options.files, shown=not options.quiet) as lines:
        reports = check_operands([(name, ()) for name in options.files], lines.advance, algorithms, options.jobs)
        for name, report in zip(options.files, reports, strict=True):
            if report.verdict is None:
                with lines.paused():
                    print_unreadable(name, report.error)
                status = EXIT_OTHER
                continue
            computed = {checksum.algorithm: checksum for checksum in report.verdict.computed}
            for algorithm in algorithms:
                lines.write(format_sums_line(computed[algorithm], name, bsd=bsd))
    return status


def build_parser() -> Parser:
    """The parser of `getm hash`."""
    parser = Parser(
        prog="getm hash",
        usage="getm hash [-a ALG]... [--bsd] FILE...",
        description="Print checksums of files, computed on all cores.",
        epilog=_EPILOG.format(algorithms=textwrap.fill(", ".join(available_algorithms()), 79)),
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="a file; - alone is standard input")
    add("-a", "--algorithm", action="append", metavar="ALG", help="sha256 (default), md5, crc32c, ...; repeatable")
    add("--bsd", "--tag", action="store_true", help='write "ALGORITHM (NAME) = DIGEST"')
    add("-j", "--jobs", **number(1), help="files at once (default: the number of cores)")
    add("-q", "--quiet", action="store_true", help="no progress bar on a terminal")
    add(JSON_ERRORS, **json_errors())
    return parser
