"""Signed URLs that have expired: told from the clock without a request, or from what the server answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Reply, failure, redirect
from tests.support import ways
from tests.support.command import failure as told_by
from tests.support.command import getm as run_getm
from tests.unit.core.test_error_content import (
    AZURE_EXPIRED,
    AZURE_WRONG,
    GCS_EXPIRED,
    S3_EXPIRED,
    S3_SIGNATURE,
    S3_TOKEN,
)
from tests.unit.core.test_signed_url import AMZ, AZURE, EACH, GOOG

BODY = bytes(range(256)) * 8
MODES = (1, 4, None)
SAYS = "this URL expired 2024-01-01 00:01 UTC; get a new one"


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=2)


def signed(query: str) -> str:
    return query.replace("0123abcd", "SECRET").replace("vjby", "SECRET").replace("Z%2FRHIX5X", "SECRET")


def amz(expired_ago_s: float) -> str:
    """A query that is signed, and expired so many seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=60 + expired_ago_s)
    return signed(AMZ.replace("20240101T000000Z", f"{at:%Y%m%dT%H%M%SZ}"))


def check_refused(error: errors.GetmError | None, url: str) -> None:
    assert isinstance(error, errors.URLExpired)
    assert SAYS in error.message and "no request was made" in error.message
    assert error.url == url and "SECRET" not in str(error)


