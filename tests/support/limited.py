"""Transfers of which one stage is slow, and what they tell of themselves: by seeds, for tests and for a benchmark."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import getm
from getm.testing import FaultServer, Pace, Reply, failure
from tests.support.certificates import Authority
from tests.support.engines import engines
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject
from tests.support.throttles import relay, slow_names, waits_for_disk

MIB = 1024 * 1024
ALGORITHMS = ("md5", "sha1", "sha256", "sha512", "sha384", "sha224")
_OPTIONS: dict[str, Any] = {"retries": getm.Retries(5, base_s=0.2, cap_s=0.4)}


class Limited:
    """The servers and sessions that the scenarios use. `transfer` returns the statistics of one whose `stage` is slow,
    in a way, and by how much, that follow from `seed`. `folder`: for files of its own. `fast`: a server that limits
    nothing."""

    def __init__(self, folder: Path, fast: NginxServer) -> None:
        self._folder = folder
        self._fast = fast
        self._kept = contextlib.ExitStack()
        self._server = self._kept.enter_context(FaultServer())
        authority = Authority(folder / "authority")
        self._tls_server = self._kept.enter_context(FaultServer(tls=authority.issue().server_context()))
        # The engine runs before anything is measured.
        self._session = self._kept.enter_context(getm.Session(cacert=authority.ca_path, **_OPTIONS))
        self._session.read(self._server.serve("/first", Reply(body=b"first")))
        self._number = 0

    def close(self) -> None:
        self._kept.close()

    def transfer(self, stage: str, seed: int) -> getm.Stats:
        self._number += 1
        return SCENARIOS[stage](self, random.Random(seed))

    def _fast_url(self, size_mib: int) -> str:
        return self._fast.url(self._fast.objects.make(size_mib * MIB))

    # How it is received -----------------------------------------------------------------------------------------------

    def _receive(
        self, chance: random.Random, url: str, *, session: getm.Session | None = None, **options: Any
    ) -> getm.Stats:
        """By any of the ways."""
        session = self._session if session is None else session
        way = chance.choice((_iterate, _iterate_async, _iterate_unordered, _read_on, _download, _download_all))
        path = self._folder / f"received-{self._number}"
        options.setdefault("concurrency", chance.choice((1, 2, 4, "auto")))
        try:
            return way(session, url, path, **options)
        finally:
            path.unlink(missing_ok=True)

    # One stage is slow ------------------------------------------------------------------------------------------------

    def network(self, chance: random.Random) -> getm.Stats:
        """A rate for each connection."""
        rate, connections = chance.uniform(2e6, 20e6), chance.choice((1, 2, 4))
        body = bytes(int(rate * connections * chance.uniform(0.4, 0.8)))
        pace = Pace(int(rate * 0.01), 0.01)
        return self._receive(chance, self._server.serve("/x", Reply(body=body, pace=pace)), concurrency=connections)

    def first_byte(self, chance: random.Random) -> getm.Stats:
        reply = Reply(body=bytes(chance.randint(1, 4 * MIB)), delay_s=chance.uniform(0.2, 0.5))
        return self._receive(chance, self._server.serve("/x", reply))

    def consumer(self, chance: random.Random) -> getm.Stats:
        url = self._fast_url(chance.choice((8, 24, 48)))
        pause_s = chance.uniform(0.01, 0.03)
        concurrency = chance.choice((1, 2, 4, "auto"))
        way = chance.choice((_iterate, _iterate_async, _iterate_unordered, _read_on, _to_pipe))
        return way(self._session, url, self._folder, concurrency=concurrency, pause=lambda: time.sleep(pause_s))

    def hashing(self, chance: random.Random) -> getm.Stats:
        served = self._fast.objects.make(chance.choice((64, 96)) * MIB)
        checksums = _checksums(served)[: chance.randint(4, len(ALGORITHMS))]
        return self._receive(chance, self._fast.url(served), checksum=checksums)

    def disk(self, chance: random.Random) -> getm.Stats:
        url = self._fast_url(chance.choice((8, 24)))
        path = waits_for_disk(self._folder / "synchronous") / "x"
        options: dict[str, Any] = {
            "concurrency": chance.choice((1, 2, 4, "auto")),
            "fsync": chance.choice((True, False)),
        }
        stats = self._session.download(url, path, **options).stats
        path.unlink()
        return stats

    def rate_limit(self, chance: random.Random) -> getm.Stats:
        rate = chance.uniform(4e6, 20e6)
        url = self._server.serve("/x", Reply(body=bytes(int(rate * chance.uniform(0.4, 0.8)))))
        with getm.Session(limit_rate=rate) as session:
            session.read(self._server.url("/first"))
            return self._receive(chance, url, session=session)

    def lookup(self, chance: random.Random) -> getm.Stats:
        self._server.serve("/x", Reply(body=bytes(chance.randint(1, 4 * MIB))))
        with slow_names(self._folder, chance.uniform(0.1, 0.3)):
            return self._receive(chance, f"http://host-{self._number}.example:{self._server.port}/x")

    def connect(self, chance: random.Random) -> getm.Stats:
        self._server.serve("/x", Reply(body=bytes(chance.randint(1, 4 * MIB))))
        with relay(self._server.port, accept_s=chance.uniform(0.2, 0.6)) as port:
            return self._receive(chance, f"http://127.0.0.1:{port}/x")

    def tls(self, chance: random.Random) -> getm.Stats:
        self._tls_server.serve("/x", Reply(body=bytes(chance.randint(1, 4 * MIB))))
        with relay(self._tls_server.port, first_s=chance.uniform(0.2, 0.5)) as port:
            return self._receive(chance, f"https://127.0.0.1:{port}/x")

    def retries(self, chance: random.Random) -> getm.Stats:
        failures = [failure(503, retry_after="1")] * chance.randint(1, 2)
        return self._receive(
            chance, self._server.serve("/x", *failures, Reply(body=bytes(chance.randint(1, 4 * MIB)))), concurrency=1
        )

    def cpu(self, chance: random.Random) -> getm.Stats:
        """The engine has one processor, and others want it as well."""
        url = self._fast_url(96)
        (processor, *_) = os.sched_getaffinity(0)
        before = {engine.pid for engine in engines()}
        with getm.Session() as session, contextlib.ExitStack() as others:
            session.read(url)
            for pid in {engine.pid for engine in engines()} - before:
                os.sched_setaffinity(pid, {processor})
            for _ in range(chance.randint(4, 8)):
                busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                others.callback(busy.wait)
                others.callback(busy.kill)
                os.sched_setaffinity(busy.pid, {processor})
            return _iterate(session, url, self._folder, concurrency=1, checksum=None)


SCENARIOS: dict[str, Callable[[Limited, random.Random], getm.Stats]] = {
    "network": Limited.network,
    "first byte": Limited.first_byte,
    "consumer": Limited.consumer,
    "hashing": Limited.hashing,
    "disk": Limited.disk,
    "rate limit": Limited.rate_limit,
    "lookup": Limited.lookup,
    "connect": Limited.connect,
    "tls": Limited.tls,
    "retries": Limited.retries,
    "cpu": Limited.cpu,
}


def _nothing() -> None:
    return


def _iterate(
    session: getm.Session, url: str, path: Path, *, pause: Callable[[], None] = _nothing, **options: Any
) -> getm.Stats:
    parts = session.iter_content(url, **options)
    for _ in parts:
        pause()
    return parts.stats


def _iterate_unordered(
    session: getm.Session, url: str, path: Path, *, pause: Callable[[], None] = _nothing, **options: Any
) -> getm.Stats:
    parts = session.iter_content_unordered(url, **options)
    for _ in parts:
        pause()
    return parts.stats


def _iterate_async(
    session: getm.Session, url: str, path: Path, *, pause: Callable[[], None] = _nothing, **options: Any
) -> getm.Stats:
    async def run() -> getm.Stats:
        parts = session.aiter_content(url, **options)
        async for _ in parts:
            pause()
        return parts.stats

    return asyncio.run(run())


def _read_on(
    session: getm.Session, url: str, path: Path, *, pause: Callable[[], None] = _nothing, **options: Any
) -> getm.Stats:
    buffer = bytearray(MIB)
    with session.urlopen(url, **options) as fh:
        while fh.readinto(buffer):
            pause()
        return fh.stats


def _download(session: getm.Session, url: str, path: Path, **options: Any) -> getm.Stats:
    return session.download(url, path, **options).stats


def _download_all(session: getm.Session, url: str, path: Path, **options: Any) -> getm.Stats:
    checksum = options.pop("checksum", "auto")
    (result,) = session.download_all([getm.Entry(url, path)], checksum=checksum, **options)
    assert isinstance(result, getm.DownloadResult)
    return result.stats


def _to_pipe(
    session: getm.Session, url: str, folder: Path, *, pause: Callable[[], None] = _nothing, **options: Any
) -> getm.Stats:
    """A FIFO whose reader takes its time."""
    path = folder / "pipe"
    os.mkfifo(path)

    def drain() -> None:
        with path.open("rb", buffering=0) as pipe:
            while pipe.read(MIB):
                pause()

    reader = threading.Thread(target=drain, name="reader")
    reader.start()
    try:
        return session.download(url, path, **options).stats
    finally:
        reader.join()
        path.unlink()


@functools.cache
def _checksums(served: ServedObject) -> list[str]:
    return [f"{name}:{hashlib.new(name, served.read()).hexdigest()}" for name in ALGORITHMS]
