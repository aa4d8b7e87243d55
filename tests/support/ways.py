"""Every way to have an object, as a stream or as a file, by the public API and by the command: one outcome for all."""

from __future__ import annotations

import asyncio
import io
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import getm
from getm import errors
from tests.support.command import getm as run_getm

READ_BYTES = 100_000


@dataclass
class Outcome:
    """What was given out, by its offset, and the error that came instead of the rest."""

    parts: list[tuple[int, bytes]] = field(default_factory=list)
    error: errors.GetmError | None = None

    def take(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.parts.append((offset, bytes(data)))

    def fail(self, error: errors.GetmError) -> None:
        # Its traceback holds the views of the transfer.
        traceback.clear_frames(error.__traceback__)
        self.error = error

    @property
    def count(self) -> int:
        return sum(len(data) for _, data in self.parts)

    @property
    def data(self) -> bytes:
        """All of it, from byte 0 on and without a gap; raises what the transfer failed with."""
        if self.error is not None:
            raise self.error
        joined = bytearray()
        for offset, data in sorted(self.parts):
            assert offset == len(joined)
            joined += data
        return bytes(joined)

    def holds_only(self, body: bytes) -> bool:
        """Whether every byte that was given out is `body`'s byte at its place."""
        return all(body[offset : offset + len(data)] == data for offset, data in self.parts)


Stream = Callable[[getm.Session, Any, Outcome, dict[str, Any]], None]


def _read(session: getm.Session, url: Any, outcome: Outcome, options: dict[str, Any]) -> None:
    outcome.take(0, session.read(url, **options))


def _reads(session: getm.Session, url: Any, outcome: Outcome, options: dict[str, Any]) -> None:
    with session.urlopen(url, **options) as fh:
        while data := fh.read(READ_BYTES):
            outcome.take(outcome.count, data)


def _readinto(session: getm.Session, url: Any, outcome: Outcome, options: dict[str, Any]) -> None:
    buffer = bytearray(READ_BYTES)
    with session.urlopen(url, **options) as fh:
        while count := fh.readinto(buffer):
            outcome.take(outcome.count, buffer[:count])


def _buffered(session: getm.Session, url: Any, outcome: Outcome, options: dict[str, Any]) -> None:
    raw: Any = session.urlopen(url, **options)  # its read returns views, where the standard library's return bytes
    with io.BufferedReader(raw) as fh:
        while data := fh.read(READ_BYTES):
            outcome.take(outcome.count, data)


def _iter_content(session: getm.Session, url: Any, outcome: Outcome, options: dict[str, Any]) -> None:
    for view in session.iter_content(url, READ_BYTES, **options):
        outcome.take(outcome.count, view)


def _unordered(session: getm.Session, url: Any, outcome: Outcome, options: dict[str, Any]) -> None:
    for offset, view in session.iter_content_unordered(url, READ_BYTES, **options):
        outcome.take(offset, view)


def _aiter_content(session: getm.Session, url: Any, outcome: Outcome, options: dict[str, Any]) -> None:
    async def receive() -> None:
        async for view in session.aiter_content(url, READ_BYTES, **options):
            outcome.take(outcome.count, view)

    asyncio.run(receive())


def _aunordered(session: getm.Session, url: Any, outcome: Outcome, options: dict[str, Any]) -> None:
    async def receive() -> None:
        async for offset, view in session.aiter_content_unordered(url, READ_BYTES, **options):
            outcome.take(offset, view)

    asyncio.run(receive())


_STREAMS: dict[str, Stream] = {
    "read": _read,
    "reads": _reads,
    "readinto": _readinto,
    "BufferedReader": _buffered,
    "iter_content": _iter_content,
    "iter_content_unordered": _unordered,
    "aiter_content": _aiter_content,
    "aiter_content_unordered": _aunordered,
}
STREAMS = tuple(_STREAMS)
FILES = ("download", "adownload", "download_all", "command")


def stream(way: str, session: getm.Session, url: Any, **options: Any) -> Outcome:
    """Receive `url` in one of the ways of `STREAMS`."""
    outcome = Outcome()
    try:
        _STREAMS[way](session, url, outcome, options)
    except errors.GetmError as error:
        outcome.fail(error)
    return outcome


def file(way: str, session: getm.Session, url: Any, folder: Path, *, retries: int = 2, **options: Any) -> Outcome:
    """Receive `url` as a file in one of the ways of `FILES`; what lies in `folder` is gone on with. On success nothing
    else lies there, and on failure the file does not. The command takes `concurrency` and `checksum`."""
    target, outcome = folder / "object", Outcome()
    folder.mkdir(exist_ok=True)
    retrying = getm.Retries(retries, base_s=0.001, cap_s=0.01)
    if way == "command":
        flags = [f"--retries={retries}", f"--concurrency={options.get('concurrency', 1)}"]
        if "checksum" in options:
            flags.append(f"--checksum={options['checksum']}")
        outcome.error = command_error(url, str(target), *flags, cwd=folder)
    else:
        try:
            if way == "download":
                session.download(url, target, retries=retrying, **options)
            elif way == "adownload":
                asyncio.run(session.adownload(url, target, retries=retrying, **options))
            else:
                entries = [getm.Entry(url, "object")]
                list(session.download_all(entries, directory=folder, retries=retrying, **options))
        except errors.GetmError as error:
            outcome.fail(error)
    assert target.exists() == (outcome.error is None)
    if outcome.error is None:
        outcome.take(0, target.read_bytes())
        assert [path.name for path in folder.iterdir()] == ["object"]
    return outcome


def command_error(*arguments: str, cwd: Path) -> errors.GetmError | None:
    """Run the command; what it says on standard error, as an error."""
    run = run_getm(*arguments, cwd=cwd)
    if run.returncode == 0:
        assert run.stderr == b""
        return None
    facts = json.loads(run.stderr.decode("ascii").splitlines()[0].removeprefix("ERROR:getm.cli:"))
    code, message, url = facts.pop("error"), facts.pop("message"), facts.pop("url", None)
    return errors.from_wire(code, message, url, facts)
