"""The fault server itself: right where it should be right (curl is the judge), and wrong exactly as told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from getm.testing import Excess, FaultServer, Pace, Reply, Request, failure, no_reply, redirect
from getm.testing.channel import Channel
from tests.support.certificates import Authority

BODY = hashlib.shake_256(b"fault server").digest(300_000)

# Exit codes of curl, from its manual page.
PARTIAL_FILE, PEER_FAILED_VERIFICATION, EMPTY_REPLY, RECEIVE_FAILED, TIMED_OUT = 18, 60, 52, 56, 28
CONNECT_FAILED = 7


@dataclass(frozen=True)
class Curl:
    exit_code: int
    status: int
    body: bytes
    head: str


def curl(*arguments: str, folder: Path) -> Curl:
    """Run curl on one URL, without the user's configuration file and without proxies."""
    body, head = folder / "body", folder / "head"
    for path in (body, head):
        path.unlink(missing_ok=True)
    done = subprocess.run(
        ["curl", "-q", "--noproxy", "*", "-s", "-o", str(body), "-D", str(head), "-w", "%{http_code}", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    content = body.read_bytes() if body.exists() else b""
    return Curl(done.returncode, int(done.stdout), content, head.read_text() if head.exists() else "")


# Well-behaved ---------------------------------------------------------------------------------------------------------


def test_whole_body(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    done = curl(url, folder=tmp_path)
    assert (done.exit_code, done.status, done.body) == (0, 200, BODY)
    assert f"Content-Length: {len(BODY)}" in done.head
    assert fault_server.requests[0].wait_ended() == "sent"
    assert fault_server.requests[0].sent_bytes == len(BODY)


def test_whole_body_over_tls(tls_fault_server: FaultServer, ca_path: Path, tmp_path: Path) -> None:
    url = tls_fault_server.serve("/x", Reply(body=BODY))
    done = curl("--cacert", str(ca_path), url, folder=tmp_path)
    assert (done.exit_code, done.status, done.body) == (0, 200, BODY)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("0-0", 0, 1),
        ("1000-1999", 1000, 2000),
        ("299999-", 299_999, 300_000),
        ("-5", 299_995, 300_000),
        ("9-999999", 9, 300_000),
    ],
)
def test_ranges(fault_server: FaultServer, tmp_path: Path, asked: str, start: int, stop: int) -> None:
    done = curl("-r", asked, fault_server.serve("/x", Reply(body=BODY)), folder=tmp_path)
    assert (done.exit_code, done.status, done.body) == (0, 206, BODY[start:stop])
    assert f"Content-Range: bytes {start}-{stop - 1}/300000" in done.head


def test_range_beyond_the_end(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    done = curl("-r", "300000-", url, folder=tmp_path)
    assert (done.status, done.body) == (416, b"")
    assert "Content-Range: bytes */300000" in done.head


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ('If-Range: "v1"', 206),
        ('If-Range: "v2"', 200),
        ('If-Range: W/"v1"', 200),
        ("If-Range: Tue, 01 Jul 2025 00:00:00 GMT", 206),
        ('If-Match: "v1"', 206),
        ('If-Match: "v2"', 412),
    ],
)
def test_conditions(fault_server: FaultServer, tmp_path: Path, header: str, status: int) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    done = curl("-r", "5-9", "-H", header, url, folder=tmp_path)
    assert done.status == status
    assert done.body == {206: BODY[5:10], 200: BODY, 412: b""}[status]


def test_head_has_no_body(fault_server: FaultServer, tmp_path: Path) -> None:
    done = curl("-I", fault_server.serve("/x", Reply(body=BODY)), folder=tmp_path)
    assert (done.exit_code, done.status) == (0, 200)
    assert "Content-Length: 300000" in done.head


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("body", [BODY, b"x", b""], ids=["300000", "1", "0"])
def test_bodies_of_unknown_length(
    tls_fault_server: FaultServer, ca_path: Path, tmp_path: Path, framing: str, body: bytes
) -> None:
    reply = Reply(body=body, framing="chunked" if framing == "chunked" else "close")
    done = curl("--cacert", str(ca_path), tls_fault_server.serve("/x", reply), folder=tmp_path)
    assert (done.exit_code, done.status, done.body) == (0, 200, body)
    assert "Content-Length" not in done.head


