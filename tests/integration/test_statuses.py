"""Which statuses are the object: 200, 203, and a 206 that covers all of it. Everything else leaves the target alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Reply, failure
from tests.support import command

BODY = bytes(range(256)) * 64
KEPT = b"what stood here before"
NO_OBJECT = (101, 201, 202, 204, 205, 206, 207, 208, 226, 299, 300, 304, 305, 306, 310, 399)
MODES = (1, 3, None)

each_mode = pytest.mark.parametrize("concurrency", MODES)


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


def answer(status: int, *fields: str) -> Reply:
    """A whole message with this status, whatever was asked, and the end of its connection."""
    body = b"" if status in (204, 304) else BODY
    lines = [f"HTTP/1.1 {status} Some Phrase", *fields, f"Content-Length: {len(body)}", 'ETag: "v1"', "", ""]
    return Reply(raw="\r\n".join(lines).encode(), body=body, then="close")


@each_mode
@pytest.mark.parametrize("status", NO_OBJECT)
def test_case_3_other_statuses_below_400_are_an_error_and_the_target_stays(
    status: int, concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", answer(status))
    target = tmp_path / "x"
    target.write_bytes(KEPT)
    # A 206 to a request without Range, which says nothing of what it covers; with one it is no answer to it either.
    kinds = (errors.HTTPStatusError, errors.BadResponse) if status == 206 else (errors.HTTPStatusError,)
    with pytest.raises(kinds, match=str(status)) as caught:
        session.download(url + "?sig=SECRET", target, concurrency=concurrency)
    assert caught.value.url == url
    with pytest.raises(kinds, match=str(status)):
        session.read(url, concurrency=concurrency)
    assert target.read_bytes() == KEPT
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@each_mode
@pytest.mark.parametrize("status", (200, 203))
def test_case_3_200_and_203_are_the_object(
    status: int, concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", answer(status))
    assert session.read(url, concurrency=concurrency) == BODY
    assert session.download(url, tmp_path / "x", concurrency=concurrency).path.read_bytes() == BODY


@pytest.mark.parametrize("concurrency", (1, None))
@pytest.mark.parametrize(
    "content_range",
    (None, "bytes 0-9/16384", "bytes 1-16383/16384", "bytes 0-16383/*", "bytes 0-16383/16385", "bytes */16384", "0"),
)
def test_case_3_a_206_that_was_not_asked_for_and_does_not_cover_everything(
    content_range: str | None,
    concurrency: int | None,
    session: getm.Session,
    fault_server: FaultServer,
    tmp_path: Path,
) -> None:
    fields = () if content_range is None else (f"Content-Range: {content_range}",)
    url = fault_server.serve("/x", answer(206, *fields))
    (tmp_path / "x").write_bytes(KEPT)
    with pytest.raises(errors.HTTPStatusError, match="206") as caught:
        session.download(url, tmp_path / "x", concurrency=concurrency)
    assert (content_range or "no Content-Range") in caught.value.message
    assert (tmp_path / "x").read_bytes() == KEPT


@pytest.mark.parametrize("concurrency", (1, None))
def test_case_3_a_206_that_was_not_asked_for_and_covers_everything_is_the_object(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", answer(206, f"Content-Range: bytes 0-{len(BODY) - 1}/{len(BODY)}"))
    assert session.read(url, concurrency=concurrency) == BODY


@each_mode
def test_case_3_a_304_to_the_callers_own_condition_says_what_to_do(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", Reply(raw=b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\n\r\n', then="close"))
    (tmp_path / "x").write_bytes(KEPT)
    with pytest.raises(errors.HTTPStatusError, match=r"304 Not Modified.*If-None-Match") as caught:
        session.download(url, tmp_path / "x", headers={"If-None-Match": '"v1"'}, concurrency=concurrency)
    assert (caught.value.status, caught.value.reason) == (304, "Not Modified")
    assert (tmp_path / "x").read_bytes() == KEPT


@each_mode
@pytest.mark.parametrize("status", (202, 204, 207, 300, 304))
def test_case_3_nor_are_they_the_rest_of_the_object(
    status: int, concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    body = bytes(3_000_000)
    url = fault_server.serve("/x", Reply(body=body, cut_at=1_500_000), answer(status))
    with pytest.raises(errors.HTTPStatusError, match=str(status)):
        session.download(url, tmp_path / "x", concurrency=concurrency, retries=getm.Retries(1, base_s=0))
    assert not (tmp_path / "x").exists()


@each_mode
def test_case_3_what_redirects_led_to_answers_202_later(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    """A place that refuses is resolved once more; a status that is no object is no better place."""
    fault_server.serve("/here", Reply(status=302, headers={"Location": "/there"}))
    fault_server.serve("/there", Reply(body=BODY, cut_at=100), answer(403), answer(202))
    with pytest.raises(errors.HTTPStatusError, match="202"):
        session.read(fault_server.url("/here"), concurrency=concurrency, retries=getm.Retries(1, base_s=0))


@pytest.mark.parametrize("status", (202, 204, 304, 399))
def test_case_3_the_command_tells_the_status(status: int, fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", answer(status))
    (tmp_path / "x").write_bytes(KEPT)
    run = command.getm(url, "x", cwd=tmp_path)
    assert run.returncode == 8
    assert command.failure(run)["status_code"] == status
    assert (tmp_path / "x").read_bytes() == KEPT


def test_a_whole_that_is_not_there_yet_is_asked_for_again_where_ranges_are_refused(fault_server: FaultServer) -> None:
    whole = iter([failure(503), Reply(body=b"whole")])
    url = fault_server.serve("/x", lambda request: failure(405) if request.header("Range") else next(whole))
    with getm.Session(retries=getm.Retries(2, base_s=0.001)) as session:
        assert bytes(session.read(url, concurrency=3)) == b"whole"
