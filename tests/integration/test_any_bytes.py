"""Whatever bytes a server, a proxy or this machine's environment has in the place of text: a value or a typed error,
never a transfer that does not end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import getm
from getm import errors
from getm.core.head import ResponseHead
from getm.core.version import Version
from getm.integrity.verdict import unverified
from getm.protocol.messages import EndInfo, HeadInfo, NoteInfo
from getm.testing import FaultServer, Reply
from tests.support import command

BODY = bytes(range(256)) * 64
MODES = (1, 3, None)
PHRASES = (
    b"Non trouv\xe9",
    "Nicht gefunden → größer".encode(),
    b"\xff\xfe\x80\xed\xa0\x80",
    b"\xf0\x9f\x92\xa9 \xe2\x80\xae",
    b"\x1b[31mred",
    b"",
    b"x" * 60_000,
)
each_mode = pytest.mark.parametrize("concurrency", MODES)
# Short: what hangs must not hang the suite.
hangs = pytest.mark.deadline(20)


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


def answer(status: int, phrase: bytes, *fields: bytes, body: bytes = BODY) -> Reply:
    lines = [b"HTTP/1.1 %d %b" % (status, phrase), *fields, b"Content-Length: %d" % len(body), b"", b""]
    return Reply(raw=b"\r\n".join(lines), body=body, then="close")


@hangs
@each_mode
@pytest.mark.parametrize("phrase", PHRASES)
def test_case_1_a_status_line_of_any_bytes(
    phrase: bytes, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/404", answer(404, phrase))
    with pytest.raises(errors.HTTPStatusError, match="404") as caught:
        session.read(url, concurrency=concurrency)
    told = (caught.value.reason or "") + caught.value.message
    told.encode()
    assert "\x1b" not in told and len(told) < 1000
    assert session.read(fault_server.serve("/200", answer(200, phrase)), concurrency=concurrency) == BODY
    fault_server.serve("/302", answer(302, phrase, b"Location: /200", body=b""))
    assert session.read(fault_server.url("/302"), concurrency=concurrency) == BODY


@hangs
def test_case_1_what_is_retried_for_such_a_status_is_told(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", answer(503, b"Indispon\xedvel"), answer(503, b"\xff"), answer(200, b"\xfe"))
    with session.urlopen(url, retries=getm.Retries(2, base_s=0)) as fh:
        assert fh.read() == BODY
        assert fh.stats.retries == {"status": 2}


@hangs
@each_mode
@pytest.mark.parametrize("tls", (False, True))
def test_case_1_a_proxy_whose_phrase_is_not_utf_8(
    tls: bool,
    concurrency: int | None,
    session: getm.Session,
    fault_server: FaultServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheme = "https" if tls else "http"
    monkeypatch.setenv(f"{scheme}_proxy", fault_server.url())
    monkeypatch.delenv("no_proxy", raising=False)
    refused = answer(403, b"Acc\xe8s refus\xe9")
    fault_server.serve("data.example:443", refused)
    fault_server.serve("http://data.example/x", refused)
    with pytest.raises(errors.NetworkError, match="403 Accès refusé"):
        session.read(f"{scheme}://data.example/x", concurrency=concurrency)


@hangs
@pytest.mark.parametrize("concurrency", (1, None))
@pytest.mark.parametrize(
    "name", ("ETag", "Last-Modified", "Content-Disposition", "Server", "x-goog-hash", "Retry-After")
)
def test_case_1_header_fields_of_any_bytes(
    name: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    for value in (b'"\xe9"', b"\xff\xfe", b"attachment; filename=\xed\xa0\x80", "→".encode(), bytes(range(128, 256))):
        url = fault_server.serve("/x", answer(200, b"OK", name.encode() + b": " + value))
        with session.urlopen(url, concurrency=concurrency) as fh:
            assert fh.read() == BODY
            assert fh.headers[name].encode() in (value, value.decode("latin-1").encode())
        assert session.download(url, tmp_path, concurrency=concurrency).path.read_bytes() == BODY
        with pytest.raises(errors.HTTPStatusError):
            fault_server.serve("/y", answer(404, b"Not Found", name.encode() + b": " + value))
            session.read(fault_server.url("/y"), concurrency=concurrency)


@hangs
@pytest.mark.parametrize("concurrency", (1, 3))
def test_case_1_an_entity_tag_beyond_ascii_joins_nothing(
    concurrency: int, session: getm.Session, fault_server: FaultServer
) -> None:
    """Which bytes it was made of is not known any more, so it cannot go back in If-Range."""
    body = bytes(9_000_000)
    served = Reply(body=body, etag='"\xe9"', last_modified=None)
    assert session.read(fault_server.serve("/x", served), concurrency=concurrency) == body
    assert all(request.header("If-Range") is None for request in fault_server.requests)


@hangs
@each_mode
@pytest.mark.parametrize(
    "garbage", (b"\xff" * 1000, b"\x00\r\n\r\n", b"HTTP/1.1 200\xe9 OK\r\n\r\n", b"SSH-2.0-\xe9\r\n")
)
def test_case_1_what_is_no_http_at_all(
    garbage: bytes, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(raw=garbage, then="close"))
    with pytest.raises(errors.BadResponse) as caught:
        session.read(url, concurrency=concurrency)
    caught.value.message.encode()


@hangs
def test_case_1_the_command_ends_with_the_status(fault_server: FaultServer, tmp_path: Path) -> None:
    run = command.getm(fault_server.serve("/x", answer(404, b"Non trouv\xe9")), cwd=tmp_path)
    facts = command.failure(run)
    assert (run.returncode, facts["status_code"], facts["reason"]) == (8, 404, "Non trouvé")


@hangs
@pytest.mark.parametrize("kind", ("head", "note", "end", "error", "bug"))
def test_case_1_what_cannot_be_encoded_still_ends_the_transfer(
    kind: str,
    session: getm.Session,
    fault_server: FaultServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever it is: a text that nobody thought of must not kill the task that would have ended the transfer."""
    # It is logged, and pytest-xdist cannot pass on what was logged.
    caplog.set_level(logging.CRITICAL + 1, "getm")
    bad = "Acc\udce8s"

    async def run(fetch: Any) -> None:
        connection, number = fetch._connection, fetch._number
        if kind == "error":
            raise errors.BadResponse(bad, url=bad)
        if kind == "bug":
            raise RuntimeError(bad)
        if kind == "note":
            connection.note(number, NoteInfo(bad, 1, 0.0, bad))
        connection.head(number, HeadInfo(ResponseHead(200, bad if kind == "head" else "http://x/"), Version(0)))
        connection.end(number, EndInfo(0, unverified(bad), fetch.stats()))

    monkeypatch.setattr("getm.engine.fetch.Fetch.run", run)
    with pytest.raises(errors.GetmError):
        session.read(fault_server.url(), concurrency=None)
