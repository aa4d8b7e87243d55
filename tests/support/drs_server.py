"""A server of GA4GH's Data Repository Service (DRS 1.x), as far as clients read it: objects, bundles, access by ids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from getm.testing import Reply, Request, failure
from tests.support.named_hosts import NamedHosts, as_json

OBJECTS = "/ga4gh/drs/v1/objects"
TOKEN = "SECRET-drs-token"


class DRSServer:
    """Objects at `host`. With `token`, only requests that have it are answered."""

    def __init__(self, hosts: NamedHosts, host: str = "drs.test", *, token: str | None = None) -> None:
        self.host = host
        self._hosts = hosts
        self._token = token

    def blob(self, id: str, body: bytes, methods: Iterable[Mapping[str, Any]], **more: object) -> str:
        """Add an object; its name. `methods`: its access methods. `more`: fields in place of the usual ones."""
        facts = {
            "id": id,
            "self_uri": f"drs://{self.host}/{quote(id, safe='')}",
            "size": len(body),
            "created_time": "2025-07-01T00:00:00Z",
            "checksums": [
                {"type": "sha-256", "checksum": hashlib.sha256(body).hexdigest()},
                {"type": "trunc512", "checksum": "0123"},
            ],
            "access_methods": list(methods),
            **more,
        }
        return self._add(id, facts)

    def bundle(self, id: str, contents: Iterable[Mapping[str, Any]]) -> str:
        """Add a bundle; its name."""
        facts = {"id": id, "size": 1, "created_time": "2025-07-01T00:00:00Z", "checksums": []}
        return self._add(id, {**facts, "contents": list(contents)})

    def access(self, id: str, access_id: str, answer: Callable[[], object] | Reply) -> None:
        """What `/access/ID` answers."""
        path = f"{OBJECTS}/{quote(id, safe='')}/access/{quote(access_id, safe='')}"
        self._serve(path, (lambda: answer) if isinstance(answer, Reply) else lambda: as_json(answer()))

    def _add(self, id: str, facts: object) -> str:
        self._serve(f"{OBJECTS}/{quote(id, safe='')}", lambda: as_json(facts))
        return f"drs://{self.host}/{quote(id, safe='')}"

    def _serve(self, path: str, answer: Callable[[], Reply]) -> None:
        def guarded(request: Request) -> Reply:
            if self._token is not None and request.header("Authorization") != f"Bearer {self._token}":
                return failure(401)
            return answer()

        self._hosts.server.serve(path, guarded)
