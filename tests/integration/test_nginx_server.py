"""The test nginx itself: every location does what its comment says. Other tests rely on it."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.nginx import NginxServer
from tests.support.objects import ObjectStore, ServedObject

SIZE = 3_000_001


@pytest.fixture(scope="module")
def served(make_object: Callable[..., ServedObject]) -> ServedObject:
    return make_object(SIZE, seed=7)


def fetch(nginx: NginxServer, url: str, *arguments: str, folder: Path) -> tuple[int, str, bytes]:
    """curl's exit code, the heads of all responses, and the body."""
    body, head = folder / "body", folder / "head"
    command = ["curl", "-q", "--noproxy", "*", "-s", "--cacert", str(nginx.ca_path), "-o", str(body), "-D", str(head)]
    done = subprocess.run([*command, *arguments, url], check=False)
    return done.returncode, head.read_text() if head.exists() else "", body.read_bytes() if body.exists() else b""


@pytest.mark.parametrize("tls", [False, True])
def test_plain_object_with_ranges(nginx: NginxServer, served: ServedObject, tmp_path: Path, tls: bool) -> None:
    code, head, body = fetch(nginx, nginx.url(served, tls=tls), folder=tmp_path)
    assert (code, body) == (0, served.read())
    assert f"Content-Length: {SIZE}" in head
    _, head, body = fetch(nginx, nginx.url(served, tls=tls), "-r", "1000-1999", folder=tmp_path)
    assert " 206 " in head
    assert body == served.read(1000, 2000)


def test_ranges_can_be_ignored(nginx: NginxServer, served: ServedObject, tmp_path: Path) -> None:
    _, head, body = fetch(nginx, nginx.url(served, via="no-ranges"), "-r", "5-9", folder=tmp_path)
    assert " 200 " in head
    assert body == served.read()


def test_chunked(nginx: NginxServer, served: ServedObject, tmp_path: Path) -> None:
    code, head, body = fetch(nginx, nginx.url(served, via="chunked"), folder=tmp_path)
    assert (code, body) == (0, served.read())
    assert "Transfer-Encoding: chunked" in head
    assert "Content-Length" not in head


def test_close_delimited(nginx: NginxServer, served: ServedObject, tmp_path: Path) -> None:
    code, head, body = fetch(nginx, nginx.url(served, via="close-delimited"), folder=tmp_path)
    assert (code, body) == (0, served.read())
    assert "Connection: close" in head
    assert "Content-Length" not in head
    assert "Transfer-Encoding" not in head


def test_gzip_where_accepted(nginx: NginxServer, served: ServedObject, tmp_path: Path) -> None:
    url = nginx.url(served, via="gzip")
    _, head, body = fetch(nginx, url, folder=tmp_path)
    assert "Content-Encoding" not in head
    assert body == served.read()
    _, head, body = fetch(nginx, url, "-H", "Accept-Encoding: gzip", folder=tmp_path)
    assert "Content-Encoding: gzip" in head
    assert gzip.decompress(body) == served.read()


def test_gzip_always(nginx: NginxServer, served: ServedObject, tmp_path: Path) -> None:
    coded = nginx.objects.add_gzip(served)
    arguments = ("-H", "Accept-Encoding: identity")
    _, head, body = fetch(nginx, nginx.url(served, via="gzip-always"), *arguments, folder=tmp_path)
    assert "Content-Encoding: gzip" in head
    assert f"Content-Length: {len(coded)}" in head
    assert body == coded


def test_declared_headers(nginx: NginxServer, served: ServedObject, tmp_path: Path) -> None:
    url = nginx.declared_url(
        served,
        goog_hash=f"crc32c={served.crc32c_base64},md5={served.md5_base64}",
        goog_hash2="crc32c=AAAAAA==",
        repr_digest=f"sha-256=:{served.sha256_base64}:",
        etag=served.md5_hex,
    )
    _, head, body = fetch(nginx, url, folder=tmp_path)
    assert f"x-goog-hash: crc32c={served.crc32c_base64},md5={served.md5_base64}\n" in head
    assert "x-goog-hash: crc32c=AAAAAA==\n" in head
    assert f"Repr-Digest: sha-256=:{served.sha256_base64}:\n" in head
    assert f'ETag: "{served.md5_hex}"\n' in head
    assert "Content-MD5" not in head
    assert body == served.read()
    with pytest.raises(ValueError, match="cannot be declared"):
        nginx.declared_url(served, disposition='attachment; filename="x y"')


