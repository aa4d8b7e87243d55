"""One fault server as many hosts, by their real names: over TLS, at a Unix-domain socket that takes the place of all of
them (`Session(unix_socket=, cacert=)`, `--unix-socket`, `--cacert`)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from getm.testing import FaultServer, Reply, Request
from tests.support.certificates import Authority


class NamedHosts:
    """`server` answers for all hosts by the path; `socket` is where it listens. `session` has the arguments of a
    session that finds it, `options` those of the command."""

    def __init__(self, server: FaultServer, socket: str, ca_path: Path) -> None:
        self.server = server
        self.session: dict[str, Any] = {"unix_socket": socket, "cacert": ca_path}
        self.options = ["--unix-socket", socket, "--cacert", str(ca_path), "--proxy="]

    def serve_json(self, path: str, answer: object) -> None:
        """Answer requests for `path` with a JSON document."""
        self.server.serve(path, as_json(answer))

    def requests(self, host: str) -> list[Request]:
        """Those to one host."""
        return [request for request in self.server.requests if request.header("Host") == host]


def as_json(answer: object) -> Reply:
    """A JSON document."""
    headers = {"Content-Type": "application/json"}
    return Reply(body=json.dumps(answer).encode(), etag=None, last_modified=None, headers=headers)


@contextlib.contextmanager
def named_hosts(authority: Authority, path: str, *names: str) -> Iterator[NamedHosts]:
    """A server for these hosts at the socket `path`, which must be short."""
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
    with FaultServer(tls=authority.issue(*names).server_context(), address=path) as server:
        yield NamedHosts(server, path, authority.ca_path)
