"""Answers as the Hugging Face Hub does: the tree of a repository in pages, and its files by `resolve`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import pytest

from getm.testing import FaultServer, Reply, Request, failure, redirect

COMMIT = "5f91d94bd9cd7190a9f3216ff93cd1dd95f2c7be"
TOKEN = "hf_SECRET"


def blob_id(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


class Hub:
    """One repository on `server`. `files`: contents by path. `large`: the paths that are in storage, by their SHA-256.
    `revision`: a branch or tag that names `COMMIT`. `private`: `TOKEN` is needed."""

    def __init__(
        self,
        server: FaultServer,
        files: Mapping[str, bytes],
        *,
        repository: str = "models/org/model",
        revision: str = "main",
        large: tuple[str, ...] = (),
        private: bool = False,
        page_size: int = 3,
    ) -> None:
        self.server = server
        self.files = dict(files)
        self._large = large
        self._private = private
        self._page_size = page_size
        self._repository = repository
        self._serve(f"/api/{repository}/revision/{quote(revision, safe='')}", self._revision)
        folders = {"", *(path[:at] for path in files for at, char in enumerate(path) if char == "/")}
        for folder in folders:
            self._serve(self.tree_path(folder), self._tree)
        place = repository.removeprefix("models/")
        for path, content in files.items():
            for name in (COMMIT, quote(revision, safe="")):
                self._serve(f"/{place}/resolve/{name}/{quote(path)}", self._file(path, content))

    @property
    def endpoint(self) -> str:
        return self.server.url("").rstrip("/")

    def tree_path(self, folder: str) -> str:
        """Where the hub lists a folder."""
        return f"/api/{self._repository}/tree/{COMMIT}{f'/{quote(folder)}' if folder else ''}"

    def _serve(self, path: str, answer: Any) -> None:
        def allowed(request: Request) -> Reply:
            if self._private and request.header("Authorization") != f"Bearer {TOKEN}":
                return failure(401)
            reply: Reply = answer(request)
            return reply

        self.server.serve(path, allowed)

    def _revision(self, request: Request) -> Reply:
        return Reply(body=json.dumps({"sha": COMMIT, "siblings": []}).encode())

    def _tree(self, request: Request) -> Reply:
        folder = unquote(request.path).removeprefix(self.tree_path("")).strip("/")
        query = parse_qs(request.target.partition(b"?")[2].decode())
        nodes = list(self._nodes(folder, recursive=query["recursive"] == ["true"]))
        start = int(query.get("cursor", ["0"])[0])
        stop = start + self._page_size
        headers = {}
        if stop < len(nodes):
            url = f"{self.endpoint}{request.path}?recursive={query['recursive'][0]}&cursor={stop}"
            headers["Link"] = f'<{url}>; rel="next"'
        return Reply(body=json.dumps(nodes[start:stop]).encode(), headers=headers)

    def _nodes(self, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
        start = f"{folder}/" if folder else ""
        nodes: dict[str, dict[str, Any]] = {}
        for path, content in self.files.items():
            if not path.startswith(start):
                continue
            for at in [number for number, char in enumerate(path) if char == "/" and number >= len(start)]:
                nodes.setdefault(path[:at], {"type": "directory", "oid": "0" * 40, "size": 0, "path": path[:at]})
            nodes[path] = {"type": "file", "oid": blob_id(content), "size": len(content), "path": path}
            if path in self._large:
                sha256 = hashlib.sha256(content).hexdigest()
                nodes[path]["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        return [node for path, node in nodes.items() if recursive or "/" not in path[len(start) :]]

    def _file(self, path: str, content: bytes) -> Any:
        storage = f"/storage/{quote(path)}"
        if path in self._large:
            self.server.serve(storage, Reply(body=content))
            sha256 = hashlib.sha256(content).hexdigest()
            return lambda request: redirect(storage, X_Linked_Etag=f'"{sha256}"', X_Linked_Size=str(len(content)))
        return lambda request: Reply(body=content, etag=f'"{blob_id(content)}"', headers={"X-Repo-Commit": COMMIT})


def forget_account(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Nothing of the developer's own account at the hub; `folder` takes the place of its folder."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(folder))