@pytest.mark.parametrize("tls", [False, True])
def test_cut_midway(nginx: NginxServer, tmp_path: Path, tls: bool) -> None:
    served = nginx.objects.make(SIZE, seed=100 + tls)
    whole = served.read()
    url = nginx.cut_url(served, 1_000_000, tls=tls)
    for _ in range(2):
        code, head, body = fetch(nginx, url, folder=tmp_path)
        assert f"Content-Length: {SIZE}" in head
        assert code != 0
        assert 0 < len(body) <= 1_000_000
        assert whole.startswith(body)


def test_slow(nginx: NginxServer, served: ServedObject, tmp_path: Path) -> None:
    code, _, body = fetch(nginx, nginx.url(served, via="slow") + "?rate=20m", folder=tmp_path)
    assert (code, body) == (0, served.read())


@pytest.mark.parametrize("status", [403, 404, 503])
def test_statuses(nginx: NginxServer, tmp_path: Path, status: int) -> None:
    _, head, body = fetch(nginx, nginx.url(f"/status/{status}"), folder=tmp_path)
    assert f" {status} " in head
    assert b"<html>" in body


def test_no_reply(nginx: NginxServer, tmp_path: Path) -> None:
    code, head, _ = fetch(nginx, nginx.url("/no-reply"), folder=tmp_path)
    assert (code, head) == (52, "")


@pytest.mark.parametrize("via", ["redirect/relative", "redirect/absolute", "redirect/http", "redirect/https"])
@pytest.mark.parametrize("tls", [False, True])
def test_redirects(nginx: NginxServer, served: ServedObject, tmp_path: Path, via: str, tls: bool) -> None:
    mark = nginx.log.mark()
    code, head, body = fetch(nginx, nginx.url(served, via=via, tls=tls), "-L", folder=tmp_path)
    assert " 302 " in head
    assert (code, body) == (0, served.read())
    first, second = nginx.log.since(mark)
    own = "https" if tls else "http"
    assert (first.scheme, second.scheme) == (
        own,
        via.removeprefix("redirect/") if via.endswith(("http", "https")) else own,
    )
    assert second.target == served.url_path


def test_log_tells_what_was_sent(nginx: NginxServer, served: ServedObject, tmp_path: Path) -> None:
    mark = nginx.log.mark()
    url = nginx.url(served, tls=True)
    fetch(nginx, url + "?q=%2F%27+%20", "-H", "Authorization: Bearer x", "-r", "1-2", folder=tmp_path)
    fetch(nginx, url, "--next", "-s", "--cacert", str(nginx.ca_path), "-o", str(tmp_path / "2"), url, folder=tmp_path)
    first, second, third = nginx.log.since(mark)
    assert (first.method, first.target, first.version) == ("GET", served.url_path + "?q=%2F%27+%20", "HTTP/1.1")
    assert (first.status, first.range, first.authorization) == (206, "bytes=1-2", "Bearer x")
    assert (first.scheme, first.host) == ("https", f"127.0.0.1:{nginx.https_port}")
    assert first.completed
    assert second.connection == third.connection != first.connection
    assert (second.connection_requests, third.connection_requests) == (1, 2)
    assert nginx.log.since(nginx.log.mark()) == []


def test_log_has_a_client_that_left(nginx: NginxServer, served: ServedObject, tmp_path: Path) -> None:
    mark = nginx.log.mark()
    fetch(nginx, nginx.url(served, via="slow") + "?rate=1k", "--max-time", "0.2", folder=tmp_path)
    (request,) = nginx.log.since(mark)
    assert not request.completed


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = NginxServer(tmp_path / "nginx", workers=-1)
    with pytest.raises(RuntimeError, match="worker_processes"), server:
        pytest.fail("nginx started")


def test_objects_are_the_same_in_every_run(tmp_path: Path) -> None:
    first, second = ObjectStore(tmp_path / "1"), ObjectStore(tmp_path / "2")
    served = first.make(SIZE, seed=1)
    assert served is first.make(SIZE, seed=1)
    assert served.read() == second.make(SIZE, seed=1).read()
    assert served.md5_hex != first.make(SIZE, seed=2).md5_hex
    assert served.md5_hex == hashlib.md5(served.read()).hexdigest()
    assert served.read(5, 9) == served.read()[5:9]
