"""Downloads that other tools finish, and transfers that a server's refusal must not end while bytes can be had."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import getm
from getm import errors
from getm.integrity.files import checksum
from getm.testing import Excess, FaultServer, Pace, Reply, Request, failure, no_reply
from tests.support import ways

MIB = 1024 * 1024
PART = 8 * MIB
BODY = random.Random(20).randbytes(3 * PART + 12345)
SMALL = BODY[:300_000]
RETRIES = getm.Retries(2, base_s=0.001, cap_s=0.01)
# What was given out of a larger object before its connection broke.
GIVEN_OUT = 3 * MIB

each_stream = pytest.mark.parametrize("way", ways.STREAMS)


def cases(first: str, everything: Iterable[Any], others: Iterable[str], some: Iterable[Any]) -> list[tuple[str, Any]]:
    """`first` with everything, and the other ways, which lead to the same code, with some of it."""
    return [*itertools.product((first,), everything), *itertools.product(others, some)]


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=RETRIES, timeout=getm.Timeout(connect_s=5, stall_s=10))


def ranged(request: Request) -> bool:
    return request.header("Range") is not None


def first_then(first: Reply, then: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
    """`first` to the first request, whatever it is."""
    numbers = itertools.count()
    return lambda request: first if next(numbers) == 0 else then(request)


# Case 20: a lost connection without a strong validator --------------------------------------------------------------

WITHOUT_STRONG_VALIDATOR = {
    "no validator": Reply(etag=None, last_modified=None),
    "weak ETag": Reply(etag='W/"v1"', last_modified=None),
    "Last-Modified without Date": Reply(etag=None),
    "chunked, with ETag": Reply(framing="chunked"),
    "chunked, nothing": Reply(framing="chunked", etag=None, last_modified=None),
}
each_weak = pytest.mark.parametrize("kind", WITHOUT_STRONG_VALIDATOR)


def lossy(kind: str, body: bytes, at: int, times: int, *, reset: bool = False) -> Callable[[Request], Reply]:
    """The reply of that kind; its connection is lost after `at` bytes for the first `times` requests."""
    good = dataclasses.replace(WITHOUT_STRONG_VALIDATOR[kind], body=body)
    lost = dataclasses.replace(good, cut_at=at, then="reset" if reset else "keep")
    numbers = itertools.count()
    return lambda request: lost if next(numbers) < times else good


@pytest.mark.parametrize(
    ("way", "kind"), cases("download", WITHOUT_STRONG_VALIDATOR, ways.FILES[1:], ("weak ETag", "chunked, nothing"))
)
def test_case_20_a_file_begins_from_the_start(
    way: str, kind: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", lossy(kind, BODY, len(BODY) // 2, 1))
    assert ways.file(way, session, url, tmp_path / "to").data == BODY
    assert len(fault_server.requests) == 2


@pytest.mark.parametrize("concurrency", (4, None))
@each_weak
def test_case_20_in_each_mode(
    kind: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", lossy(kind, BODY, len(BODY) // 2, 2))
    assert ways.file("download", session, url, tmp_path / "to", concurrency=concurrency).data == BODY


@each_weak
def test_case_20_a_reset_is_a_lost_connection_too(
    kind: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", lossy(kind, BODY, len(BODY) // 2, 1, reset=True))
    assert ways.file("download", session, url, tmp_path / "to").data == BODY


def test_case_20_silence_is_a_lost_connection_too(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    never = fault_server.gate()
    silent = Reply(body=BODY, etag=None, last_modified=None, stall_at=MIB + 5, gate=never)
    url = fault_server.serve("/x", silent, Reply(body=BODY, etag=None, last_modified=None))
    limits = getm.Timeout(connect_s=5, stall_s=0.5)
    assert ways.file("download", session, url, tmp_path / "to", timeout=limits).data == BODY


@pytest.mark.parametrize(
    ("way", "kind"), cases("download", WITHOUT_STRONG_VALIDATOR, ways.FILES[1:], ("no validator",))
)
@pytest.mark.parametrize(("retries", "lost"), [(0, 1), (2, 3)])
def test_case_20_retries_are_honoured(
    way: str, kind: str, retries: int, lost: int, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    # Fewer bytes than what counts as progress.
    url = fault_server.serve("/x", lossy(kind, SMALL, 1000, lost))
    outcome = ways.file(way, session, url, tmp_path / "to", retries=retries)
    assert isinstance(outcome.error, errors.NetworkError)
    assert len(fault_server.requests) == lost == retries + 1
    assert ways.file(way, session, url, tmp_path / "to", retries=retries).data == SMALL


def test_case_20_a_server_that_always_breaks_off_half_way_is_given_up(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", lossy("no validator", BODY, len(BODY) // 2, 1000))
    outcome = ways.file("download", session, url, tmp_path / "to", retries=2)
    assert isinstance(outcome.error, errors.NetworkError)
    assert 2 <= len(fault_server.requests) <= 3


@each_weak
@each_stream
def test_case_20_a_stream_of_which_nothing_was_given_out_begins_from_the_start(
    way: str, kind: str, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", lossy(kind, SMALL, 5000 if way == "read" else 0, 1))
    assert ways.stream(way, session, url).data == SMALL
    assert len(fault_server.requests) == 2


@each_weak
def test_case_20_a_long_read_is_nothing_given_out(kind: str, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", lossy(kind, BODY, len(BODY) // 2, 1))
    assert ways.stream("read", session, url).data == BODY


@each_weak
@each_stream
def test_case_20_two_responses_are_never_joined_in_a_stream(
    way: str, kind: str, session: getm.Session, fault_server: FaultServer
) -> None:
    if way == "read":
        pytest.skip("gives out all or nothing")
    url = fault_server.serve("/x", lossy(kind, BODY, len(BODY) // 2, 1))
    outcome = ways.stream(way, session, url)
    assert outcome.holds_only(BODY)
    if outcome.error is None:
        assert outcome.data == BODY
    else:
        assert isinstance(outcome.error, errors.NetworkError) and outcome.count < len(BODY)


def test_case_20_parts_that_break_off_after_a_few_bytes_do_not_keep_each_other_alive(
    shared_session: Callable[..., getm.Session], fault_server: FaultServer
) -> None:
    """Each of several parts gets something all the time, and none gets on: it would take thousands of requests."""
    url = fault_server.serve("/x", Reply(body=BODY[: 2 * PART], cut_at=245))
    session = shared_session(processes=2, retries=getm.Retries(5, base_s=0.02, cap_s=0.1))
    with pytest.raises(errors.GetmError):
        session.read(url, concurrency=2, timeout=getm.Timeout(total_s=20))
    assert len(fault_server.requests) <= 20


# Case 21: a resume that the server refuses --------------------------------------------------------------------------

REFUSED_RESUMES: dict[str, Callable[[bytes], Reply]] = {
    "200 with the same ETag": lambda body: Reply(body=body, ranges=False),
    "200 without a validator": lambda body: Reply(body=body, ranges=False, etag=None, last_modified=None),
    "200, chunked": lambda body: Reply(body=body, ranges=False, framing="chunked"),
    "206 of everything": lambda body: Reply(body=body, span=(0, len(body))),
    "206 without Content-Range": lambda body: Reply(body=body, headers={"Content-Range": None}),
    "206 whose Content-Range makes no sense": lambda body: Reply(body=body, headers={"Content-Range": "bytes x"}),
    "206 of another place": lambda body: Reply(body=body, span=(7, len(body))),
    "multipart": lambda body: Reply(
        body=body, headers={"Content-Range": None, "Content-Type": "multipart/byteranges; boundary=x"}
    ),
    "416": lambda body: failure(416),
    "416 with the size": lambda body: Reply(status=416, etag='"v1"', headers={"Content-Range": f"bytes */{len(body)}"}),
    "412": lambda body: failure(412),
    **{str(status): (lambda body, status=status: failure(status)) for status in (400, 403, 404, 405, 500, 501, 503)},  # type: ignore[misc]  # a lambda's default has no type
    "closed without a reply": lambda body: no_reply("close"),
}
# One of each kind: a whole 200, a 206 that is not the rest, statuses about the range, the version, the object and the
# server's moment, and none.
SOME_REFUSALS = (
    "200 with the same ETag",
    "206 of everything",
    "416 with the size",
    "412",
    "403",
    "503",
    "closed without a reply",
)
each_concurrency = pytest.mark.parametrize("concurrency", (1, 4))


def refusing(refusal: str, body: bytes) -> Callable[[Request], Reply]:
    """Whole for a request without Range; every Range is refused."""
    refused, whole = REFUSED_RESUMES[refusal](body), Reply(body=body)
    return lambda request: refused if ranged(request) else whole


@each_concurrency
@pytest.mark.parametrize(
    ("way", "refusal"), [*cases("download", REFUSED_RESUMES, ("read",), REFUSED_RESUMES), ("download_all", "403")]
)
def test_case_21_what_broke_off_begins_from_the_start(
    way: str, refusal: str, concurrency: int, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    cut = Reply(body=BODY, cut_at=PART // 2)
    url = fault_server.serve("/x", first_then(cut, refusing(refusal, BODY)))
    if way == "read":
        outcome = ways.stream(way, session, url, concurrency=concurrency)
        if refusal == "412" and outcome.error is not None:
            # It says that the object is another one: who reads is told so.
            assert isinstance(outcome.error, errors.RemoteChanged)
            return
    else:
        outcome = ways.file(way, session, url, tmp_path / "to", concurrency=concurrency)
    assert outcome.data == BODY
    # Not asked for from the start more often than need be.
    assert sum(not ranged(request) for request in fault_server.requests) <= 2


@pytest.mark.parametrize("refusal", SOME_REFUSALS)
@pytest.mark.parametrize("way", ("adownload", "command"))
def test_case_21_by_the_command_and_in_asyncio(
    way: str, refusal: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    cut = Reply(body=BODY, cut_at=PART // 2)
    url = fault_server.serve("/x", first_then(cut, refusing(refusal, BODY)))
    assert ways.file(way, session, url, tmp_path / "to").data == BODY


@pytest.mark.parametrize(
    ("way", "refusal"),
    [
        *cases("read", REFUSED_RESUMES, ("iter_content",), REFUSED_RESUMES),
        *itertools.product((way for way in ways.STREAMS if way not in ("read", "iter_content")), SOME_REFUSALS),
    ],
)
def test_case_21_a_stream_never_gets_wrong_bytes(
    way: str, refusal: str, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", first_then(Reply(body=BODY, cut_at=PART // 2), refusing(refusal, BODY)))
    outcome = ways.stream(way, session, url, concurrency=1)
    assert outcome.holds_only(BODY)
    if outcome.error is None:
        assert outcome.data == BODY
    elif refusal == "412":
        assert isinstance(outcome.error, errors.RemoteChanged)
    else:
        # Something was given out: a read of all begins from the start.
        assert way != "read" and 0 < outcome.count < len(BODY)
        assert isinstance(outcome.error, errors.NetworkError)


@pytest.mark.parametrize(
    ("way", "refusal", "concurrency"),
    [
        *itertools.product(("download",), REFUSED_RESUMES, (1, 4)),
        *zip(itertools.repeat("command"), SOME_REFUSALS, itertools.cycle((1, 4))),
    ],
)
def test_case_21_the_next_run_after_a_failed_one(
    way: str, refusal: str, concurrency: int, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", first_then(Reply(body=BODY, cut_at=PART // 2), lambda request: failure(503)))
    failed = ways.file(way, session, url, tmp_path / "to", retries=0, concurrency=concurrency)
    assert isinstance(failed.error, errors.NetworkError)
    assert any(path.name.endswith("getm-part") for path in (tmp_path / "to").iterdir())
    fault_server.serve("/x", refusing(refusal, BODY))
    assert ways.file(way, session, url, tmp_path / "to", concurrency=concurrency).data == BODY


@each_concurrency
def test_case_21_the_next_run_meets_the_standard_library_s_server(
    concurrency: int, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """It ignores Range, and sends no ETag."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "x").write_bytes(BODY)
    os.utime(root / "x", (1751328000, 1751328000))
    cut = Reply(body=BODY, etag=None, headers={"Date": "Wed, 01 Jul 2026 00:00:00 GMT"}, cut_at=PART // 2)
    url = fault_server.serve("/x", cut)
    failed = ways.file("download", session, url, tmp_path / "to", retries=0, concurrency=concurrency)
    assert isinstance(failed.error, errors.NetworkError)
    with http_server(root) as base:
        outcome = ways.file("download", session, f"{base}/x", tmp_path / "to", concurrency=concurrency)
    assert outcome.data == BODY


@contextmanager
def http_server(root: Path) -> Iterator[str]:
    """`python -m http.server`; its URL without a slash at the end."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"port (\d+)", server.stdout.readline())
            assert found is not None
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            server.kill()


# Case 22: servers that refuse ranges ---------------------------------------------------------------------------------


def _over_5_mib(request: Request) -> bool:
    first, _, last = (request.header("Range") or "bytes=0-0").removeprefix("bytes=").partition("-")
    return not last or int(last) - int(first) >= 5 * MIB


REFUSED_RANGES: dict[str, Callable[[Request], Reply]] = {
    **{
        str(status): (lambda request, status=status: failure(status) if ranged(request) else Reply(body=BODY))  # type: ignore[misc]  # a lambda's default has no type
        for status in (400, 403, 404, 405, 406, 416, 500, 501, 503)
    },
    "403 over 5 MiB": lambda request: failure(403) if ranged(request) and _over_5_mib(request) else Reply(body=BODY),
    "206 of everything": lambda request: Reply(body=BODY, span=(0, len(BODY))) if ranged(request) else Reply(body=BODY),
    "206 without Content-Range": lambda request: Reply(body=BODY, headers={"Content-Range": None}),
    "200 whenever If-Range is sent": lambda request: Reply(body=BODY, ranges=request.header("If-Range") is None),
    "closed": lambda request: no_reply("close") if ranged(request) else Reply(body=BODY),
    **{
        f"{status} from the second part on": (
            lambda request, status=status: (
                failure(status)  # type: ignore[misc]  # a lambda's default has no type
                if ranged(request) and not (request.header("Range") or "").startswith("bytes=0-")
                else Reply(body=BODY)
            )
        )
        for status in (403, 416, 503)
    },
}
SOME_SERVERS = ("404", "503", "403 over 5 MiB", "206 of everything", "closed", "416 from the second part on")


@pytest.mark.parametrize(
    ("way", "server"), cases("download", REFUSED_RANGES, ("download_all", "command"), SOME_SERVERS)
)
def test_case_22_a_file_comes_as_one_stream(
    way: str, server: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", REFUSED_RANGES[server])
    assert ways.file(way, session, url, tmp_path / "to", concurrency=4).data == BODY


@pytest.mark.parametrize(
    ("way", "server"),
    [
        *cases("read", REFUSED_RANGES, ("iter_content",), REFUSED_RANGES),
        *itertools.product(("iter_content_unordered", "aiter_content"), SOME_SERVERS),
    ],
)
def test_case_22_a_stream_comes_as_one(way: str, server: str, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", REFUSED_RANGES[server])
    outcome = ways.stream(way, session, url, concurrency=4)
    assert outcome.holds_only(BODY)
    given_out_before = "second part" in server or server == "200 whenever If-Range is sent"
    if way == "read" or not given_out_before:
        assert outcome.data == BODY
    else:
        # The first part may have been given out by then: one stream can go on only behind it.
        assert outcome.error is None or isinstance(outcome.error, errors.NetworkError)


def test_case_22_an_error_that_is_not_about_ranges_stays_one(session: getm.Session, fault_server: FaultServer) -> None:
    for status in (400, 401, 403, 404, 410):
        url = fault_server.serve(f"/{status}", failure(status))
        outcome = ways.stream("read", session, url, concurrency=4)
        assert isinstance(outcome.error, errors.HTTPStatusError) and outcome.error.status == status


# Case 23: fewer connections granted than asked for ------------------------------------------------------------------


def granting(count: int, body: bytes, server: FaultServer, pace: Pace) -> Callable[[Request], Reply]:
    """`count` replies at a time, at that pace; 429 for more."""

    def script(request: Request) -> Reply:
        others = sum(other.outcome == "open" for other in server.requests if other is not request)
        return failure(429) if others >= count else Reply(body=body, pace=pace)

    return script


# Long enough for all others to be refused as often as the retries allow.
_SLOW = Pace(step_bytes=64 * 1024, interval_s=0.004)
_SLOW_ONE = Pace(step_bytes=192 * 1024, interval_s=0.004)


@pytest.mark.parametrize(
    ("way", "excess"),
    [
        *cases("download", ("429", "close", "reset", "refuse"), ("read",), ("429", "close", "reset", "refuse")),
        *cases("iter_content", ("429", "refuse"), ("command",), ("429", "reset")),
    ],
)
def test_case_23_one_connection_is_granted_of_four(
    way: str, excess: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    if excess == "429":
        url = fault_server.serve("/x", granting(1, BODY, fault_server, _SLOW_ONE))
    else:
        url = fault_server.serve("/x", Reply(body=BODY, pace=_SLOW_ONE))
        limit(fault_server, 1, excess)
    if way in ways.FILES:
        outcome = ways.file(way, session, url, tmp_path / "to", concurrency=4)
    else:
        outcome = ways.stream(way, session, url, concurrency=4)
    assert outcome.data == BODY


def limit(server: FaultServer, connections: int, excess: str) -> None:
    kinds: dict[str, Excess] = {"close": "close", "reset": "reset", "refuse": "refuse"}
    server.limit(connections, kinds[excess])


@pytest.mark.parametrize(
    ("excess", "command"),
    [("429", False), ("close", False), ("reset", False), ("refuse", False), ("429", True), ("refuse", True)],
)
def test_case_23_two_files_at_once_of_six(
    excess: str, command: bool, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    bodies = {f"f{number}": BODY[number * MIB : (number + 2) * MIB] for number in range(6)}
    if excess != "429":
        limit(fault_server, 2, excess)
    urls = []
    for name, body in bodies.items():
        granted = granting(2, body, fault_server, _SLOW) if excess == "429" else Reply(body=body, pace=_SLOW)
        urls.append(fault_server.serve(f"/{name}", granted))
    if command:
        assert ways.command_error(*urls, "-j6", "-c", "--retries=2", cwd=tmp_path) is None
    else:
        results = list(session.download_all(urls, jobs=6, directory=tmp_path, continue_after_error=True))
        assert [result for result in results if isinstance(result, getm.DownloadFailure)] == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == bodies


def test_case_23_without_a_sibling_that_progresses_the_retries_end(
    session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", failure(429))
    outcome = ways.stream("read", session, url, concurrency=4)
    assert isinstance(outcome.error, errors.HTTPStatusError) and outcome.error.status == 429


# Case 25: the edges of a CDN with an ETag each ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "if_range", "edges"),
    [
        *itertools.product(("download",), (True, False), (2, 3)),
        ("adownload", True, 2),
        ("download_all", False, 3),
        ("command", False, 2),
    ],
)
def test_case_25_alternating_etags_end_as_one_stream(
    way: str, if_range: bool, edges: int, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    numbers = itertools.count()

    def edge(request: Request) -> Reply:
        etag = f'"edge {next(numbers) % edges}"'
        if if_range or request.header("Range") is None:
            return Reply(body=BODY, etag=etag)
        first, _, last = (request.header("Range") or "").removeprefix("bytes=").partition("-")
        return Reply(body=BODY, etag=etag, span=(int(first), min(int(last or len(BODY)) + 1, len(BODY))))

    url = fault_server.serve("/x", edge)
    assert ways.file(way, session, url, tmp_path / "to", concurrency=4).data == BODY
    assert not ranged(fault_server.requests[-1])


# Case 26: bytes beyond Content-Length -------------------------------------------------------------------------------

EXTRA = {
    "a space": b" ",
    "a line end": b"\r\n",
    "a page": b"<html>" + b"x" * 1000 + b"</html>",
    "a second response": b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    "a megabyte": b"y" * MIB,
}
each_extra = pytest.mark.parametrize("extra", EXTRA)


@each_extra
@pytest.mark.parametrize("size", (0, 1, 1000, 100_000, 3 * MIB))
def test_case_26_the_message_is_complete_and_its_connection_not_kept(
    size: int, extra: str, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY[:size], extra=EXTRA[extra]))
    after = fault_server.serve("/after", Reply(body=SMALL))
    assert session.read(url) == BODY[:size]
    assert session.read(after) == SMALL
    assert [request.path for request in fault_server.requests] == ["/x", "/after"]
    first, second = fault_server.requests
    # Empty lines before a status line are skipped by lenient parsers, and do no harm.
    assert first.connection != second.connection or extra == "a line end"


@pytest.mark.parametrize("way", [*ways.FILES, *ways.STREAMS])
def test_case_26_in_each_way(way: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY[:1000], extra=b" "))
    to = tmp_path / "to"
    outcome = ways.file(way, session, url, to) if way in ways.FILES else ways.stream(way, session, url)
    assert outcome.data == BODY[:1000]
    assert len(fault_server.requests) == 1


@each_extra
@pytest.mark.parametrize("framing", ("length", "chunked"))
def test_case_26_after_chunks_and_around_redirects(
    framing: str, extra: str, session: getm.Session, fault_server: FaultServer
) -> None:
    target = fault_server.serve("/x", Reply(body=SMALL, framing="chunked", extra=EXTRA[extra]))
    page = b"moved"
    url = fault_server.serve(
        "/from",
        Reply(
            status=302,
            body=page,
            headers={"Location": target},
            framing="chunked" if framing == "chunked" else "length",
            extra=EXTRA[extra],
        ),
    )
    assert session.read(url) == SMALL


@each_extra
@pytest.mark.parametrize("concurrency", (4, None))
def test_case_26_in_parts_and_in_a_thread(
    concurrency: int | None, extra: str, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, extra=EXTRA[extra]))
    assert session.read(url, concurrency=concurrency) == BODY


# Case 27: statuses of proxies, and mirrors --------------------------------------------------------------------------

TRANSIENT = (408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529)


@pytest.mark.parametrize("status", TRANSIENT)
def test_case_27_a_status_that_may_pass_is_tried_again(
    status: int, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", failure(status), Reply(body=SMALL))
    assert ways.stream("read", session, url).data == SMALL


@pytest.mark.parametrize("status", (408, 503, 529))
def test_case_27_a_status_that_may_pass_is_tried_again_by_the_command(
    status: int, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", failure(status), Reply(body=SMALL))
    assert ways.file("command", session, url, tmp_path / "to").data == SMALL


def dead_first(kind: str, fault_server: FaultServer, dead_server: FaultServer) -> str:
    """The URL of a mirror that is dead in that way; only those that answer are seen in the requests."""
    if kind.isdigit():
        return fault_server.serve("/dead", failure(int(kind)))
    if kind == "no reply":
        return fault_server.serve("/dead", no_reply("close"))
    if kind == "silent":
        return fault_server.serve("/dead", Reply(hold=fault_server.gate()))
    dead_server.limit(0, "close" if kind == "closed" else "reset")
    return dead_server.url("/dead")


@pytest.mark.deadline(20)
@pytest.mark.parametrize("kind", ("404", "429", "500", "503", "520", "no reply", "closed", "reset"))
@pytest.mark.parametrize("concurrency", (1, 4))
def test_case_27_a_dead_first_mirror_is_asked_once(
    kind: str, concurrency: int, session: getm.Session, fault_server: FaultServer
) -> None:
    with FaultServer() as dead_server:
        good = fault_server.serve("/good", Reply(body=BODY))
        dead = dead_first(kind, fault_server, dead_server)
        # What retries would wait for does not come within the test's time.
        never = getm.Retries(5, base_s=1000, cap_s=1000)
        outcome = ways.stream("read", session, dead, mirrors=[good], concurrency=concurrency, retries=never)
        assert outcome.data == BODY
        # A connection that ends before the head of a reply is tried once more, as a kept-alive one may.
        assert [request.path for request in fault_server.requests].count("/dead") <= (2 if kind == "no reply" else 1)
        assert dead_server.connections <= 2


@pytest.mark.parametrize(
    ("way", "server"),
    cases(
        "read",
        ("400", "403", "404", "405", "501", "503", "closed", "206 of everything"),
        ("download",),
        ("404", "503", "closed", "206 of everything"),
    ),
)
@pytest.mark.parametrize("dead_comes_first", (True, False))
def test_cases_22_27_a_server_that_refuses_ranges_beside_a_dead_mirror(
    way: str,
    dead_comes_first: bool,
    server: str,
    session: getm.Session,
    fault_server: FaultServer,
    tmp_path: Path,
) -> None:
    """Its last resort is the whole of the one that lives, not another round of the dead one."""
    good, dead = fault_server.serve("/good", REFUSED_RANGES[server]), fault_server.serve("/dead", failure(404))
    url, mirror = (dead, good) if dead_comes_first else (good, dead)
    options: dict[str, Any] = {"mirrors": [mirror], "concurrency": 4}
    if way == "read":
        outcome = ways.stream(way, session, url, **options)
    else:
        outcome = ways.file(way, session, url, tmp_path / "to", **options)
    assert outcome.data == BODY


@pytest.mark.parametrize("kind", ("503", "no reply", "closed"))
def test_case_27_by_the_command(kind: str, fault_server: FaultServer, tmp_path: Path) -> None:
    with FaultServer() as dead_server:
        good = fault_server.serve("/good", Reply(body=BODY))
        dead = dead_first(kind, fault_server, dead_server)
        (tmp_path / "list").write_text(f"{dead}\t{good}\n  out=object\n")
        assert ways.command_error("-i", "list", cwd=tmp_path) is None
        assert (tmp_path / "object").read_bytes() == BODY
        assert [request.path for request in fault_server.requests].count("/dead") <= 2


@pytest.mark.deadline(20)
def test_case_27_a_silent_first_mirror(session: getm.Session, fault_server: FaultServer) -> None:
    dead = fault_server.serve("/dead", Reply(hold=fault_server.gate()))
    good = fault_server.serve("/good", Reply(body=BODY))
    outcome = ways.stream("read", session, dead, mirrors=[good], timeout=getm.Timeout(connect_s=0.5, stall_s=0.5))
    assert outcome.data == BODY
    assert [request.path for request in fault_server.requests] == ["/dead", "/good"]


def test_case_27_all_mirrors_are_asked_before_one_is_asked_again(
    session: getm.Session, fault_server: FaultServer
) -> None:
    urls = [fault_server.serve(f"/{number}", failure(503), Reply(body=SMALL)) for number in range(3)]
    outcome = ways.stream("read", session, urls[0], mirrors=urls[1:])
    assert outcome.data == SMALL
    assert [request.path for request in fault_server.requests][:3] == ["/0", "/1", "/2"]
    assert len(fault_server.requests) == 4


@pytest.mark.parametrize("kind", ("503", "404", "no reply"))
def test_case_27_retries_are_honoured_with_mirrors(kind: str, session: getm.Session, fault_server: FaultServer) -> None:
    dead = no_reply("close") if kind == "no reply" else failure(int(kind))
    urls = [fault_server.serve(f"/{number}", dead) for number in range(2)]
    outcome = ways.stream("read", session, urls[0], mirrors=urls[1:])
    assert isinstance(outcome.error, errors.NetworkError)
    once = 2 if kind == "no reply" else 1
    assert 2 <= len(fault_server.requests) <= 2 * once * (1 + RETRIES.attempts)


@pytest.mark.deadline(20)
def test_case_27_a_mirror_that_breaks_off_is_left_for_the_other(
    session: getm.Session, fault_server: FaultServer
) -> None:
    """Where a checksum verifies the whole."""
    breaking = fault_server.serve("/breaking", Reply(body=BODY, cut_at=PART), failure(503))
    good = fault_server.serve("/good", Reply(body=BODY))
    never = getm.Retries(5, base_s=1000, cap_s=1000)
    declared = str(checksum(BODY, "sha256"))
    outcome = ways.stream("read", session, breaking, mirrors=[good], checksum=declared, retries=never)
    assert outcome.data == BODY
    assert fault_server.requests[-1].path == "/good"


# Cases 20 to 23: the limits of the caller always win -----------------------------------------------------------------


@pytest.mark.parametrize("server", ("breaks off", "refuses ranges", "429"))
def test_cases_20_to_23_the_deadline_wins(server: str, fault_server: FaultServer, tmp_path: Path) -> None:
    weak = Reply(body=BODY, etag=None, last_modified=None, cut_at=1000)
    scripts: dict[str, Callable[[Request], Reply] | Reply] = {
        "breaks off": weak,
        "refuses ranges": lambda request: failure(503) if ranged(request) else weak,
        "429": failure(429, retry_after="1000"),
    }
    url = fault_server.serve("/x", scripts[server])
    endless = getm.Retries(1_000_000, base_s=0.01, cap_s=0.02)
    limits = getm.Timeout(total_s=1.0)
    with getm.Session(retries=endless, timeout=limits) as session, pytest.raises(errors.NetworkError):
        session.download(url, tmp_path / "object", concurrency=4)
    assert not (tmp_path / "object").exists()


def test_case_23_a_close_wins_over_waiting(fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    busy = threading.Event()

    def script(request: Request) -> Reply:
        if len(fault_server.requests) > 1:
            busy.set()
            return failure(429)
        return Reply(body=BODY, stall_at=MIB, gate=gate)

    url = fault_server.serve("/x", script)
    session = getm.Session(retries=getm.Retries(1000, base_s=0.01, cap_s=0.05))
    caught: list[BaseException] = []

    def work() -> None:
        try:
            session.read(url, concurrency=4)
        except BaseException as error:
            caught.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    assert busy.wait(20)
    session.close()
    worker.join(20)
    assert not worker.is_alive()
    assert isinstance(caught[0], errors.GetmError)
