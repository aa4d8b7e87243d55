"""The caller's side of a transfer: one function for each way, all of them giving what comes to `Received`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import getm
from getm.client.receiver import ResponseInfo
from getm.results import Stats
from tests.chaos.plan import AT_ONCE, ATTEMPTS, KIB, MIB, TO_DISK, Where
from tests.chaos.received import Received
from tests.chaos.serving import ServedPlan

# A view that spans more than this holds several slots: a few of those are a whole ring.
_MAX_HELD_BYTES = 1024 * 1024


class Left(Exception):
    """The consumer left in the middle, as planned."""


@dataclass
class Held:
    """Views that are kept while their memory could be written again, with what stood in them."""

    pairs: list[tuple[memoryview, bytes]] = field(default_factory=list)

    def changed(self) -> int:
        return sum(view != copy for view, copy in self.pairs)


class Consumer:
    """Runs one transfer. `verified` and `stats`: what came of it, if it has come to its end."""

    def __init__(self, served: ServedPlan, session: getm.Session, urls: list[str], folder: Path) -> None:
        self._served = served
        self._plan = served.plan
        self._session = session
        self._url, *self._mirrors = urls
        self._folder = folder
        self._calls = 0
        self._killed = False
        # Ends the transfer from another thread, or from another task.
        self._leaving: threading.Thread | asyncio.Task[None] | None = None
        self._opened: Any = None
        self.received = Received(served)
        self.held = Held()
        self.verified: bool | None = None
        self.stats: Stats | None = None
        self.resumed = 0

    def run(self) -> None:
        """Raises what the transfer raises, and `Left` where the plan has it end midway."""
        if self._plan.way in AT_ONCE and self._plan.leaver == "session":
            # It gives out nothing to leave at.
            self._leave_in_a_thread(self._close_once_asked)
        try:
            self._run()
        except (getm.errors.ReaderClosed, getm.errors.Cancelled):
            if self._leaving is None:
                raise
            raise Left from None
        finally:
            self._served.asked.set()
            if isinstance(self._leaving, threading.Thread):
                self._leaving.join()

    def _close_once_asked(self) -> None:
        self._served.asked.wait()
        self._session.close()

    def _leave_in_a_thread(self, close: Callable[[], object]) -> None:
        self._leaving = threading.Thread(target=close, name="leaving")
        self._leaving.start()

    def _run(self) -> None:
        plan = self._plan
        if plan.way in TO_DISK:
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                self._to_disk(Path(folder))
        elif plan.way in ("aiter_content", "aiter_content_unordered"):
            asyncio.run(self._iterate_asynchronously())
        else:
            {
                "urlopen": self._urlopen,
                "read": self._read,
                "iter_content": self._iter_content,
                "iter_content_unordered": self._iter_content_unordered,
                "seek": self._seek,
                "read_ranges": self._read_ranges,
                "shared": self._shared,
            }[plan.way]()

    @property
    def _options(self) -> dict[str, Any]:
        plan = self._plan
        return {
            "checksum": self._served.versions[0].checksum if plan.declared == "caller" else "auto",
            "strict": plan.strict,
            # In a list each entry has its own.
            **({} if plan.way == "download_all" else {"mirrors": self._mirrors}),
            "timeout": getm.Timeout(
                # A server that does not know that it is to shake hands says nothing.
                connect_s=0.5 if plan.wire == "no TLS behind https" else 10,
                stall_s=0.6 if "stall" in plan.kinds else 8,
                floor_bytes_s=2000 if "trickle" in plan.kinds else None,
                floor_window_s=0.5,
            ),
        }

    def _take(self, offset: int, view: memoryview) -> None:
        self.received.take(offset, view)
        if len(self.held.pairs) < self._plan.held_views and 0 < len(view) <= _MAX_HELD_BYTES:
            self.held.pairs.append((view, bytes(view)))
        self._leave_if_planned(self.received.bytes)

    def _leave_if_planned(self, done: int) -> None:
        if self._plan.leave_at is None or self._calls > 1 or done < self._plan.leave_at * self._plan.size:
            return
        if self._plan.leaver == "consumer":
            raise Left
        if self._leaving is not None:
            return
        match self._plan.leaver:
            case "other task":
                self._leaving = asyncio.ensure_future(self._opened.aclose())
            case "other thread":
                self._leave_in_a_thread(self._opened.close)
            case "session":
                self._leave_in_a_thread(self._session.close)

    def _note_end(self, opened: ResponseInfo) -> None:
        self.verified, self.stats = opened.checksum.verified, opened.stats

    # Ways -----------------------------------------------------------------------------------------------------------

    def _urlopen(self) -> None:
        sizes = random.Random(self._plan.seed)
        with self._session.urlopen(self._url, concurrency=self._plan.concurrency, **self._options) as fh:
            self._opened = fh
            while True:
                at, wanted = fh.tell(), sizes.randint(1, 2 * self._plan.chunk_size)
                if sizes.random() < 0.3:
                    buffer = bytearray(wanted)
                    view = memoryview(buffer)[: fh.readinto(buffer)]
                else:
                    view = fh.read(wanted)
                if not view:
                    break
                self._take(at, view)
            self._note_end(fh)

    def _read(self) -> None:
        view = self._session.read(self._url, concurrency=self._plan.concurrency, **self._options)
        self.received.take(0, view)

    def _seek(self) -> None:
        """Reads at any positions, or, where the object can only be read on, at later and later ones."""
        plan, pick = self._plan, random.Random(self._plan.seed)
        if plan.seed % 2:
            opened: Any = self._session.urlopen(self._url, concurrency=plan.concurrency, **self._options)
        else:
            opened = self._session.open(self._url, **self._options)
        with opened as fh:
            self._opened = fh
            places = [pick.randrange(plan.size + 1) for _ in range(pick.randint(1, 25))]
            for place in places if fh.seekable() else sorted(places):
                count = pick.choice((1, 1000, 64 * KIB, 64 * KIB, 300_000, 3 * MIB))
                start = fh.seek(max(place, 0 if fh.seekable() else fh.tell()))
                self._take_part(start, fh.read(count), start + count, fh)
                if pick.random() < 0.5:
                    # The next reads follow it.
                    start = fh.tell()
                    self._take_part(start, fh.read(5000), start + 5000, fh)

    def _take_part(self, start: int, data: bytes | memoryview, stop: int, fh: Any) -> None:
        reader = fh if isinstance(fh, getm.Reader) else fh.raw
        view = memoryview(data)
        if reader.size is not None and len(view) != max(0, min(stop, reader.size) - start):
            self.received.wrong.append(f"{len(view)} bytes came for those from {start} to {stop} of {reader.size}")
        self._take(start, view)

    def _read_ranges(self) -> None:
        plan, pick = self._plan, random.Random(self._plan.seed)
        spans: list[tuple[int, int | None]] = []
        for _ in range(pick.choice((1, 3, 20, 20, 600))):
            start = pick.randrange(plan.size + 1)
            spans.append((start, start + pick.choice((0, 1, 1000, 64 * KIB, 64 * KIB, 300_000))))
        # Something has to be asked for.
        spans[0] = (0, 1)
        if pick.random() < 0.3:
            spans.append((-pick.randint(1, 100_000), None))
        options = {name: value for name, value in self._options.items() if name in ("timeout", "mirrors")}
        found = self._session.read_ranges(
            self._url, spans, max_gap=pick.choice((0, 0, 10_000)), concurrency=plan.concurrency, **options
        )
        for (start, stop), view in zip(spans, found, strict=True):
            end = found.size
            if start < 0:
                start = max(0, (end or 0) + start)
            if end is not None and len(view) != max(0, min(end if stop is None else stop, end) - start):
                self.received.wrong.append(f"{len(view)} bytes came for those from {start} to {stop} of {end}")
            self._take(start, view)

    def _shared(self) -> None:
        once = self._plan.seed % 4 == 0
        with self._session.shared(self._url, once=once, concurrency=self._plan.concurrency, **self._options) as shared:
            self.received.take(0, shared.view)
            self.verified = shared.checksum.verified

    def _iter_content(self) -> None:
        plan, at = self._plan, 0
        parts = self._session.iter_content(self._url, plan.chunk_size, concurrency=plan.concurrency, **self._options)
        self._opened = parts
        for view in parts:
            start, at = at, at + len(view)
            self._take(start, view)
        self._note_end(parts)

    def _iter_content_unordered(self) -> None:
        plan = self._plan
        parts = self._session.iter_content_unordered(
            self._url, plan.chunk_size, concurrency=plan.concurrency, **self._options
        )
        self._opened = parts
        for offset, view in parts:
            self._take(offset, view)
        self._note_end(parts)

    async def _iterate_asynchronously(self) -> None:
        plan, at = self._plan, 0
        if plan.way == "aiter_content":
            ordered = self._session.aiter_content(
                self._url, plan.chunk_size, concurrency=plan.concurrency, **self._options
            )
            self._opened = ordered
            async for view in ordered:
                start, at = at, at + len(view)
                self._take(start, view)
            self._note_end(ordered)
        else:
            unordered = self._session.aiter_content_unordered(
                self._url, plan.chunk_size, concurrency=plan.concurrency, **self._options
            )
            self._opened = unordered
            async for offset, view in unordered:
                self._take(offset, view)
            self._note_end(unordered)

    def _to_disk(self, folder: Path) -> None:
        """As often as planned: each call goes on with what a failed one has left. Files appear whole or not at all, and
        beside them lies nothing but what a later call may go on with."""
        while True:
            self._calls += 1
            try:
                self._download_to(folder)
                break
            except (getm.errors.GetmError, Left):
                self._look_at(folder, failed=True)
                if self._calls == self._plan.calls:
                    raise
                self.resumed += any(path.name.endswith("getm-journal") for path in folder.iterdir())
        self._look_at(folder, failed=False)

    def _look_at(self, folder: Path, *, failed: bool) -> None:
        """Compare what is there with what was sent."""
        wrong = self.received.wrong
        for path in sorted(folder.iterdir()):
            if path.name.startswith("object"):
                came = Received(self._served)
                came.take(0, memoryview(path.read_bytes()))
                # Cancelled at the very end, it may have been put in place before it was told of.
                came.complete(None if failed else self.verified)
                wrong += came.wrong
                self.received.bytes += came.bytes
            elif not (failed and path.name.startswith(".object") and path.name.endswith(("getm-part", "getm-journal"))):
                wrong.append(f"left in the target's folder: {path.name}")
        there = [path.name for path in folder.iterdir() if path.name.startswith("object")]
        if not failed and len(there) != self._plan.files:
            wrong.append(f"of {self._plan.files} files {len(there)} are there")

    def _download_to(self, folder: Path) -> None:
        plan = self._plan
        if plan.way == "download":
            result = self._session.download(
                self._url,
                folder / "object",
                concurrency=plan.concurrency,
                on_progress=lambda done, total: self._leave_if_planned(done),
                **self._options,
            )
        elif plan.way == "adownload":
            result = asyncio.run(self._adownloaded(folder / "object"))
        else:
            self._download_all(folder)
            return
        self.verified, self.stats = result.verified, result.stats

    def _download_all(self, folder: Path) -> None:
        """All results come, and the first failure after them."""
        failure: getm.DownloadFailure | None = None
        with contextlib.closing(self._results(folder)) as results:
            for number, result in enumerate(results):
                if isinstance(result, getm.DownloadFailure):
                    failure = failure or result
                else:
                    self.verified, self.stats = result.verified, result.stats
                if self._plan.kill_between and not self._killed:
                    self._killed = True
                    self._served.disturb("engine killed")
                self._leave_if_planned((number + 1) * self._plan.size // self._plan.files)
        if failure is not None:
            raise failure.error

    def _results(self, folder: Path) -> Generator[getm.DownloadResult | getm.DownloadFailure, None, None]:
        plan = self._plan
        urls = [self._url, *self._mirrors]
        entries = [
            getm.Entry([f"{url}?file={number}" for url in urls], f"object{number}") for number in range(plan.files)
        ]
        yield from self._session.download_all(
            entries,
            jobs=2,
            directory=folder,
            concurrency=plan.concurrency,
            continue_after_error=plan.seed % 2 == 0,
            **self._options,
        )

    async def _adownloaded(self, target: Path) -> getm.DownloadResult:
        task = asyncio.ensure_future(
            self._session.adownload(
                self._url,
                target,
                concurrency=self._plan.concurrency,
                on_progress=self._cancelling(lambda: task.cancel()),
                **self._options,
            )
        )
        try:
            return await task
        except asyncio.CancelledError:
            raise Left from None

    def _cancelling(self, cancel: Callable[[], object]) -> Callable[[int, int | None], None]:
        def on_progress(done: int, total: int | None) -> None:
            try:
                self._leave_if_planned(done)
            except Left:
                cancel()

        return on_progress


# Processes, bytes of shared memory, bytes a second.
WHERE: dict[Where, tuple[int, int, float | None]] = {
    "one process": (1, 1024 * MIB, None),
    "two processes": (2, 1024 * MIB, None),
    "little memory": (1, 24 * MIB, None),
    "two processes, little memory": (2, 4 * MIB, None),
    "limited rate": (1, 1024 * MIB, 50 * MIB),
}


def open_session(where: Where, cacert: Path) -> getm.Session:
    processes, max_memory, limit_rate = WHERE[where]
    return getm.Session(
        processes=processes,
        max_memory=max_memory,
        cacert=cacert,
        limit_rate=limit_rate,
        retries=getm.Retries(attempts=ATTEMPTS, base_s=0.01, cap_s=0.1),
    )
