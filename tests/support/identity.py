"""Servers that issue tokens, as Google and Microsoft document theirs: each token is another one."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


class IdentityServer:
    """Issues tokens on a free loopback port: POST /token as Google's token endpoint, GET /computeMetadata/... as its
    metadata server, GET /msi as the managed identity of an Azure App Service. Use as a context manager.

    `lifetime_s`: of each token. `issued`: the tokens, in their order. `asked`: paths and parameters of all requests.
    """

    def __init__(self, lifetime_s: int = 60) -> None:
        self.lifetime_s = lifetime_s
        self.issued: list[str] = []
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self._lock = threading.Lock()
        identity = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                identity._answer(self, urlsplit(self.path).query)

            def do_POST(self) -> None:
                identity._answer(self, self.rfile.read(int(self.headers["Content-Length"])).decode())

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="identity")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_port}"

    def _answer(self, handler: BaseHTTPRequestHandler, parameters: str) -> None:
        path = urlsplit(handler.path).path
        with self._lock:
            self.asked.append((path, parse_qs(parameters)))
            answer = self._content(path, handler)
        content = json.dumps(answer).encode()
        handler.send_response(404 if answer is None else 200)
        # By which Google's libraries know a metadata server.
        handler.send_header("Metadata-Flavor", "Google")
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _content(self, path: str, handler: BaseHTTPRequestHandler) -> dict[str, object] | str | None:
        if path == "/token" or re.fullmatch(r"/computeMetadata/.*/service-accounts/[^/]+/token", path):
            return {"access_token": self._issue(), "expires_in": self.lifetime_s, "token_type": "Bearer"}
        if path == "/msi" and handler.headers["X-IDENTITY-HEADER"] == "SECRET-header":
            expires = str(int(time.time()) + self.lifetime_s)
            return {"access_token": self._issue(), "expires_on": expires, "token_type": "Bearer", "resource": "storage"}
        if path == "/":
            return {}
        if path.endswith("/universe/universe-domain"):
            return "googleapis.com"
        if path.endswith("/project/project-id"):
            return "lab"
        if path.endswith("/service-accounts/default/"):
            return {"email": "lab@example.org", "scopes": [], "aliases": ["default"]}
        return None

    def _issue(self) -> str:
        self.issued.append(f"SECRET-token-{len(self.issued)}")
        return self.issued[-1]

    def service_account(self, path: Path) -> Path:
        """The file of a service account whose tokens come from here; its key is made for it."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account",
            "project_id": "lab",
            "private_key_id": "key",
            "private_key": text.decode(),
            "client_email": "lab@example.org",
            "client_id": "1",
            "token_uri": f"http://{self.place}/token",
        }
        path.write_text(json.dumps(account))
        return path
