"""A download that is cancelled while a thread is at work for it: nothing half done, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import getm
from getm.testing import FaultServer, Reply

BODY = os.urandom(100_000)
_WAIT_S = 20.0


class Held:
    """Wraps a function: it waits inside until it is let go."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.entered, self.let_go = threading.Event(), threading.Event()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.entered.set()
        assert self.let_go.wait(_WAIT_S)
        return self._function(*arguments, **named)


def test_cancelled_in_the_middle_of_the_rename(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    held = Held(os.replace)
    monkeypatch.setattr("os.replace", held)

    async def cancel() -> None:
        task = asyncio.create_task(getm.adownload(url, tmp_path / "x"))
        assert await asyncio.to_thread(held.entered.wait, _WAIT_S)
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        # The folder's descriptor, which the rename needs, is not closed under it.
        assert not task.done()
        held.let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [BODY]


def test_cancelled_while_a_fifo_has_no_reader(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    os.mkfifo(tmp_path / "fifo")

    async def cancel() -> None:
        task = asyncio.create_task(getm.adownload(url, tmp_path / "fifo"))
        await asyncio.to_thread(fault_server.wait_for_requests, 1)
        await asyncio.to_thread(fault_server.requests[0].wait_ended)
        task.cancel()
        # Not waited for without end: a FIFO opens only when somebody reads it.
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    # There is none where the cancellation came before the FIFO was opened.
    for left in [thread for thread in threading.enumerate() if thread.name == "getm-batch"]:
        (tmp_path / "fifo").read_bytes()
        left.join(_WAIT_S)
        assert not left.is_alive()
