"""Lists of downloads by one session, alone or with the workers of an executor, which stay from list to list.

python -m benchmarks.harness.clusters ENTRIES       # a list whose workers do nothing: what the caller alone needs
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import getm
from benchmarks.harness.measure import cost_of

# Others are imported as they are needed: this module is loaded in the process of every contender.


class Cluster:
    """Downloads lists. `executor`: whose workers do it; None: the session itself."""

    def __init__(self, session: getm.Session, executor: Executor | None) -> None:
        self._session = session
        self._executor = executor

    def download(self, turn: dict[str, Any]) -> dict[str, float]:
        """As many lists as `turn` says, one after another. "caller_cpu_s" is the CPU time of this process, in which
        the scheduler of a Dask cluster on this machine runs as well."""
        used_s: list[float] = []

        def work() -> None:
            began_s = time.process_time()
            for number in range(turn["lists"]):
                self._download(turn, number)
            used_s.append(time.process_time() - began_s)

        cost = cost_of(work)
        return {"wall_s": cost.wall_s, "cpu_s": cost.cpu_s, "peak_bytes": cost.peak_bytes, "caller_cpu_s": used_s[0]}

    def _download(self, turn: dict[str, Any], list_number: int) -> None:
        entries = _entries(turn["entries"], f"{turn['url']}?list={list_number}&entry=", turn["size"], f"{list_number}-")
        results = self._session.download_all(
            entries, directory=turn["folder"], jobs=turn["jobs"], executor=self._executor
        )
        count = sum(1 for _ in results)
        if count != turn["entries"]:
            raise RuntimeError(f"{turn['entries']} files were to be downloaded, not {count}")


def _entries(count: int, url: str, size: int, name: str) -> Iterator[getm.Entry]:
    return (getm.Entry(f"{url}{number}", f"{name}{number:06d}.bin", size=size) for number in range(count))


def _alone() -> AbstractContextManager[None]:
    return contextlib.nullcontext()


def _processes(count: int) -> AbstractContextManager[Executor]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


@contextlib.contextmanager
def _dask(count: int) -> Iterator[Executor]:
    import tempfile

    from dask import config

    from getm.integrations import dask

    # Workers leave their folder behind.
    with (
        tempfile.TemporaryDirectory() as folder,
        config.set(temporary_directory=folder),
        dask.executor(f"local:{count}") as workers,
    ):
        yield workers


CLUSTERS: dict[str, Callable[[], AbstractContextManager[Executor | None]]] = {
    "getm": _alone,
    "getm, 1 process": partial(_processes, 1),
    "getm, 2 processes": partial(_processes, 2),
    "getm, 1 Dask worker": partial(_dask, 1),
    "getm, 2 Dask workers": partial(_dask, 2),
}


@contextlib.contextmanager
def open_cluster(name: str) -> Iterator[Cluster]:
    with getm.Session() as session, CLUSTERS[name]() as executor:
        yield Cluster(session, executor)


class _Idle(Executor):
    """Its workers are done at once, and say that each file was there already."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        from getm.batch.portions import Done

        (portion,) = args
        folder, pairs = Path(portion.work.directory), zip(portion.numbers, portion.entries, strict=True)
        events: list[getm.Event] = [getm.Skipped(number, folder / entry.path, "it is there") for number, entry in pairs]
        future: Future[Any] = Future()
        future.set_result(Done(events, seconds=0.1))
        return future


def main() -> None:
    entries = _entries(int(sys.argv[1]), "http://127.0.0.1:9/object?entry=", 2**14, "")
    with getm.Session() as session:
        for _ in session.download_all(entries, directory="/nonexistent", executor=_Idle()):
            raise RuntimeError("nothing was to be downloaded")


if __name__ == "__main__":
    main()
