"""Kills a process that downloads to a partial file, and goes on: `python -m tests.support.partial_kills FOLDER N`.

A program of its own, because it forks: one child for each kill. It ends itself by SIGKILL at a system call, each in
turn (N 0), or is killed by its parent at N random moments. After each kill everything that the journal claims is
compared with the bytes that were to be written, the download is brought to its end, and the folder is looked at. Exits
with a sentence about the first thing that is wrong, and with a line that counts the kills otherwise.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from getm.core.coverage import Coverage
from getm.core.version import Version
from getm.files import libc, partial, recorder
from getm.files.commit import all_steps, commit_files
from getm.files.partial import PartialFile, open_partial
from tests.support.partials import put

BLOCK = 1000
BLOCKS = 7
SIZE = BLOCK * BLOCKS
VERSIONS = {tag: random.Random(tag).randbytes(SIZE) for tag in ('"one"', '"two"')}
OLD = b"what stood there before"


def begin(file: PartialFile, tag: str) -> None:
    """As after a response's head: goes on if what is saved is of that version."""
    resumed = file.saved is not None and file.saved.etag == tag
    file.begin(Version(SIZE, tag, None, tag), resumed=resumed)


def commit(file: PartialFile, mtime: float | None = None) -> None:
    (error,) = all_steps(commit_files([(file, mtime)]))
    if error is not None:
        raise error


def fetch(file: PartialFile, tag: str, order: random.Random) -> None:
    """Write what is missing, block by block, in any order."""
    blocks = [
        (start, min(start + BLOCK, span.stop))
        for span in file.missing()
        for start in range(span.start, span.stop, BLOCK)
    ]
    order.shuffle(blocks)
    for number, (start, stop) in enumerate(blocks):
        put(file, start, memoryview(VERSIONS[tag])[start:stop])
        if number == 3:
            file.checkpoint()


def whole(target: Path, *, fsync: bool = True) -> None:
    with open_partial(target, resume=True, fsync=fsync) as file:
        begin(file, '"one"')
        fetch(file, '"one"', random.Random(1))
        commit(file, 1e9)


def changed(target: Path) -> None:
    """The former run's version is not the server's any more."""
    with open_partial(target, resume=True) as file:
        begin(file, '"two"')
        fetch(file, '"two"', random.Random(2))
        commit(file)


def whole_without_fsync(target: Path) -> None:
    whole(target, fsync=False)


def half(target: Path, *, fsync: bool = True) -> None:
    file = open_partial(target, resume=True, fsync=fsync)
    begin(file, '"one"')
    for start in (0, 5 * BLOCK, 3 * BLOCK):
        put(file, start, memoryview(VERSIONS['"one"'])[start : start + BLOCK])
    file.suspend()


def half_without_fsync(target: Path) -> None:
    half(target, fsync=False)


def thrown_away(target: Path) -> None:
    with open_partial(target, resume=True) as file:
        begin(file, '"two"')
        fetch(file, '"two"', random.Random(2))


@dataclass(frozen=True)
class Scenario:
    """`before` runs to its end in a process of its own, `run` is killed."""

    run: Callable[[Path], None]
    before: Callable[[Path], None] | None = None


SCENARIOS = (
    Scenario(whole),
    Scenario(half),
    Scenario(whole, before=half),
    Scenario(changed, before=half),
    Scenario(thrown_away, before=half),
    Scenario(half_without_fsync),
    Scenario(whole_without_fsync, before=half_without_fsync),
)