def test_connection_is_kept_and_target_is_recorded_as_sent(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/a%2Fb", Reply(body=BODY))
    other = fault_server.url("/none?q=%27+%20%2B")
    curl(url, "--next", "-s", "-o", str(tmp_path / "other"), other, folder=tmp_path)
    first, second = fault_server.requests
    assert (first.connection, second.connection) == (0, 0)
    assert (first.target, second.target) == (b"/a%2Fb", b"/none?q=%27+%20%2B")
    assert first.header("host") == f"127.0.0.1:{fault_server.port}"


def test_redirect_between_two_ports(fault_server: FaultServer, tmp_path: Path) -> None:
    with FaultServer() as other:
        url = fault_server.serve("/from", redirect(other.serve("/to", Reply(body=BODY))))
        done = curl("-L", url, folder=tmp_path)
    assert (done.exit_code, done.body) == (0, BODY)
    assert [request.path for request in other.requests] == ["/to"]


def test_a_signed_url_that_runs_out(fault_server: FaultServer, tmp_path: Path) -> None:
    """As stores do it: the origin signs a new URL for each request, and an old one is refused."""
    fault_server.serve("/signed/1", Reply(body=BODY), failure(403))
    fault_server.serve("/signed/2", Reply(body=BODY))
    url = fault_server.serve("/origin", redirect("/signed/1"), redirect("/signed/2"))
    signed = fault_server.url("/signed/1")
    assert [curl(each, "-L", folder=tmp_path).status for each in (url, signed, url)] == [200, 403, 200]


def test_an_object_that_is_replaced(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY), Reply(body=BODY[::-1], etag='"v2"'))
    condition = ("-H", 'If-Range: "v1"', "-r", "100-199")
    first, second = (curl(*condition, url, folder=tmp_path) for _ in range(2))
    assert (first.status, first.body) == (206, BODY[100:200])
    assert (second.status, second.body) == (200, BODY[::-1])
    refused = curl("-H", 'If-Match: "v1"', url, folder=tmp_path)
    assert (refused.status, refused.body) == (412, b"")


def test_a_reply_that_comes_late(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, delay_s=5), Reply(body=BODY, delay_s=0.01))
    assert curl("--max-time", "0.2", url, folder=tmp_path).exit_code == TIMED_OUT
    assert fault_server.wait_for_requests(1)[0].wait_ended() == "client left"
    assert curl(url, folder=tmp_path).body == BODY


def test_steps_in_turn_and_replies_by_request(fault_server: FaultServer, tmp_path: Path) -> None:
    def by_token(request: Request) -> Reply:
        return Reply(body=BODY) if request.target.endswith(b"?token=2") else failure(403)

    url = fault_server.serve("/x", failure(503, retry_after="7"), by_token)
    first = curl(url, folder=tmp_path)
    assert first.status == 503
    assert "Retry-After: 7" in first.head
    assert curl(f"{url}?token=1", folder=tmp_path).status == 403
    assert curl(f"{url}?token=2", folder=tmp_path).body == BODY


# Misbehaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("cut_at", [0, 1, 65_536, 299_999])
def test_cut(fault_server: FaultServer, tmp_path: Path, framing: str, cut_at: int) -> None:
    reply = Reply(body=BODY, framing="chunked" if framing == "chunked" else "length", cut_at=cut_at)
    done = curl(fault_server.serve("/x", reply), folder=tmp_path)
    assert (done.exit_code, done.body) == (PARTIAL_FILE, BODY[:cut_at])
    assert fault_server.requests[0].wait_ended() == "cut"


def test_cut_of_a_chunked_body_after_its_last_byte(fault_server: FaultServer, tmp_path: Path) -> None:
    done = curl(fault_server.serve("/x", Reply(body=BODY, framing="chunked", cut_at=len(BODY))), folder=tmp_path)
    assert (done.exit_code, done.body) == (PARTIAL_FILE, BODY)


