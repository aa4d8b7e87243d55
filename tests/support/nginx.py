"""A real nginx on free loopback ports, over HTTP and HTTPS, for tests and benchmarks. Runs as root or not."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.certificates import Authority
from tests.support.nginx_config import DECLARED_HEADERS, PRIVATE_NAME, nginx_config
from tests.support.objects import ObjectStore, ServedObject
from tests.support.request_log import RequestLog

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 20.0


class NginxServer:
    """nginx with everything it reads and writes in `folder`. Use as a context manager.

    `objects` makes the files it serves; `log` tells what was requested (only with one worker, see `RequestLog`);
    `ca_path` is the certificate authority to trust over HTTPS.
    """

    def __init__(self, folder: Path, *, workers: int = 1, log: bool = True, tcp_nopush: bool = True) -> None:
        binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if binary is None:
            raise RuntimeError("nginx is not installed: `dev_scripts/check` installs it, or `apt-get install nginx`")
        self._binary = binary
        self._folder = folder
        self._workers = workers
        self._log_requests = log
        self._tcp_nopush = tcp_nopush
        self._process: subprocess.Popen[bytes] | None = None
        self._error_log = folder / "error.log"
        authority = Authority(folder / "tls")
        self.authority = authority
        self.ca_path = authority.ca_path
        self.objects = ObjectStore(folder / "files")
        self.http_port = 0
        self.https_port = 0
        self.log = RequestLog(folder / "requests.log", 0)

    def __enter__(self) -> Self:
        # nginx takes over listening sockets named in $NGINX (its own means of upgrading a running binary). So the
        # ports are ours from the moment they are chosen, and a client that comes before nginx is ready waits in the
        # accept queue: no race for the port, and nothing to poll for.
        with socket.create_server(("127.0.0.1", 0)) as http_socket, socket.create_server(("127.0.0.1", 0)) as tls:
            self.http_port, self.https_port = http_socket.getsockname()[1], tls.getsockname()[1]
            self.log = RequestLog(self._folder / "requests.log", self.http_port)
            certificate, private = self.authority.issue(), self.authority.issue(PRIVATE_NAME)
            config = self._folder / "nginx.conf"
            config.write_text(
                nginx_config(
                    folder=self._folder,
                    http_port=self.http_port,
                    https_port=self.https_port,
                    chain=certificate.chain,
                    key=certificate.key,
                    private_chain=private.chain,
                    private_key=private.key,
                    authority=self.ca_path,
                    workers=self._workers,
                    log=self._log_requests,
                    tcp_nopush=self._tcp_nopush,
                    user="root" if os.geteuid() == 0 else None,
                )
            )
            fds = (http_socket.fileno(), tls.fileno())
            self._process = subprocess.Popen(
                [self._binary, "-p", str(self._folder), "-e", str(self._error_log), "-c", str(config)],
                env={**os.environ, "NGINX": "".join(f"{fd};" for fd in fds)},
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_ready(self) -> None:
        # Our copies of the sockets are closed: if nginx refuses its configuration and ends, this request fails too.
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=_START_TIMEOUT_S)
        try:
            connection.request("GET", "/ready")
            status = connection.getresponse().status
        except OSError as error:
            raise RuntimeError(f"nginx did not start ({error}): {self.errors()}") from error
        finally:
            connection.close()
        if status != 204:
            raise RuntimeError(f"nginx answered {status} instead of 204 to its first request: {self.errors()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End nginx and delete what it served (a run's objects may be gigabytes). Safe to call again."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            shutil.rmtree(self._folder / "files")

    def errors(self) -> str:
        """What nginx wrote to its error log."""
        return self._error_log.read_text() if self._error_log.exists() else "(no error log)"

    def url(self, target: ServedObject | str, *, tls: bool = False, via: str = "") -> str:
        """The URL of an object or a path; `via` is a location of nginx_config.py ("slow", "redirect/https")."""
        path = target if isinstance(target, str) else target.url_path
        base = f"https://127.0.0.1:{self.https_port}" if tls else f"http://127.0.0.1:{self.http_port}"
        return f"{base}{f'/{via}' if via else ''}{path}"

    def declared_url(self, target: ServedObject, *, tls: bool = False, **declared: str) -> str:
        """The URL of `target` with response headers added: keys of `DECLARED_HEADERS`, and `etag` without quotes."""
        unknown = set(declared) - set(DECLARED_HEADERS) - {"etag"}
        if unknown:
            raise ValueError(f"no declared header for {sorted(unknown)}; there are {sorted(DECLARED_HEADERS)}, etag")
        for value in declared.values():
            _require_verbatim(value)
        query = "&".join(f"{name}={value}" for name, value in declared.items())
        return f"{self.url(target, tls=tls, via='declared')}?{query}"

    def cut_url(self, target: ServedObject, kept_bytes: int, *, tls: bool = False) -> str:
        """The URL at which the whole length of `target` is promised, and the connection closed after `kept_bytes`.

        The file itself is truncated: give it an object of its own.
        """
        url = self.url(target, tls=tls, via="cut")
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=_START_TIMEOUT_S)
        try:  # this request makes nginx remember the size
            connection.request("GET", f"/cut{target.url_path}", headers={"Range": "bytes=0-0"})
            connection.getresponse().read()
        finally:
            connection.close()
        self.objects.truncate(target, kept_bytes)
        return url


def _require_verbatim(value: str) -> None:
    # nginx repeats a query argument as it stands, so it may not be percent-encoded. What base64, structured fields and
    # most file names need may stand in a query (RFC 3986, section 3.4).
    unfit = sorted({char for char in value if not (char.isascii() and (char.isalnum() or char in "-._~=+/:,;*'"))})
    if unfit:
        raise ValueError(f"{value!r} cannot be declared: {unfit} would not stand in a query as they are")
