"""Measures getm against other tools: each question one table and one chart.

    python -m benchmarks                            # all questions: about MINUTES minutes on two cores
    python -m benchmarks --quick                    # small and two rounds, to see that it works: five minutes
    python -m benchmarks --only disk,capped --rounds 11
    python -m benchmarks --page docs/explanation    # and write docs/explanation/benchmarks.md with its charts
    python -m benchmarks page RESULT... FOLDER      # the page of results that there are
    python -m benchmarks compare OLD NEW            # exit status 1 where NEW is slower beyond noise

Servers run on loopback; nothing comes from the network. All tools take turns in a random order, in as many rounds as
--rounds says, and one more before them. Every single run, with its wall and CPU seconds, and what it was measured on go
to a JSON file in benchmarks/results. Numbers are medians with [quartiles]; ratios are taken within a round. Tools that
are missing are named (`pip install 'getm[bench]'`, `apt-get install nginx curl wget2 aria2`). Measure on a machine
that does nothing else.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import (
    access,
    capped,
    cluster,
    disk,
    far,
    filesystems,
    instructions,
    limits,
    network,
    opening,
    programs,
    scale,
    shared,
    small_files,
    start,
    stream,
    verify,
    whole,
    writes,
)
from benchmarks.harness.bench import bench
from benchmarks.harness.compare import compare
from benchmarks.harness.environment import ROOT
from benchmarks.harness.machine import busy, describe
from benchmarks.harness.page import write_page
from benchmarks.harness.question import Answer, Question
from benchmarks.harness.results import Result
from benchmarks.harness.tables import terminal_table

QUESTIONS: dict[str, Question] = {
    module.QUESTION.name: module.QUESTION
    for module in (
        disk,
        small_files,
        start,
        stream,
        whole,
        opening,
        access,
        filesystems,
        verify,
        network,
        capped,
        shared,
        far,
        writes,
        scale,
        cluster,
        programs,
        instructions,
        limits,
    )
}
BY_DEFAULT = [name for name, question in QUESTIONS.items() if question.by_default]

_ROUNDS = 7
_QUICK_ROUNDS = 2
_QUICK_SCALE = 1 / 20


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["compare"]:
        return _compare(arguments[1:])
    if arguments[:1] == ["page"]:
        return _page(arguments[1:])
    return _run(arguments)


def _compare(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare",
        description=sys.modules[compare.__module__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", type=Path, help="a result, as benchmarks/results has them")
    parser.add_argument("new", type=Path)
    options = parser.parse_args(arguments)
    old, new = Result.load(options.old), Result.load(options.new)
    changes = list(compare(old, new, QUESTIONS))
    heads = ["question", "case", "tool", "number", "new/old", "95 %", "other tools", ""]
    print(terminal_table(heads, [change.row() for change in changes], left=4))
    worse = sum(change.worse for change in changes)
    print(f"\n{worse} of {len(changes)} numbers are worse, {sum(change.better for change in changes)} are better")
    for name, each in (("old", old), ("new", new)):
        print(f"{name}: commit {each.machine['commit']}, load before {each.load_before}")
    return 1 if worse else 0


def _page(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks page", description="Write the page of results.")
    parser.add_argument(
        "results", type=Path, nargs="+", metavar="RESULT", help="as benchmarks/results has them; the last ones count"
    )
    parser.add_argument("folder", type=Path, help="where benchmarks.md and its charts go, such as docs")
    options = parser.parse_args(arguments)
    write_page(options.results, QUESTIONS, options.folder)
    return 0


def _run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=(__doc__ or "").replace("MINUTES", f"{sum(QUESTIONS[name].minutes for name in BY_DEFAULT):.0f}"),
        epilog=_list_of_questions(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="QUESTIONS", help="names of questions, comma-separated")
    parser.add_argument("--rounds", type=int, help=f"how often each tool takes its turn (default {_ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="a twentieth of all sizes, two rounds")
    parser.add_argument("--peers", metavar="TOOLS", help="run these besides getm, comma-separated; or: all")
    parser.add_argument("--folder", type=Path, help="where files are written (default: the system's temporary folder)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the result (default: a new file in benchmarks/results)"
    )
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="also write the result's page there")
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else BY_DEFAULT
    unknown = [name for name in names if name not in QUESTIONS]
    if unknown:
        parser.error(f"no question is called {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    folder = options.folder or Path(tempfile.gettempdir())
    needed_gb = max(QUESTIONS[name].disk_gb for name in names)
    if not options.quick and shutil.disk_usage(folder).free < needed_gb * 1e9:
        parser.error(f"{folder} has less than {needed_gb:g} GB free: name another one with --folder")
    peers = None if options.peers is None else frozenset(options.peers.split(","))
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    result = Result(*describe(folder), rounds, options.quick)
    return _ask(names, result, folder, peers, options.output or _new_file(result), options.page)


def _ask(
    names: list[str], result: Result, folder: Path, peers: frozenset[str] | None, output: Path, page: Path | None
) -> int:
    if float(busy()["load"]) > 0.5:
        print(f"the machine is busy (load {busy()['load']}): numbers will be worse than it can do", file=sys.stderr)
    if result.machine["file system"] == "tmpfs":
        print(f"{folder} is in memory: name a folder on a disk with --folder", file=sys.stderr)
    failed = False
    with bench(folder, result.rounds, scale=_QUICK_SCALE if result.quick else 1.0, peers=peers) as where:
        for name in names:
            question = QUESTIONS[name]
            print(f"\n{question.title} ({name}, about {question.minutes:g} minutes in full)", flush=True)
            result.busy[name], start = busy(), time.monotonic()
            try:
                answer = question.measure(where)
            except (OSError, RuntimeError) as error:
                print(f"failed: {error}", file=sys.stderr)
                answer, failed = Answer(missing={"all": str(error)}), True
            result.answers[name] = answer
            _print(question, answer, time.monotonic() - start)
            # After each question: what was measured stays if the next one is interrupted.
            result.save(output)
    if page is not None:
        write_page([output], QUESTIONS, page)
    print(f"\n{output}")
    return 1 if failed else 0


def _print(question: Question, answer: Answer, took_s: float) -> None:
    heads = ["", "", *(column.head for column in question.columns)]
    print(terminal_table(heads, list(answer.rows(question.columns)), left=2))
    for tool, why in answer.missing.items():
        print(f"{tool}: {why}")
    print(f"in {took_s / 60:.1f} minutes", flush=True)


def _new_file(result: Result) -> Path:
    date = result.machine["date"][:16].replace(":", "").replace("T", "-")
    commit = result.machine["commit"].split()[0]
    return ROOT / "benchmarks" / "results" / f"{date}-{commit}{'-quick' if result.quick else ''}.json"


def _list_of_questions() -> str:
    lines = [f"  {name:13} {QUESTIONS[name].title} ({QUESTIONS[name].minutes:g} minutes)" for name in BY_DEFAULT]
    others = [
        f"  {name:13} {each.title} ({each.minutes:g} minutes)"
        for name, each in QUESTIONS.items()
        if not each.by_default
    ]
    return "\n".join(["questions:", *lines, "", "only where they are named:", *others])


if __name__ == "__main__":
    # Ended like this, too, it ends its servers and removes its files.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main(sys.argv[1:]))