@pytest.mark.parametrize("cut", [False, True])
def test_a_cut_over_tls_has_no_farewell(tls_fault_server: FaultServer, ca_path: Path, cut: bool) -> None:
    # curl takes both ends for the same, so a bare client tells them apart.
    tls_fault_server.serve("/x", Reply(body=BODY, framing="close", cut_at=1000 if cut else None))
    context = ssl.create_default_context(cafile=str(ca_path))
    # Python over OpenSSL 3 asks not to be told; the option does not exist before.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    with (
        socket.create_connection(("127.0.0.1", tls_fault_server.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as client,
    ):
        client.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        with pytest.raises(ssl.SSLError, match=r"(?i)eof") if cut else contextlib.nullcontext():
            while block := client.recv(65_536):
                received += block
    assert received.endswith(BODY[:1000] if cut else BODY)


def test_reset(fault_server: FaultServer, tmp_path: Path) -> None:
    done = curl(fault_server.serve("/x", Reply(body=BODY, cut_at=1000, then="reset")), folder=tmp_path)
    assert done.exit_code == RECEIVE_FAILED
    assert BODY.startswith(done.body)


def test_kept_alive_connection_given_up(fault_server: FaultServer, tmp_path: Path) -> None:
    first = fault_server.serve("/first", Reply(body=BODY))
    second = fault_server.serve("/second", no_reply("reset"), Reply(body=BODY))
    done = curl(first, "--next", "-s", "-o", str(tmp_path / "second"), second, folder=tmp_path)
    assert done.exit_code == 0  # curl itself repeats a request on a new connection if a reused one gives no byte
    assert [(r.path, r.connection) for r in fault_server.requests] == [("/first", 0), ("/second", 0), ("/second", 1)]


def test_no_reply(fault_server: FaultServer, tmp_path: Path) -> None:
    assert curl(fault_server.serve("/x", no_reply("close")), folder=tmp_path).exit_code == EMPTY_REPLY


def test_wrong_span(fault_server: FaultServer, tmp_path: Path) -> None:
    done = curl("-r", "0-9", fault_server.serve("/x", Reply(body=BODY, span=(10, 20))), folder=tmp_path)
    assert (done.status, done.body) == (206, BODY[10:20])
    assert "Content-Range: bytes 10-19/300000" in done.head


def test_range_ignored(fault_server: FaultServer, tmp_path: Path) -> None:
    done = curl("-r", "0-9", fault_server.serve("/x", Reply(body=BODY, ranges=False)), folder=tmp_path)
    assert (done.status, done.body) == (200, BODY)


def test_one_bit_flipped(fault_server: FaultServer, tmp_path: Path) -> None:
    done = curl("-r", "100-", fault_server.serve("/x", Reply(body=BODY, flip_bit=150 * 8 + 3)), folder=tmp_path)
    assert [i for i, (sent, true) in enumerate(zip(done.body, BODY[100:], strict=True)) if sent != true] == [50]
    assert done.body[50] ^ BODY[150] == 1 << 3


def test_headers_replaced_repeated_and_removed(fault_server: FaultServer, tmp_path: Path) -> None:
    headers = {"content-length": ["5", "6"], "ETag": None, "X-Wide": "w" * 50_000}
    done = curl(
        "--ignore-content-length", fault_server.serve("/x", Reply(headers=headers, then="close")), folder=tmp_path
    )
    assert done.head.count("content-length: ") == 2
    assert "ETag" not in done.head
    assert "w" * 50_000 in done.head


def test_raw_bytes(fault_server: FaultServer, tmp_path: Path) -> None:
    raw = b"HTTP/1.1 200 Fine\r\nContent-Length: 3\r\n\r\nabc"
    done = curl(fault_server.serve("/x", Reply(raw=raw)), folder=tmp_path)
    assert (done.exit_code, done.body) == (0, b"abc")


def test_stall_until_the_gate_opens(tls_fault_server: FaultServer, ca_path: Path, tmp_path: Path) -> None:
    held, stalled = tls_fault_server.gate(), tls_fault_server.gate()
    url = tls_fault_server.serve("/x", Reply(body=BODY, hold=held, stall_at=1000, gate=stalled))
    out = tmp_path / "out"
    process = subprocess.Popen(["curl", "-q", "-s", "-N", "--cacert", str(ca_path), "-o", str(out), url])
    held.wait_reached()
    assert tls_fault_server.requests[0].outcome == "open"
    held.open()
    stalled.wait_reached()
    assert tls_fault_server.requests[0].sent_bytes == 1000
    stalled.open()
    assert process.wait() == 0
    assert out.read_bytes() == BODY


def test_client_that_leaves_a_stall_is_noticed(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, stall_at=0, gate=fault_server.gate()))
    assert curl("--max-time", "0.2", url, folder=tmp_path).exit_code == TIMED_OUT
    assert fault_server.wait_for_requests(1)[0].wait_ended() == "client left"


def test_endless_body_ends_when_the_client_leaves(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, framing="chunked", endless=True))
    done = subprocess.run(f"curl -q -s {url} | head -c 1000000", shell=True, stdout=subprocess.PIPE, check=True)
    assert done.stdout == (BODY * 4)[:1_000_000]
    assert fault_server.requests[0].wait_ended() == "client left"


