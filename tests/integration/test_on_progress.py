"""`on_progress`, and what tqdm and rich make of it: the last call is (total, total), whatever the server does."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
import rich.console
import rich.progress
import tqdm

import getm
from getm.testing import FaultServer, Reply

MIB = 1024 * 1024
CODED = gzip.compress(b"text" * 100_000)

SCRIPTS: dict[str, tuple[bytes, tuple[Reply, ...]]] = {
    "small": (b"data", (Reply(body=b"data"),)),
    "empty": (b"", (Reply(body=b""),)),
    "empty, chunked": (b"", (Reply(body=b"", framing="chunked"),)),
    "large": (bytes(5 * MIB), (Reply(body=bytes(5 * MIB)),)),
    "small, of unknown size": (b"data", (Reply(body=b"data", framing="chunked"),)),
    "large, of unknown size": (bytes(5 * MIB), (Reply(body=bytes(5 * MIB), framing="chunked"),)),
    "until the connection ends": (bytes(3 * MIB), (Reply(body=bytes(3 * MIB), framing="close"),)),
    "coded": (CODED, (Reply(body=CODED, headers={"Content-Encoding": "gzip"}),)),
    "resumed by a retry": (bytes(5 * MIB), (Reply(body=bytes(5 * MIB), cut_at=3 * MIB), Reply(body=bytes(5 * MIB)))),
    "starts over": (
        bytes(5 * MIB),
        (Reply(body=bytes(5 * MIB), etag=None, last_modified=None, cut_at=3 * MIB), Reply(body=bytes(5 * MIB))),
    ),
    "replaced by a shorter one": (
        bytes(2 * MIB),
        (Reply(body=bytes(5 * MIB), etag='"1"', cut_at=3 * MIB), *[Reply(body=bytes(2 * MIB), etag='"2"')] * 2),
    ),
}


@pytest.fixture(params=SCRIPTS)
def script(request: pytest.FixtureRequest) -> tuple[bytes, tuple[Reply, ...]]:
    return SCRIPTS[request.param]


Script = tuple[bytes, tuple[Reply, ...]]


def test_the_last_call(tmp_path: Path, fault_server: FaultServer, script: Script) -> None:
    content, replies = script
    url = fault_server.serve("/x", *replies)
    calls: list[tuple[int, int | None]] = []
    events: list[getm.Event] = []
    with getm.Session(retries=getm.Retries(base_s=0.01)) as session:
        result = session.download(url, tmp_path / "x", on_progress=lambda done, total: calls.append((done, total)))
        (other,) = session.download_all([getm.Entry(url, tmp_path / "y")], on_event=events.append)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes() == content
    assert calls[-1] == (result.size, result.size) == (len(content), len(content))
    assert all(total is None or done <= total for done, total in calls)
    assert isinstance(other, getm.DownloadResult) and isinstance(events[-1], getm.Finished)
    (started,) = (event for event in events if isinstance(event, getm.Started))
    assert started.resumed_bytes == 0
    (*_, last) = (event for event in events if isinstance(event, getm.Progressed))
    assert (last.done_bytes, last.total_bytes) == (len(content), len(content))


async def test_the_last_call_in_asyncio(tmp_path: Path, fault_server: FaultServer, script: Script) -> None:
    content, replies = script
    url = fault_server.serve("/x", *replies)
    calls: list[tuple[int, int | None]] = []
    with getm.Session(retries=getm.Retries(base_s=0.01)) as session:
        await session.adownload(url, tmp_path / "x", on_progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(content), len(content))


def test_tqdm_and_rich_end_full(
    tmp_path: Path, fault_server: FaultServer, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, replies = script
    # Otherwise a thread of tqdm's stays.
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)
    url = fault_server.serve("/x", *replies)
    console = rich.console.Console(file=io.StringIO())
    with (
        getm.Session(retries=getm.Retries(base_s=0.01)) as session,
        tqdm.tqdm(file=io.StringIO()) as bar,
        rich.progress.Progress(console=console, auto_refresh=False) as progress,
    ):
        task = progress.add_task("x", total=None)

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)
            progress.update(task, completed=done, total=total)

        session.download(url, tmp_path / "x", on_progress=show)
        assert (bar.n, bar.total) == (len(content), len(content))
        assert progress.finished


def test_a_file_that_is_left_is_all_there(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=b"data"))
    (tmp_path / "x").write_bytes(b"data")
    calls: list[tuple[int, int | None]] = []
    getm.download(
        url,
        tmp_path / "x",
        existing="keep",
        on_progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(4, 4)] and fault_server.requests == []
