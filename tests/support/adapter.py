"""An adapter of this process, and a program's requests to it."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import getm
from getm.adapter.locations import Locations
from getm.adapter.server import Adapter, serve
from getm.adapter.sockets import listen, url_of
from getm.resolve.resource import Provider


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Served:
    """`urls`: of the names, in their order. `reports`: what an adapter has told of."""

    urls: list[str] = field(default_factory=list)
    reports: list[tuple[str, getm.GetmError]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return urlsplit(self.urls[0]).port or 0


@contextmanager
def adapter(
    session: getm.Session,
    *names: str,
    beside: tuple[str, ...] = (),
    provider_of: Callable[[str], Provider] | None = None,
) -> Iterator[Served]:
    """Serve these names in a thread."""
    served, locations, started = Served(), Locations("token"), threading.Event()
    ends: list[Callable[[], Any]] = []
    for name in beside:
        locations.add_beside(name)

    def watch(end: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(end))
        started.set()

    with listen() as listener:
        served.urls = [url_of(listener, locations.add(name)) for name in names]
        adapter = Adapter(session, locations, lambda name, error: served.reports.append((name, error)), provider_of)
        thread = threading.Thread(target=serve, args=(adapter, listener, watch))
        thread.start()
        try:
            started.wait()
            yield served
        finally:
            ends[0]()
            thread.join()


def ask(url: str, method: str = "GET", **headers: str) -> Answer:
    """One request, over a connection of its own. Underscores in names of fields stand for hyphens."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=50)
    try:
        connection.request(
            method, parts.path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()