# By the clock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("way", ways.STREAMS)
def test_a_stream_makes_no_request(
    way: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    outcome = ways.stream(way, session, f"{url}?{signed(AMZ)}", concurrency=concurrency)
    check_refused(outcome.error, url)
    assert outcome.error is not None and outcome.error.fields() == {
        "attempts": 0,
        "status": None,
        "reason": None,
        "expired_at": "2024-01-01T00:01:00Z",
    }
    assert outcome.count == 0 and fault_server.requests == []


@pytest.mark.parametrize("way", ways.FILES)
def test_a_file_makes_no_request(way: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    outcome = ways.file(way, session, f"{url}?{signed(AMZ)}", tmp_path / "out")
    check_refused(outcome.error, url)
    assert fault_server.requests == []


@pytest.mark.parametrize("query", EACH.values(), ids=EACH)
def test_each_kind_of_signature(query: str, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    with pytest.raises(errors.URLExpired, match=SAYS):
        session.read(f"{url}?{query}")
    assert fault_server.requests == []


def test_everything_else_that_requests(session: getm.Session, fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    expired = f"{url}?{signed(AMZ)}"

    def shared_once() -> None:
        with session.shared(expired, once=True):
            pass

    def opened() -> None:
        with session.open(expired) as fh:
            fh.read(1)

    calls: list[Callable[[], object]] = [
        lambda: session.info(expired),
        lambda: asyncio.run(session.ainfo(expired)),
        lambda: session.read_ranges(expired, [(0, 1)]),
        lambda: asyncio.run(session.aread(expired)),
        lambda: asyncio.run(session.aread_ranges(expired, [(0, 1)])),
        lambda: session.readinto(expired, bytearray(len(BODY))),
        lambda: list(session.download_all([expired], directory=tmp_path, dry_run=True)),
        shared_once,
        opened,
    ]
    for call in calls:
        with pytest.raises(errors.URLExpired, match=SAYS):
            call()
    assert fault_server.requests == []


def test_a_little_too_late_is_for_the_server_to_decide(session: getm.Session, fault_server: FaultServer) -> None:
    """Our clock may be fast."""
    url = fault_server.serve("/x", Reply(body=BODY))
    assert session.read(f"{url}?{amz(600)}") == BODY
    assert session.read(f"{url}?{amz(-600)}") == BODY


def test_an_ordinary_url_is_requested(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    for query in ("Expires=1704067260", "se=2024-01-01&sig=x", "X-Amz-Date=20240101T000000Z&X-Amz-Expires=60"):
        assert session.read(f"{url}?{query}") == BODY


def test_a_mirror_that_has_not_expired_is_used(session: getm.Session, fault_server: FaultServer) -> None:
    url, mirror = fault_server.serve("/x", Reply(body=BODY)), fault_server.serve("/mirror", Reply(body=BODY))
    assert session.read(f"{url}?{signed(AMZ)}", mirrors=[mirror]) == BODY
    assert [request.path for request in fault_server.requests] == ["/mirror"]


def test_a_batch_goes_on_with_the_others(fault_server: FaultServer, tmp_path: Path) -> None:
    """On standard error, in events, and in the receipt."""
    url, good = fault_server.serve("/x", Reply(body=BODY)), fault_server.serve("/y", Reply(body=BODY))
    rows = [{"url": f"{url}?{signed(query)}", "filepath": f"{n}"} for n, query in enumerate((AMZ, GOOG, AZURE))]
    (tmp_path / "list.json").write_text(json.dumps([*rows, {"url": good, "filepath": "good"}]))
    run = run_getm("-m", "list.json", "-c", "--json", "--receipt", "receipt.jsonl", cwd=tmp_path)
    assert run.returncode == 8
    assert (tmp_path / "good").read_bytes() == BODY
    assert [request.path for request in fault_server.requests] == ["/y"]
    *lines, last = run.stderr.decode().splitlines()
    assert len(lines) == 3 and "3 of 4" in last and "status_code" not in last
    events = [json.loads(line) for line in run.stdout.splitlines()]
    receipt = [json.loads(line) for line in (tmp_path / "receipt.jsonl").read_text().splitlines()]
    told = [
        *(json.loads(line.removeprefix("ERROR:getm.cli:")) for line in lines),
        *(event for event in events if event["event"] == "failed"),
        *(line for line in receipt if line["status"] == "failed"),
    ]
    assert len(told) == 9
    for facts in told:
        assert facts["error"] == "url-expired" and facts["message"].startswith(SAYS) and facts["url"] == url
        assert "status_code" not in facts
    assert b"SECRET" not in (tmp_path / "receipt.jsonl").read_bytes()


# By the server's answer ----------------------------------------------------------------------------------------------


def refused(content: bytes, status: int = 403, date: str | None = None) -> Reply:
    return Reply(status=status, body=content, framing="chunked", etag=None, last_modified=None, headers={"Date": date})


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (S3_EXPIRED, 403, "403 Forbidden: AccessDenied: Request has expired"),
        (S3_TOKEN, 400, "400 Bad Request: ExpiredToken: The provided token has expired"),
        (GCS_EXPIRED, 400, "400 Bad Request: ExpiredToken: Invalid argument"),
        (AZURE_EXPIRED, 403, "403 Forbidden: AuthenticationFailed: Server failed to authenticate the request"),
    ],
)
def test_what_the_vendors_answer(
    content: bytes, status: int, says: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", refused(content, status))
    # Not yet due by what the URL says: the credentials that signed it may end before it does.
    with pytest.raises(errors.URLExpired) as caught:
        session.read(f"{url}?{amz(-600)}", concurrency=concurrency)
    error = caught.value
    assert error.message.startswith("this URL ") and "expired" in error.message and "; get a new one (" in error.message
    assert says in error.message and "SECRET" not in str(error)
    assert (error.url, error.status, error.attempts) == (url, status, 1)
    assert len(fault_server.requests) == 1
    # Nobody has signed this one.
    with pytest.raises(errors.HTTPStatusError) as other:
        session.read(url, concurrency=concurrency)
    assert other.value.message.startswith(says)


def test_the_time_is_that_of_the_url_or_that_of_the_answer(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", refused(b"<Error><Code>AccessDenied</Code><Message>Access denied</Message></Error>"))
    # As CloudFront says it.
    with pytest.raises(errors.URLExpired, match=r"this URL expired 20.* UTC; get a new one \(403 Forbidden: AccessDen"):
        session.read(f"{url}?{amz(600)}")
    fault_server.serve("/x", refused(AZURE_EXPIRED))
    with pytest.raises(errors.URLExpired, match=SAYS) as caught:
        session.read(f"{url}?{signed(AZURE.replace('se=2024-01-01T00%3A01%3A00Z', 'si=readers'))}")
    assert caught.value.expired_at == "2024-01-01T00:01:00Z"


def test_the_servers_clock_counts(session: getm.Session, fault_server: FaultServer) -> None:
    """Where both differ, it is the one that has refused."""
    content = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    for ahead_s, kind in ((-1200, errors.HTTPStatusError), (1200, errors.URLExpired)):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)
        url = fault_server.serve("/x", refused(content, date=date))
        with pytest.raises(kind, match="403 Forbidden: AccessDenied: Access Denied"):
            session.read(f"{url}?{amz(600 if ahead_s < 0 else -600)}")


@pytest.mark.parametrize("status", (404, 500, 503))
def test_other_statuses_are_no_matter_of_time(status: int, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", failure(status, retry_after="0"))
    with pytest.raises(errors.HTTPStatusError, match=str(status)):
        session.read(f"{url}?{amz(600)}")


def test_a_redirect_to_a_url_that_has_expired(session: getm.Session, fault_server: FaultServer) -> None:
    """Not the caller's to mend. It is not judged by our clock: the server has just made it."""
    url = fault_server.serve("/x", redirect(f"/target?{signed(AMZ)}"))
    fault_server.serve("/target", refused(S3_EXPIRED))
    with pytest.raises(errors.HTTPStatusError, match="redirects to a URL that has expired") as caught:
        session.read(url)
    assert caught.value.url == fault_server.url("/target") and "SECRET" not in str(caught.value)
    fault_server.serve("/target", Reply(body=BODY))
    assert session.read(url) == BODY


@pytest.mark.parametrize("concurrency", MODES)
def test_a_url_that_expires_midway(
    concurrency: int | None, fault_server: FaultServer, tmp_path: Path, session: getm.Session
) -> None:
    """And what came before is kept for the next one."""
    body = bytes(range(256)) * 4096 * 12

    def expiring() -> Iterator[Reply]:
        yield from [Reply(body=body, cut_at=2_000_000)] * (concurrency or 1)
        while True:
            yield refused(S3_EXPIRED)

    replies = expiring()
    url = fault_server.serve("/x", lambda request: next(replies))
    with pytest.raises(errors.URLExpired, match=r"this URL .*AccessDenied: Request has expired"):
        session.download(f"{url}?{amz(-600)}", tmp_path / "out", concurrency=concurrency)
    fault_server.serve("/x", Reply(body=body))
    result = session.download(f"{url}?{amz(-600)}", tmp_path / "out", concurrency=concurrency)
    assert result.path.read_bytes() == body and result.stats.received_bytes < len(body)


def test_on_the_command_line(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", refused(S3_EXPIRED))
    run = run_getm(f"{url}?{amz(-600)}", cwd=tmp_path)
    assert run.returncode == 8
    facts = told_by(run)
    # The contract of old callers.
    assert facts["status_code"] == 403 and facts["url"] == url
    assert "Request has expired" in str(facts["message"])
    run = run_getm(f"{url}?{signed(AMZ)}", cwd=tmp_path)
    assert run.returncode == 8 and "status_code" not in told_by(run)


# What a refused request says -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (S3_SIGNATURE, "403 Forbidden: SignatureDoesNotMatch: The request signature we calculated does not match"),
        (AZURE_WRONG, "403 Forbidden: AuthenticationFailed: Server failed to authenticate the request"),
        (b'{"message": "Your plan has no SECRET"}', "403 Forbidden: Your plan has no ..."),
        (b"<html><h1>403</h1></html>", "403 Forbidden"),
        (b"", "403 Forbidden"),
    ],
)
def test_the_vendors_words(content: bytes, says: str, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", refused(content))
    with pytest.raises(errors.HTTPStatusError) as caught:
        session.read(f"{url}?token=SECRET", headers={"Authorization": "Bearer SECRET"})
    assert caught.value.message.startswith(says) and "SECRET" not in str(caught.value)
    if not content.startswith(b"<?xml") and b"<?xml" not in content[:10]:
        assert caught.value.message == says


@pytest.mark.parametrize("framing", ("length", "chunked", "close"))
@pytest.mark.parametrize("endless", (False, True))
def test_an_error_that_does_not_end(
    framing: str, endless: bool, session: getm.Session, fault_server: FaultServer
) -> None:
    """Neither its length nor its silence keeps a caller waiting."""
    content = b"<Error><Code>AccessDenied</Code><Message>No</Message>" + b" " * 2000
    if endless:
        reply = Reply(status=403, body=content, framing=framing, endless=True)  # type: ignore[arg-type]  # a Framing
    else:
        gate = fault_server.gate()
        reply = Reply(status=403, body=content, framing=framing, stall_at=1000, gate=gate)  # type: ignore[arg-type]
    url = fault_server.serve("/x", reply)
    with pytest.raises(errors.HTTPStatusError, match="403 Forbidden: AccessDenied: No"):
        session.read(url)
    if not endless:
        gate.open()


def test_the_connection_of_an_error_is_used_again(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", refused(S3_EXPIRED))
    for _ in range(3):
        with pytest.raises(errors.HTTPStatusError):
            session.read(url)
    assert fault_server.connections == 1
