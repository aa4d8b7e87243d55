"""Real proxies on free loopback ports: tinyproxy and squid (HTTP, squid also over TLS), microsocks (SOCKS 5)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.certificates import CertificateFiles

LOGIN = ("someone", "s3cret-w0rd")

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
_NCSA = "/usr/lib/squid/basic_ncsa_auth"


@contextlib.contextmanager
def tinyproxy(folder: Path, *, login: bool = False) -> Iterator[int]:
    """Its port."""
    port, config = free_port(), folder / "tinyproxy.conf"
    auth = f"BasicAuth {' '.join(LOGIN)}\n" if login else ""
    config.write_text(f"Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nMaxClients 50\nLogLevel Error\n{auth}")
    with _running(["tinyproxy", "-d", "-c", str(config)], port):
        yield port


@contextlib.contextmanager
def squid(_: Path, *, login: bool = False, certificate: CertificateFiles | None = None) -> Iterator[int]:
    """Its port. `certificate`: it speaks HTTP over TLS."""
    port, rules = free_port(), "http_access allow all"
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        # Where it is started as root, it becomes another user, who reads the passwords.
        folder.chmod(0o755)
        if login:
            passwords = folder / "passwords"
            run = ["openssl", "passwd", "-apr1", LOGIN[1]]
            made = subprocess.run(run, check=True, capture_output=True, text=True)
            passwords.write_text(f"{LOGIN[0]}:{made.stdout}")
            passwords.chmod(0o644)
            rules = (
                f"auth_param basic program {_NCSA} {passwords}\nauth_param basic children 1 startup=1\n"
                "acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all"
            )
        listen = f"http_port 127.0.0.1:{port}"
        if certificate is not None:
            chain, key = (Path(shutil.copy(path, folder)) for path in (certificate.chain, certificate.key))
            key.chmod(0o644)
            chain.chmod(0o644)
            listen = f"https_port 127.0.0.1:{port} tls-cert={chain} tls-key={key}"
        config = folder / "squid.conf"
        config.write_text(
            f"{listen}\ncache deny all\naccess_log none\ncache_log /dev/null\n"
            "cache_store_log none\npid_filename none\npinger_enable off\nshutdown_lifetime 0 seconds\n"
            f"visible_hostname localhost\ncoredump_dir /\n{rules}\n"
        )
        with _running(["squid", "-N", "-n", f"getm{port}", "-f", str(config)], port):
            yield port


@contextlib.contextmanager
def microsocks(folder: Path, *, login: bool = False) -> Iterator[int]:
    """Its port."""
    port = free_port()
    name, password = LOGIN
    options = ["-u", name, "-P", password] if login else []
    with _running(["microsocks", "-i", "127.0.0.1", "-p", str(port), *options], port):
        yield port


MakeProxy = Callable[..., contextlib.AbstractContextManager[int]]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    """It accepts connections at `port`, until the context ends."""
    if (program := shutil.which(command[0], path=_PATH)) is None:
        raise RuntimeError(f"{command[0]} is not installed: `dev_scripts/check` installs it")
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([program, *command[1:]], stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        while not _accepts(port):
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with status {process.returncode}")
            os.sched_yield()
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