def child(run: Callable[[], None]) -> int:
    """The process number of a child that does `run` and ends."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        run()
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


def kill_at(step: int, torn: bool) -> None:
    """From now on the `step`-th system call that changes or asks something of a file is this process's last.

    `torn`: the `step`-th write is, and half of its bytes get through first.
    """
    left = step

    def killing(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if torn:
                    fd, data, offset = args
                    call(fd, data[: len(data) // 2], offset)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **keywords)

        return wrapped

    os.pwrite = killing(os.pwrite)
    if not torn:
        for name in ("open", "replace", "unlink", "utime", "close", "fsync", "stat", "fstat", "dup", "chmod"):
            setattr(os, name, killing(getattr(os, name)))
        libc.fdatasync = killing(libc.fdatasync)
        libc.fallocate = killing(libc.fallocate)


def check(target: Path, tags: tuple[str, ...]) -> None:
    """What a kill has left: every claim is true, the target is the old or the new one, and it can be finished."""
    content = target.read_bytes()
    if content != OLD and content not in VERSIONS.values():
        raise SystemExit("the target is neither the old nor the new file")
    file = open_partial(target, resume=True)
    if not file.exclusive:
        raise SystemExit("a dead process is taken to be alive")
    saved = file.saved
    if saved is not None:
        if saved.etag not in tags:
            raise SystemExit(f"saved is {saved.etag}")
        there = file.path_now.read_bytes()
        for span in Coverage(file.missing()).missing(SIZE):
            if there[span.start : span.stop] != VERSIONS[saved.etag][span.start : span.stop]:
                raise SystemExit(f"the journal claims {span}, which is not there")
    tag = tags[-1] if saved is None or saved.etag is None else saved.etag
    with file:
        begin(file, tag)
        fetch(file, tag, random.Random(4))
        commit(file)
    if target.read_bytes() != VERSIONS[tag]:
        raise SystemExit("the finished file is wrong")
    names = sorted(entry.name for entry in target.parent.iterdir())
    if names != [target.name]:
        raise SystemExit(f"left behind: {names}")


def killed(pid: int) -> bool:
    """Whether the child was killed, rather than coming to its end."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"the child ended with {status}")
    return status != 0


def clear(target: Path) -> None:
    for entry in target.parent.iterdir():
        entry.unlink()
    target.write_bytes(OLD)


def prepare(scenario: Scenario, target: Path) -> None:
    clear(target)
    if scenario.before is not None:
        before = scenario.before
        killed(child(lambda: before(target)))


def every_step(target: Path) -> int:
    """Kill each scenario at each of its system calls."""
    kills = 0
    for scenario in SCENARIOS:
        for torn in (False, True):
            step = 0
            while True:
                step += 1
                prepare(scenario, target)

                def run(scenario: Scenario = scenario, step: int = step, torn: bool = torn) -> None:
                    kill_at(step, torn)
                    scenario.run(target)

                if not killed(child(run)):
                    break
                check(target, ('"one"', '"two"'))
                kills += 1
    return kills


def random_moments(target: Path, count: int) -> int:
    """Kill a process at random moments of its work, again and again, each going on where the last one stood."""
    chance = random.Random(5)
    kills = 0
    while kills < count:
        clear(target)
        while kills < count:
            tag = chance.choice(('"one"', '"one"', '"one"', '"two"'))
            pid = child(lambda tag=tag: endless(target, tag))  # type: ignore[misc]
            ended = os.pidfd_open(pid)
            select.select([ended], [], [], chance.uniform(0, 0.02))
            os.close(ended)
            os.kill(pid, signal.SIGKILL)
            killed(pid)
            kills += 1
            if chance.random() < 0.3:
                check(target, ('"one"', '"two"'))
                break
    return kills


def endless(target: Path, tag: str) -> None:
    order = random.Random()
    while True:
        file = open_partial(target, resume=True, fsync=order.random() < 0.5)
        begin(file, tag)
        fetch(file, tag, order)
        if order.random() < 0.5:
            file.suspend()
        else:
            commit(file)


def main() -> None:
    partial.JOURNALED_FROM_BYTES = 1
    recorder.RECORD_BYTES = BLOCK
    # A kill loses nothing that the kernel has; waiting for a disk would only make this slow.
    for module, name in ((os, "fsync"), (libc, "fdatasync")):
        setattr(module, name, lambda fd: None)
    folder, moments = Path(sys.argv[1]), int(sys.argv[2])
    target = folder / "out"
    kills = random_moments(target, moments) if moments else every_step(target)
    print(f"{kills} kills")


if __name__ == "__main__":
    main()
