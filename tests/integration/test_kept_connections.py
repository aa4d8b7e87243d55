"""Small files over a connection that was kept alive: whatever comes over it ends as it does over a new one."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Pace, Reply, failure
from tests.support.command import names

KIB = 1024
SMALL = random.Random(1).randbytes(16 * KIB)
MD5 = hashlib.md5(SMALL).hexdigest()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"


def raw(head: bytes, content: bytes = b"small") -> Reply:
    return Reply(raw=head, body=content)


ANSWERS: dict[str, Reply] = {
    "plain": Reply(body=SMALL),
    "empty": Reply(body=b""),
    "a byte": Reply(body=b"x"),
    "as large as small ones may be": Reply(body=SMALL * 4 + b"x"),
    "larger": Reply(body=SMALL * 100),
    "in pieces": Reply(body=SMALL, pace=Pace(KIB, 0.001)),
    "late": Reply(body=SMALL, delay_s=0.4),
    "slow": Reply(body=SMALL, pace=Pace(4 * KIB, 0.15)),
    "chunked": Reply(body=SMALL, framing="chunked"),
    "until the end of the connection": Reply(body=SMALL, framing="close"),
    "closed after it": Reply(body=SMALL, then="close"),
    "connection: close": Reply(body=SMALL, headers={"Connection": "close"}),
    "more than it says": Reply(body=SMALL, extra=b"more"),
    "without a validator": Reply(body=SMALL, etag=None, last_modified=None),
    "a coding": Reply(body=SMALL, headers={"Content-Encoding": "gzip"}),
    "named by the server": Reply(body=SMALL, headers={"Content-Disposition": "attachment; filename=named"}),
    "declared md5": Reply(body=SMALL, headers={"Content-MD5": MD5}),
    "declared wrong md5": Reply(body=SMALL + b"x", headers={"Content-MD5": MD5}),
    "declared badly": Reply(body=SMALL, headers={"Content-MD5": "none", "x-goog-hash": "md5=%"}),
    "an ETag that is an MD5": Reply(body=SMALL, etag=f'"{MD5}"', headers={"x-amz-request-id": "1"}),
    "an ETag of parts": Reply(body=SMALL, etag=f'"{MD5}-2"', headers={"x-amz-request-id": "1"}),
    "404": failure(404),
    "503": failure(503),
    "304": Reply(status=304),
    "203": Reply(body=SMALL, status=203),
    "206 of all": Reply(body=SMALL, status=206, headers={"Content-Range": f"bytes 0-{len(SMALL) - 1}/{len(SMALL)}"}),
    "206 of a part": Reply(body=SMALL, status=206, headers={"Content-Range": f"bytes 0-{len(SMALL) - 1}/99999"}),
    "cut": Reply(body=SMALL, cut_at=5000, etag=None, last_modified=None),
    "reset": Reply(body=SMALL, cut_at=5000, then="reset", etag=None, last_modified=None),
    "HTTP/1.0": raw(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"),
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.2\r\n", b""),
    "lines without CR": raw(b"HTTP/1.1 200 OK\nContent-Length: 5\n\n"),
    "an interim response": raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + HEAD + b"\r\n"),
    "a line that goes on": raw(HEAD + b"X-Long: a\r\n b\r\n\r\n"),
    "no reason": raw(b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n"),
    "beyond ASCII": raw(HEAD + b"X-Name: \xe9\xff\r\n\r\n"),
    "a bad name": raw(HEAD + b"X Name: y\r\n\r\n"),
    "a NUL": raw(HEAD + b"X-Name: \x00\r\n\r\n"),
    "two lengths": raw(HEAD + b"Content-Length: 6\r\n\r\n"),
    "the length twice": raw(HEAD + b"Content-Length: 5\r\n\r\n"),
    "a wrong length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n"),
    "a long head": raw(HEAD + b"X-Long: " + b"y" * 40 * KIB + b"\r\n\r\n"),
}


def outcome(session: getm.Session, server: FaultServer, path: str, folder: Path, **options: object) -> object:
    """What a download ends with, as far as it does not depend on the connection; and what is in the folder then."""
    folder.mkdir()
    try:
        done = session.download(server.url(path), f"{folder}/", **options)  # type: ignore[arg-type]  # any of them
    except errors.GetmError as error:
        # How many bytes came before an end depends on when it was noticed.
        ended: tuple[object, ...] = (type(error), re.sub(r"\d+ bytes", "bytes", str(error).replace(str(folder), "")))
    else:
        stats = done.stats
        ended = (done.path.name, done.size, done.checksum, done.version, done.suggested_name, stats.requests)
        ended += (dict(stats.retries), stats.received_bytes)
    return ended, {name: (folder / name).read_bytes() for name in names(folder)}


@pytest.mark.parametrize("checksum", ("declared", "md5", None))
@pytest.mark.parametrize("answer", ANSWERS)
def test_any_answer_ends_as_over_a_new_connection(
    answer: str,
    checksum: str | None,
    shared_session: Callable[..., getm.Session],
    fault_server: FaultServer,
    tmp_path: Path,
) -> None:
    session = shared_session(retries=0)
    before = fault_server.serve("/before", Reply(body=b"before"))
    fault_server.serve("/x", ANSWERS[answer])
    options = {} if checksum == "declared" else {"checksum": f"md5:{MD5}" if checksum else None}
    new = outcome(session, fault_server, "/x", tmp_path / "new", **options)
    session.download(before, tmp_path / "before")
    kept = outcome(session, fault_server, "/x", tmp_path / "kept", **options)
    assert kept == new
    requests = fault_server.requests
    first = next(number for number, request in enumerate(requests) if request.path == "/before")
    assert requests[first + 1].connection == requests[first].connection


def test_a_small_file_that_is_cancelled_ends_quietly(
    fault_server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate, usual = fault_server.gate(), Reply(body=SMALL)
    url = fault_server.serve("/x", usual, Reply(body=SMALL, hold=gate), usual)

    async def cancel(session: getm.Session) -> None:
        # The engine is in this process, which hears what it logs.
        downloading = asyncio.create_task(session.adownload(url, tmp_path / "b", concurrency=None))
        await asyncio.to_thread(gate.wait_reached)
        downloading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await downloading

    with getm.Session() as session:
        session.download(url, tmp_path / "a", concurrency=None)
        asyncio.run(cancel(session))
        session.download(url, tmp_path / "c", concurrency=None)
    assert names(tmp_path) == ["a", "c"]
    assert not caplog.records
