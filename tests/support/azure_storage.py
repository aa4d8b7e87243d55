"""Objects of Azure Blob Storage, as its reference describes the answers: shared access signatures, tokens, public
containers, versions."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote
from xml.sax.saxutils import escape

from getm.testing import FaultServer, Reply, Request
from tests.support.identity import IdentityServer
from tests.support.listings import list_page

ACCOUNT = "labaccount"
KEY = base64.b64encode(b"SECRET-key-of-the-account").decode()
CONTAINER = "container"

# What a signature is of, in this order, for blobs and containers ("Create a service SAS", version 2020-12-06 and
# later): permissions, times, the resource, a policy, addresses, protocols, versions, and fields of the answer.
_SIGNED = ("sp", "st", "se", "", "si", "sip", "spr", "sv", "sr", "", "ses", "rscc", "rscd", "rsce", "rscl", "rsct")
_RESOURCE, _TIME = 3, 9


class AzureStorage:
    """Serves blobs of one container by `server`, to signatures by the account's key, and to the tokens that `identity`
    has issued. `refused`: the codes of refusals.

    `uses`: how many requests each signature or token is good for; None: any number. `cut_at`: after how many bytes of
    each answer the connection breaks. `most_listed`: on a page of a listing.
    """

    def __init__(self, server: FaultServer, identity: IdentityServer) -> None:
        self.endpoint = server.url(f"/{ACCOUNT}")
        self.uses: int | None = None
        self.cut_at: int | None = None
        self.most_listed = 5000
        self.refused: list[str] = []
        self._blobs: dict[str, bytes] = {}
        self._server = server
        self._identity = identity
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()
        server.serve(f"/{ACCOUNT}/{CONTAINER}", self._listing)

    @property
    def connection_string(self) -> str:
        return f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.endpoint};"

    @property
    def used(self) -> list[int]:
        """How often each signature or token was used, in the order in which they came."""
        return list(self._used.values())

    def put(self, blob: str, body: bytes, *, public: bool = False) -> str:
        """Add a blob, of which there is an empty version "2025-01-01T00:00:00.0000000Z"; its name."""
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()

        def reply(request: Request) -> Reply:
            query = parse_qs(request.target.partition(b"?")[2].decode())
            ranged = request.header("Range") is not None
            if not public and (refusal := self._refusal(request, blob, query)):
                return refusal
            if request.header("x-ms-version") is None and "sv" not in query:
                # As in 2009: no ranges without an end, and an ETag without quotes.
                return Reply(body=body, etag="0x8D0001", ranges=False, headers={"x-ms-version": "2009-09-19"})
            if "versionid" in query:
                return Reply(body=b"", etag='"0x8D0000"')
            fields = {"x-ms-blob-content-md5": md5} if ranged else {"Content-MD5": md5}
            cut = {} if self.cut_at is None else {"cut_at": self.cut_at, "then": "close"}
            return Reply(body=body, etag='"0x8D0001"', headers=fields, **cut)  # type: ignore[arg-type]  # by name

        self._blobs[blob] = body
        self._server.serve(f"/{ACCOUNT}/{CONTAINER}/{quote(blob, safe='/~')}", reply)
        return f"az://{CONTAINER}/{blob}"

    def _listing(self, request: Request) -> Reply:
        query = parse_qs(request.target.partition(b"?")[2].decode())
        if refusal := self._refusal(request, "", query):
            return refusal
        assert (query["restype"], query["comp"]) == (["container"], ["list"])
        prefix, delimiter, marker = (query.get(name, [""])[0] for name in ("prefix", "delimiter", "marker"))
        blobs, folders, after = list_page(self._blobs, prefix, delimiter, marker, self.most_listed)
        rows = "".join(f"<Blob><Name>{escape(blob)}</Name>{self._properties(blob)}</Blob>" for blob in blobs)
        rows += "".join(f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>" for name in folders)
        content = (
            f'\ufeff<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{CONTAINER}">'
            f"<Blobs>{rows}</Blobs><NextMarker>{escape(after)}</NextMarker></EnumerationResults>"
        )
        fields = {"Content-Type": "application/xml"}
        return Reply(body=content.encode(), headers=fields, etag=None, last_modified=None)

    def _properties(self, blob: str) -> str:
        body = self._blobs[blob]
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        kind = "directory" if blob == "folder" else "file"
        return (
            "<Properties><Last-Modified>Tue, 01 Jul 2025 00:00:00 GMT</Last-Modified><Etag>0x8D0001</Etag>"
            f"<ResourceType>{kind}</ResourceType><Content-Length>{len(body)}</Content-Length>"
            f"<Content-MD5>{md5}</Content-MD5></Properties>"
        )

    def _refusal(self, request: Request, blob: str, query: dict[str, list[str]]) -> Reply | None:
        given = query.get("sig", [""])[0] or (request.header("Authorization") or "").removeprefix("Bearer ")
        if not given:
            return self._refuse(401, "NoAuthenticationInformation")
        if "sig" in query and not self._is_signed(query, blob):
            return self._refuse(403, "AuthenticationFailed", "Signature did not match")
        if "sig" not in query and (given not in self._identity.issued or not request.header("x-ms-version")):
            return self._refuse(401, "InvalidAuthenticationInfo")
        with self._lock:
            used = self._used.get(given, 0)
            if self.uses is not None and used >= self.uses:
                detail = (
                    "Signature not valid in the specified time frame: "
                    "Expiry [Mon, 01 Jan 2024 00:01:00 GMT] - Current [Mon, 01 Jan 2024 00:02:00 GMT]"
                )
                return self._refuse(*((403, "AuthenticationFailed", detail) if "sig" in query else (401, "Expired")))
            self._used[given] = used + 1
        return None

    def _is_signed(self, query: dict[str, list[str]], blob: str) -> bool:
        values = [query.get(name, [""])[0] for name in _SIGNED]
        whole = {"c": "", "b": f"/{blob}", "bv": f"/{blob}"}[query["sr"][0]]
        values[_RESOURCE] = f"/blob/{ACCOUNT}/{CONTAINER}{whole}"
        values[_TIME] = query.get("versionid", [""])[0] if query["sr"] == ["bv"] else ""
        signature = hmac.digest(base64.b64decode(KEY), "\n".join(values).encode(), "sha256")
        expires = datetime.fromisoformat(query["se"][0])
        return query["sig"] == [base64.b64encode(signature).decode()] and expires > datetime.now(UTC)

    def _refuse(self, status: int, code: str, detail: str = "") -> Reply:
        self.refused.append(code)
        more = f"<AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail>" if detail else ""
        content = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code>{more}</Error>'
        fields = {"Content-Type": "application/xml", "x-ms-error-code": code}
        return Reply(status=status, body=content.encode(), etag=None, last_modified=None, headers=fields)
