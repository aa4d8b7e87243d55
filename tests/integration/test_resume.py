"""Resumption in the engine: only what is missing is asked for, and only of the same version; anything else is the whole
object anew, once."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from typing import Any

import pytest

from getm import errors
from getm.core.version import Version
from getm.integrity.files import checksum
from getm.testing import FaultServer, Reply, Request, failure
from tests.support.consumer import Consumer, Received, consumer

MIB = 1024 * 1024
BODY = random.Random(3).randbytes(5 * MIB + 777)
LAST_MODIFIED = "Tue, 01 Jul 2025 00:00:00 GMT"
# A part of 1 MiB each where there are several at once.
GAPS = ((0, 1), (MIB - 5, 3 * MIB), (4 * MIB, 4 * MIB + 7), (len(BODY) - 3, len(BODY)))

each_concurrency = pytest.mark.parametrize("concurrency", (1, 3))


@pytest.fixture
def engine() -> Iterator[Consumer]:
    with consumer(None) as opened:
        yield opened


def kept(missing: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    """What asks for the rest of an object."""
    return {
        "spans": missing,
        "version": Version(len(BODY), '"v1"', LAST_MODIFIED, '"v1"'),
        "or_whole": True,
    }


def ranges(server: FaultServer) -> list[str | None]:
    return [request.header("Range") for request in server.requests]


def is_whole(received: Received, body: bytes = BODY) -> bool:
    return received.spans() == [(0, len(body))] and b"".join(data for _, data in sorted(received.parts.items())) == body


def check_resumed(received: Received, missing: tuple[tuple[int, int], ...]) -> None:
    assert received.head is not None and received.end is not None
    assert (received.head.resumed, received.head.size, received.end.total) == (True, len(BODY), len(BODY))
    assert received.spans() == list(missing)
    assert all(BODY[start : start + len(data)] == data for start, data in received.parts.items())
    assert not received.end.verdict
    assert received.end.verdict.reason == "the server declared no checksum"


@each_concurrency
@pytest.mark.parametrize(
    "missing", (GAPS, GAPS[1:2], ((0, len(BODY)),), ((len(BODY) - 1, len(BODY)),)), ids=("gaps", "one", "all", "a byte")
)
def test_only_what_is_missing_is_fetched(
    missing: tuple[tuple[int, int], ...], concurrency: int, engine: Consumer, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    received = engine.fetch(url, concurrency=concurrency, **kept(missing), strict=True)
    check_resumed(received, missing)
    for request in fault_server.requests:
        request.wait_ended()
    assert sum(request.sent_bytes for request in fault_server.requests) == sum(b - a for a, b in missing)
    assert {request.header("If-Range") for request in fault_server.requests} == {'"v1"'}
    if concurrency == 1:
        assert ranges(fault_server) == [f"bytes={start}-{stop - 1}" for start, stop in missing]


@pytest.mark.parametrize("processes", (2,))
def test_helper_engines_fetch_what_is_missing(processes: int, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    with consumer(3, processes=processes) as engines:
        received = engines.fetch(url, concurrency=3, **kept(GAPS))
    check_resumed(received, GAPS)


@each_concurrency
def test_a_cut_connection_is_resumed_at_the_byte(concurrency: int, engine: Consumer, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, cut_at=5), Reply(body=BODY, cut_at=1000), Reply(body=BODY))
    check_resumed(engine.fetch(url, concurrency=concurrency, **kept(GAPS[1:])), GAPS[1:])


@each_concurrency
@pytest.mark.parametrize("given", ("auto", "caller", None))
def test_the_declared_checksum_is_told(
    given: str | None, concurrency: int, engine: Consumer, fault_server: FaultServer
) -> None:
    sha256 = checksum(BODY, "sha256")
    headers = {"x-goog-hash": "crc32c=" + base64.b64encode(checksum(BODY, "crc32c").value).decode()}
    url = fault_server.serve("/x", Reply(body=BODY, headers=headers))
    asked = {"auto": (), "caller": (str(sha256),), None: None}[given]
    for resume in ({}, kept(GAPS)):
        received = engine.fetch(url, concurrency=concurrency, **resume, checksums=asked)
        assert received.head is not None
        assert (
            received.head.declared
            == {
                "auto": ((str(checksum(BODY, "crc32c")), "x-goog-hash"),),
                "caller": ((str(sha256), "caller"),),
                None: (),
            }[given]
        )


# Row 6: everything is there ------------------------------------------------------------


@each_concurrency
def test_row_6_nothing_is_missing(concurrency: int, engine: Consumer, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    received = engine.fetch(url, concurrency=concurrency, **kept(()))
    check_resumed(received, ())
    assert ranges(fault_server) == [f"bytes={len(BODY)}-"]


# Rows 1, 7, 9, 10: another version ------------------------------------------------------------

NEW = random.Random(4).randbytes(2 * MIB + 5)


@each_concurrency
@pytest.mark.parametrize("missing", (GAPS, ()), ids=("gaps", "nothing missing"))
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(body=BODY, ranges=False), id="row 1: Range is ignored"),
        pytest.param(Reply(body=NEW, etag='"v2"'), id="another ETag"),
        pytest.param(Reply(body=NEW), id="row 7: smaller, with the ETag of old"),
        pytest.param(Reply(body=BODY + NEW), id="larger, with the ETag of old"),
        pytest.param(Reply(body=BODY, etag='W/"v1"'), id="row 9: a weak validator"),
        pytest.param(Reply(body=BODY, etag=None, last_modified=None), id="row 9: no validator"),
    ],
)
def test_rows_1_7_9_another_version_is_fetched_whole(
    reply: Reply, missing: tuple[tuple[int, int], ...], concurrency: int, engine: Consumer, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", reply)
    received = engine.fetch(
        url,
        concurrency=concurrency,
        **kept(missing),
        checksums=(str(checksum(reply.body, "sha256")),),
    )
    assert received.head is not None and received.end is not None
    assert not received.head.resumed
    assert is_whole(received, reply.body)
    assert received.end.verdict and received.end.total == len(reply.body)


@each_concurrency
@pytest.mark.parametrize(
    "first",
    [
        pytest.param(failure(412), id="row 10: 412"),
        pytest.param(Reply(body=BODY, status=206, etag='"v2"', span=GAPS[0]), id="206 of another version"),
        pytest.param(
            Reply(body=NEW, status=416, headers={"Content-Range": f"bytes */{len(NEW)}"}), id="row 7: 416, smaller"
        ),
        pytest.param(
            Reply(body=BODY, status=416, headers={"Content-Range": f"bytes */{len(BODY)}"}), id="416 in spite of it"
        ),
        pytest.param(Reply(body=BODY, status=416, headers={"Content-Range": None}), id="416 without a size"),
    ],
)
def test_rows_7_10_one_clean_restart(
    first: Reply, concurrency: int, engine: Consumer, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", first, Reply(body=NEW, etag='"v2"'))
    received = engine.fetch(url, concurrency=concurrency, **kept(GAPS))
    assert received.head is not None and not received.head.resumed
    assert is_whole(received, NEW)
    assert fault_server.requests[1].header("If-Range") is None


@each_concurrency
def test_a_206_of_other_bytes_is_an_error(concurrency: int, engine: Consumer, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, span=(5, 10)))
    with pytest.raises(errors.HTTPStatusError, match="bytes 5-9"):
        engine.fetch(url, concurrency=concurrency, **kept(GAPS))


@each_concurrency
def test_row_10_a_change_midway_is_an_error(concurrency: int, engine: Consumer, fault_server: FaultServer) -> None:
    def script(request: Request) -> Reply:
        first = request.header("Range") == "bytes=0-0"
        return Reply(body=BODY) if first else Reply(body=BODY, etag='"v2"')

    url = fault_server.serve("/x", script)
    with pytest.raises(errors.RemoteChanged):
        engine.fetch(url, concurrency=concurrency, **kept(GAPS))


@each_concurrency
def test_a_refusal_is_no_expiry(concurrency: int, engine: Consumer, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", failure(403))
    with pytest.raises(errors.HTTPStatusError) as caught:
        engine.fetch(url, concurrency=concurrency, **kept(GAPS))
    assert type(caught.value) is errors.HTTPStatusError
