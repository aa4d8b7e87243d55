"""What a question needs to be asked: a server, a folder for outputs, how large and how often."""

from __future__ import annotations

import contextlib
import filecmp
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.downloaders import DOWNLOADERS, Command, One
from benchmarks.harness.measure import cost_of_command
from benchmarks.harness.question import Values
from benchmarks.harness.turns import Turn
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject


@dataclass(frozen=True)
class Bench:
    """Where and how questions are asked.

    Args:
        folder: For outputs.
        server: nginx on loopback.
        rounds: How often each tool takes its turn.
        scale: Of what there is to do: a twentieth shows that it works.
        peers: The tools to run besides getm, by name, or all; None for those that a question has by default.
    """

    folder: Path
    server: NginxServer
    rounds: int
    scale: float = 1.0
    peers: frozenset[str] | None = None

    def sized(self, count: int) -> int:
        """A size in bytes, or a number of files, as large as this run wants it."""
        return max(1, int(count * self.scale))

    def asks(self, tool: str, *, by_default: bool = True) -> bool:
        """Whether a tool takes part; its options, after the first blank, do not matter."""
        name = tool.split()[0]
        if name == "getm" or self.peers is None:
            return by_default
        return name in self.peers or "all" in self.peers

    def lists(self, name: str) -> Path:
        """A folder for what tools read their work from."""
        folder = self.folder / "lists" / name
        folder.mkdir(parents=True)
        return folder

    @property
    def output(self) -> Path:
        """The folder that a run writes to, within `emptied_output`."""
        return self.folder / "output"

    @contextlib.contextmanager
    def emptied_output(self) -> Iterator[None]:
        """An empty `output` for one run. What the run leaves there is emptied, too, and moved out of the way.

        It is not removed: ext4 does not use an inode again that was just freed, and looks for another one for minutes,
        which would make files dearer for whoever comes next."""
        self.output.mkdir()
        try:
            yield
        finally:
            for file in self.output.iterdir():
                if file.is_file():
                    os.truncate(file, 0)
            done = self.folder / "done"
            done.mkdir(exist_ok=True)
            self.output.rename(done / f"{len(os.listdir(done)):06d}")  # noqa: PTH208 - a count, and there may be many


@contextlib.contextmanager
def bench(parent: Path | None, rounds: int, *, scale: float, peers: frozenset[str] | None) -> Iterator[Bench]:
    """A bench with everything of its own in `parent`, or in the system's temporary folder. What it served and what was
    written is removed when all questions have been asked."""
    with (
        tempfile.TemporaryDirectory(prefix="getm-benchmark-", dir=parent) as folder,
        NginxServer(Path(folder) / "nginx", log=False) as server,
    ):
        outputs = Path(folder) / "outputs"
        outputs.mkdir()
        yield Bench(outputs, server, rounds, scale, peers)


def download(
    bench: Bench,
    case: str,
    tool: str,
    served: ServedObject,
    url: str,
    *,
    connections: int | None = None,
    count: Callable[[], Values] = dict,
) -> list[Turn]:
    """The turn of a tool that downloads one object; none where it does not take part, or cannot do it."""
    downloader = DOWNLOADERS[tool]
    target = bench.output / "target.bin"
    command = downloader.one(One(url, target, connections))
    if command is None or not bench.asks(tool, by_default=downloader.by_default):
        return []
    contender = CommandLine(
        bench, command, lambda: require_same(target, served), why_not=downloader.why_not(), count=count
    )
    label = tool if connections is None else f"{tool} -x {connections}"
    return [Turn(case, label, served.size_bytes / 1e9, contender)]


class CommandLine:
    """A contender that is a new process in each turn. `check` raises `RuntimeError` where what was written to the
    bench's output is wrong. `count` adds what was counted. Only the command itself is measured."""

    def __init__(
        self,
        bench: Bench,
        command: Command,
        check: Callable[[], object],
        *,
        why_not: str | None = None,
        count: Callable[[], Values] = dict,
    ) -> None:
        self._bench = bench
        self._command = command
        self._check = check
        self._count = count
        self.why_not = why_not

    def turn(self, request: dict[str, object]) -> Values | None:
        if self.why_not is not None:
            return None
        with self._bench.emptied_output():
            # What earlier runs have written goes to the disk on their time.
            os.sync()
            self._count()
            try:
                cost = cost_of_command(self._command)
                counted = self._count()
                self._check()
            except (OSError, RuntimeError) as error:
                self.why_not = f"failed: {error}"
                return None
        return {"wall_s": cost.wall_s, "cpu_s": cost.cpu_s, "peak_bytes": cost.peak_bytes, **counted}


def require_same(written: Path, served: ServedObject) -> None:
    """Raise `RuntimeError` where a file is not what was served."""
    with served.path.open("rb") as ours, written.open("rb") as theirs:
        for expected, found in itertools.zip_longest(_blocks(ours.fileno()), _blocks(theirs.fileno())):
            if expected != found:
                raise RuntimeError("what it wrote is not what was served")


def _blocks(descriptor: int) -> Iterator[bytes]:
    while block := os.read(descriptor, 1024 * 1024):
        yield block


def require_same_files(written: Path, served: Path, names: list[str]) -> None:
    """The same for many files of the same names."""
    _, wrong, missing = filecmp.cmpfiles(served, written, names, shallow=False)
    if wrong or missing:
        raise RuntimeError(f"{len(wrong)} files are not what was served, and {len(missing)} are missing")