def test_raw_bytes_without_end(fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n", body=BODY, endless=True))
    done = subprocess.run(f"curl -q -s {url} | head -c 1000000", shell=True, stdout=subprocess.PIPE, check=True)
    assert done.stdout == (BODY * 4)[:1_000_000]


def test_pace_gives_every_byte(fault_server: FaultServer, tmp_path: Path) -> None:
    done = curl(fault_server.serve("/x", Reply(body=BODY[:50], pace=Pace(10, 0.01))), folder=tmp_path)
    assert (done.exit_code, done.body) == (0, BODY[:50])


@pytest.mark.parametrize("fault", ["expired", "wrong host", "unknown authority"])
def test_bad_certificates(authority: Authority, tmp_path: Path, fault: str) -> None:
    issuer = Authority(tmp_path / "other") if fault == "unknown authority" else authority
    names = ("elsewhere.test",) if fault == "wrong host" else ()
    context: ssl.SSLContext = issuer.issue(*names, expired=fault == "expired").server_context()
    with FaultServer(tls=context) as server:
        done = curl("--cacert", str(authority.ca_path), server.serve("/x", Reply(body=BODY)), folder=tmp_path)
        assert done.exit_code == PEER_FAILED_VERIFICATION
    assert server.requests == []


def test_an_error_in_a_script_is_raised() -> None:
    def broken(request: Request) -> Reply:
        raise LookupError("no such object")

    with pytest.raises(LookupError, match="no such object"), FaultServer() as server:
        subprocess.run(["curl", "-q", "-s", server.serve("/x", broken)], check=False)


# Limits, gates, and what stands around a body -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("excess", "exit_code"), [("close", EMPTY_REPLY), ("reset", RECEIVE_FAILED), ("refuse", CONNECT_FAILED)]
)
def test_a_limit_of_connections(excess: Excess, exit_code: int, fault_server: FaultServer, tmp_path: Path) -> None:
    gate = fault_server.gate()
    held, free = fault_server.serve("/held", Reply(body=BODY, hold=gate)), fault_server.serve("/free", Reply(body=BODY))
    fault_server.limit(1, excess)
    with socket.create_connection(("127.0.0.1", fault_server.port)) as first:
        first.sendall(b"GET /held HTTP/1.1\r\nConnection: close\r\n\r\n")
        gate.wait_reached()
        assert curl(free, folder=tmp_path).exit_code in (exit_code, RECEIVE_FAILED, CONNECT_FAILED)
        gate.open()
        while first.recv(65536):
            pass
    fault_server.limit(None)
    assert curl("--retry", "5", "--retry-all-errors", "--retry-delay", "1", free, folder=tmp_path).body == BODY
    assert [request.path for request in fault_server.requests] == [urlsplit(held).path, urlsplit(free).path]


def test_gates_let_the_body_through_bit_by_bit(fault_server: FaultServer) -> None:
    first, second = fault_server.gate(), fault_server.gate()
    fault_server.serve("/x", Reply(body=b"aabbcc", gates={2: first, 4: second}, then="close"))
    with socket.create_connection(("127.0.0.1", fault_server.port)) as client:
        client.sendall(b"GET /x HTTP/1.1\r\n\r\n")
        came = b""
        for gate, so_far in ((first, b"aa"), (second, b"aabb")):
            gate.wait_reached()
            while not came.endswith(so_far):
                came += client.recv(65536)
            assert came.partition(b"\r\n\r\n")[2] == so_far
            gate.open()
        while data := client.recv(65536):
            came += data
    assert came.endswith(b"\r\n\r\naabbcc")


def test_bytes_beyond_the_body_and_any_reason(fault_server: FaultServer) -> None:
    fault_server.serve("/x", Reply(body=b"body", extra=b" and more", reason="Non trouv\xe9", then="close"))
    with socket.create_connection(("127.0.0.1", fault_server.port)) as client:
        client.sendall(b"GET /x HTTP/1.1\r\n\r\n")
        came = b"".join(iter(lambda: client.recv(65536), b""))
    assert came.startswith(b"HTTP/1.1 200 Non trouv\xe9\r\n") and b"Content-Length: 4\r\n" in came
    assert came.endswith(b"\r\n\r\nbody and more")


async def test_what_comes_at_the_moment_when_a_wait_for_it_ends_is_not_lost() -> None:
    """A request that was sent early, while the reply before it was paced, would never be answered."""
    ours, theirs = socket.socketpair()
    also_ours, also_theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    with ours, theirs, also_ours, also_theirs:
        for each in (ours, also_ours):
            each.setblocking(False)
        channel = Channel(ours)
        waiting = asyncio.ensure_future(channel.readable())
        await asyncio.sleep(0)
        # Both are seen in one turn of the loop: the wait has its answer, and is cancelled before it learns of it.
        loop.add_reader(also_ours, waiting.cancel)
        theirs.send(b"GET")
        also_theirs.send(b"x")
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        loop.remove_reader(also_ours)
        assert await channel.recv() == b"GET"
