"""What was really sent: the access log of the test nginx, read back as values."""

from __future__ import annotations

import http.client
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

_BARRIER = "/barrier/"


@dataclass(frozen=True)
class LoggedRequest:
    """One request as nginx saw it. `target` is byte for byte what stood in the request line; absent headers are ""."""

    scheme: str
    port: int
    method: str
    target: str
    version: str
    status: int
    host: str
    range: str
    if_range: str
    accept_encoding: str
    authorization: str
    cookie: str
    user_agent: str
    connection: int
    connection_requests: int
    body_bytes: int
    completed: bool
    ended_s: float


class RequestLog:
    """The log of one nginx with one worker. `mark()` before, `since(mark)` after: the requests in between, in the
    order of their ends."""

    def __init__(self, path: Path, http_port: int) -> None:
        self._path = path
        self._http_port = http_port
        self._barriers = itertools.count(1)

    def mark(self) -> int:
        """A place in the log: after every request whose reply has arrived, or whose connection was closed, by now."""
        self._barrier()
        return self._path.stat().st_size

    def since(self, mark: int) -> list[LoggedRequest]:
        """The requests that ended after `mark` was taken and whose replies have arrived by now."""
        self._barrier()
        with self._path.open("rb") as file:
            file.seek(mark)
            lines = file.read().decode().splitlines()
        entries = (_parse(line) for line in lines)
        return [entry for entry in entries if not entry.target.startswith(_BARRIER)]

    def _barrier(self) -> None:
        # nginx writes a request's line after its last byte is out, so the client can be here before the line is. The
        # one worker handles events in turn: when it answers a later request, the lines of the earlier ones are written.
        connection = http.client.HTTPConnection("127.0.0.1", self._http_port, timeout=30)
        try:
            connection.request("GET", f"{_BARRIER}{next(self._barriers)}")
            connection.getresponse().read()
        finally:
            connection.close()


def _parse(line: str) -> LoggedRequest:
    entry: dict[str, str] = json.loads(line)
    method, _, rest = entry["line"].partition(" ")
    target, _, version = rest.rpartition(" ")
    return LoggedRequest(
        scheme=entry["scheme"],
        port=int(entry["port"]),
        method=method,
        target=target,
        version=version,
        status=int(entry["status"]),
        host=entry["host"],
        range=entry["range"],
        if_range=entry["if_range"],
        accept_encoding=entry["accept_encoding"],
        authorization=entry["authorization"],
        cookie=entry["cookie"],
        user_agent=entry["user_agent"],
        connection=int(entry["connection"]),
        connection_requests=int(entry["connection_requests"]),
        body_bytes=int(entry["body_bytes"]),
        completed=entry["completed"] == "OK",
        ended_s=float(entry["ended_s"]),
    )
