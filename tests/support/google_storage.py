"""Objects of Google Cloud Storage by its XML API, and their listing by the JSON API, as its reference describes the
answers: tokens, public objects, generations, the project that pays."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from urllib.parse import parse_qs, quote

from getm.integrity.files import checksum
from getm.testing import FaultServer, Reply, Request
from tests.support.identity import IdentityServer
from tests.support.listings import list_page

BUCKET = "bucket"


class GoogleStorage:
    """Serves objects of one bucket by `server`, to the tokens that `identity` has issued.

    `uses`: how many requests each token is good for; None: any number. `cut_at`: after how many bytes of each answer
    the connection breaks. `most_listed`: on a page of a listing, which is for tokens. `payers`: projects that have
    paid.
    """

    def __init__(self, server: FaultServer, identity: IdentityServer) -> None:
        self.endpoint = server.url("").rstrip("/")
        self.uses: int | None = None
        self.cut_at: int | None = None
        self.most_listed = 1000
        self.payers: list[str | None] = []
        self._objects: dict[str, bytes] = {}
        self._server = server
        self._identity = identity
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()
        server.serve(f"/storage/v1/b/{BUCKET}/o", self._listing)

    def put(self, key: str, body: bytes, *, public: bool = False, requester_pays: bool = False) -> str:
        """Add an object of generation 2, before which there was an empty one; its name."""
        md5, crc32c = hashlib.md5(body).digest(), checksum(body, "crc32c")
        fields = {
            "x-goog-generation": "2",
            "x-goog-stored-content-encoding": "identity",
            "x-goog-stored-content-length": str(len(body)),
            "x-goog-hash": [f"crc32c={crc32c.base64}", f"md5={base64.b64encode(md5).decode()}"],
        }

        def reply(request: Request) -> Reply:
            query = parse_qs(request.target.partition(b"?")[2].decode())
            if not public and (refusal := self._refusal(request)):
                return refusal
            payer = request.header("x-goog-user-project")
            self.payers.append(payer)
            if requester_pays and payer is None:
                return _error(400, "UserProjectMissing", "Bucket is a requester pays bucket but no user project")
            if query.get("generation", ["2"]) == ["1"]:
                return Reply(body=b"", etag='"first"', headers={"x-goog-generation": "1"})
            if query.get("generation", ["2"]) != ["2"]:
                return _error(404, "NoSuchKey", "The specified key does not exist.")
            cut = {} if self.cut_at is None else {"cut_at": self.cut_at, "then": "close"}
            return Reply(body=body, etag=f'"{md5.hex()}"', headers=fields, **cut)  # type: ignore[arg-type]  # by name

        self._objects[key] = body
        self._server.serve(f"/{BUCKET}/{quote(key, safe='/~')}", reply)
        return f"gs://{BUCKET}/{key}"

    def _listing(self, request: Request) -> Reply:
        if refusal := self._refusal(request):
            return refusal
        query = parse_qs(request.target.partition(b"?")[2].decode())
        prefix, delimiter, after = (query.get(name, [""])[0] for name in ("prefix", "delimiter", "pageToken"))
        keys, folders, token = list_page(self._objects, prefix, delimiter, after, self.most_listed)
        items = [
            {
                "name": key,
                "size": str(len(self._objects[key])),
                "updated": "2025-07-01T00:00:00.000Z",
                "generation": "2",
                "crc32c": checksum(self._objects[key], "crc32c").base64,
            }
            | ({"contentEncoding": "gzip"} if key.endswith(".gz") else {})
            for key in keys
        ]
        answer = {"kind": "storage#objects", "items": items, "prefixes": folders, "nextPageToken": token}
        # What there is nothing of is left out.
        content = json.dumps({name: value for name, value in answer.items() if value})
        return Reply(body=content.encode(), headers={"Content-Type": "application/json"}, etag=None, last_modified=None)

    @property
    def used(self) -> list[int]:
        """How often each token was used, in the order in which they came."""
        return list(self._used.values())

    def _refusal(self, request: Request) -> Reply | None:
        token = (request.header("Authorization") or "").removeprefix("Bearer ")
        if not token:
            return _error(401, "AccessDenied", "Access denied.")
        with self._lock:
            used = self._used.get(token, 0)
            if token not in self._identity.issued or (self.uses is not None and used >= self.uses):
                return _error(401, "AuthenticationRequired", "Authentication required.")
            self._used[token] = used + 1
        return None


def _error(status: int, code: str, message: str) -> Reply:
    content = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    fields = {"Content-Type": "application/xml; charset=UTF-8"}
    return Reply(status=status, body=content.encode(), etag=None, last_modified=None, headers=fields)
