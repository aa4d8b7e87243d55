"""Providers in place of URLs: asked when an object is opened, and once again whenever its URL has expired."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Reply, failure
from tests.support import ways
from tests.support.signing import SignedObject, cut

BODY = hashlib.shake_256(b"providers").digest(3_000_000)
MODES = (1, 4, None, "auto")
Provider = Callable[[], "str | getm.Resource"]


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=getm.Retries(3, base_s=0.001, cap_s=0.01))


@pytest.fixture
def signed(fault_server: FaultServer) -> SignedObject:
    """An object that takes some ten requests, and a new signature after every third."""
    return SignedObject(fault_server, cut(BODY, 300_000), uses=3)


@pytest.fixture
def other_server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


# In every mode ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("way", ways.STREAMS)
def test_a_stream_outlives_its_signatures(
    way: str, concurrency: int | None, session: getm.Session, signed: SignedObject
) -> None:
    provider = signed.asign if way.startswith("aiter") else signed.sign
    assert ways.stream(way, session, provider, concurrency=concurrency).data == BODY
    assert len(signed.used) >= 4 and signed.one_for_each_expiry


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("way", ["download", "adownload", "download_all"])
def test_a_file_outlives_its_signatures(
    way: str, concurrency: int | None, session: getm.Session, signed: SignedObject, tmp_path: Path
) -> None:
    provider = signed.asign if way == "adownload" else signed.sign
    assert ways.file(way, session, provider, tmp_path, concurrency=concurrency).data == BODY
    assert len(signed.used) >= 4 and signed.one_for_each_expiry


def test_several_engines_have_one_signature_at_a_time(fault_server: FaultServer) -> None:
    with getm.Session(processes=3) as session:
        for way in ("read", "iter_content"):
            # For more requests than there are connections: none is refused again and again.
            signed = SignedObject(fault_server, cut(BODY * 10, 1_000_000), uses=10)
            assert ways.stream(way, session, signed.sign, concurrency=8).data == BODY * 10
            assert len(signed.used) >= 3 and signed.one_for_each_expiry


def test_each_position_after_seeks(session: getm.Session, fault_server: FaultServer) -> None:
    for way in (session.urlopen, session.open):
        signed = SignedObject(fault_server, lambda request: Reply(body=BODY), uses=2)
        with way(signed.sign) as fh:
            for start in (0, 2_900_000, 100, 1_500_000, 700_000, 2_999_000, 500_000):
                fh.seek(start)
                assert fh.read(1000) == BODY[start : start + 1000]
            fh.seek(0)
            assert fh.read() == BODY
        assert signed.one_for_each_expiry and len(signed.used) >= 3


def test_ranges_facts_and_memory(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    signed = SignedObject(fault_server, lambda request: Reply(body=BODY), uses=4)
    spans = [(start, start + 50) for start in range(0, len(BODY), 50_000)]
    assert list(session.read_ranges(signed.sign, spans)) == [BODY[start:stop] for start, stop in spans]
    assert session.read(signed.sign, offset=-10) == BODY[-10:]
    assert session.info(signed.sign).size == len(BODY)
    assert asyncio.run(session.ainfo(signed.asign)).size == len(BODY)
    assert asyncio.run(session.aread(signed.asign)) == BODY
    assert asyncio.run(session.aread_ranges(signed.asign, spans))[7] == BODY[350_000:350_050]
    buffer = bytearray(len(BODY))
    assert session.readinto(signed.sign, buffer) == len(BODY) and buffer == BODY
    with session.shared(signed.sign, once=True) as shared:
        assert shared.view == BODY


def test_the_statistics_have_it(session: getm.Session, signed: SignedObject) -> None:
    with session.iter_content(signed.sign) as parts:
        list(parts)
        assert parts.stats.retries["expired"] == signed.refused == len(signed.used) - 1
        assert parts.url.startswith(signed.url)


# When it is asked ----------------------------------------------------------------------------------------------------


def test_a_queued_download_is_signed_just_before_it_starts(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    entries, order = [], []

    def provider(number: int) -> Provider:
        url = fault_server.serve(f"/{number}", Reply(body=BODY))

        def sign() -> str:
            order.append((number, len(fault_server.requests)))
            return f"{url}?SECRET"

        return sign

    entries = [getm.Entry(provider(number), f"{number}") for number in range(5)]
    list(session.download_all(entries, directory=tmp_path, jobs=1, concurrency=1))
    assert order == [(number, number) for number in range(5)]


def test_an_expired_url_is_not_requested(session: getm.Session, fault_server: FaultServer) -> None:
    """Where its time is known: the connection breaks when that has passed."""
    signed = SignedObject(fault_server, cut(BODY, 1_000_000), uses=100)
    slow = SignedObject(fault_server, lambda request: Reply(body=BODY, delay_s=0.3, cut_at=1_000), uses=1, path="/slow")

    def sign() -> getm.Resource:
        lives_s, by = (3600, signed) if slow.used else (0.2, slow)
        return getm.Resource(by.sign(), expires_at=time.time() + lives_s)

    assert session.read(sign) == BODY
    assert len(slow.used) == len(signed.used) == 1 and not slow.refused and not signed.refused


def test_a_time_that_has_passed_already_says_nothing(session: getm.Session, fault_server: FaultServer) -> None:
    signed = SignedObject(fault_server, cut(BODY, 1_000_000), uses=2)
    assert session.read(lambda: getm.Resource(signed.sign(), expires_at=time.time() - 60)) == BODY
    assert len(signed.used) == 2


@pytest.mark.parametrize("status", [401, 403, 410])
def test_how_servers_refuse_an_expired_signature(status: int, session: getm.Session, fault_server: FaultServer) -> None:
    signed = SignedObject(fault_server, cut(BODY, 1_000_000), uses=1, refusal=failure(status))
    assert session.read(signed.sign, concurrency=4) == BODY
    assert signed.one_for_each_expiry


def test_other_refusals_are_no_reason_to_ask(session: getm.Session, fault_server: FaultServer) -> None:
    signed = SignedObject(fault_server, lambda request: Reply(body=BODY), uses=0, refusal=failure(404))
    with pytest.raises(errors.HTTPStatusError, match="404"):
        session.read(signed.sign)
    assert len(signed.used) == 1


# What it may say ----------------------------------------------------------------------------------------------------


def test_headers_go_to_the_origin_of_the_url_alone(
    session: getm.Session, fault_server: FaultServer, other_server: FaultServer
) -> None:
    url, mirror = fault_server.serve("/x", failure(404)), other_server.serve("/x", Reply(body=BODY))
    resource = getm.Resource(url, headers={"Authorization": "Bearer SECRET", "X-A": "own"}, mirrors=[mirror])
    assert session.read(lambda: resource, headers={"X-A": "general", "X-B": "general"}) == BODY
    first, second = fault_server.requests[0], other_server.requests[-1]
    assert (first.header("Authorization"), first.header("X-A"), first.header("X-B")) == (
        "Bearer SECRET",
        "own",
        "general",
    )
    assert (second.header("Authorization"), second.header("X-A")) == (None, "general")


def test_mirrors_are_renewed_with_the_url(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/gone", failure(404))
    mirror = SignedObject(fault_server, cut(BODY, 1_000_000), uses=1)
    checksum = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
    resource = lambda: getm.Resource(url, mirrors=[mirror.sign()], checksums=checksum, size=len(BODY))  # noqa: E731
    with session.iter_content(resource) as parts:
        assert b"".join(parts) == BODY
        assert parts.checksum.verified
    assert len(mirror.used) == 3


def test_checksum_and_size(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    wrong, right = f"md5:{'0' * 32}", f"md5:{hashlib.md5(BODY).hexdigest()}"
    with pytest.raises(errors.ChecksumMismatch):
        session.read(lambda: getm.Resource(url, checksums=[wrong]))
    assert session.read(lambda: getm.Resource(url, checksums=wrong), checksum=right) == BODY
    with pytest.raises(errors.SizeMismatch):
        session.read(lambda: getm.Resource(url, size=5))


def test_the_version_is_pinned(session: getm.Session, fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    first = Reply(body=BODY, stall_at=500_000, gate=gate, cut_at=1_000_000, then="close")
    signed = SignedObject(fault_server, lambda request: first, uses=1)
    other = SignedObject(
        fault_server, lambda request: Reply(body=bytes(len(BODY)), etag='"other"'), uses=100, path="/other"
    )
    with session.urlopen(lambda: other.sign() if signed.used else signed.sign()) as fh:
        assert fh.read(10_000) == BODY[:10_000]
        gate.open()
        with pytest.raises(errors.RemoteChanged):
            fh.read()


# What goes wrong -----------------------------------------------------------------------------------------------------


def let_go(release: threading.Event) -> None:
    """End the providers that wait for it."""
    release.set()
    for thread in threading.enumerate():
        if thread.name == "getm-resolve":
            thread.join()


class Broken(Exception):
    """Of a provider."""


def failing_later(signed: SignedObject) -> Provider:
    def sign() -> str:
        if signed.used:
            raise Broken("no more signatures for https://host/x?SECRET")
        return signed.sign()

    return sign


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("way", ways.STREAMS)
def test_what_it_raises_comes_out_with_its_cause(
    way: str, concurrency: int | None, session: getm.Session, signed: SignedObject
) -> None:
    outcome = ways.stream(way, session, failing_later(signed), concurrency=concurrency)
    assert isinstance(outcome.error, errors.ResolveFailed) and isinstance(outcome.error.__cause__, Broken)
    assert "failing_later.<locals>.sign: Broken: no more signatures for https://host/x" in outcome.error.message
    assert "SECRET" not in str(outcome.error) and outcome.error.stats is not None
    assert outcome.holds_only(BODY)


@pytest.mark.parametrize("way", ["download", "adownload", "download_all"])
def test_what_it_raises_ends_a_download(way: str, session: getm.Session, signed: SignedObject, tmp_path: Path) -> None:
    outcome = ways.file(way, session, failing_later(signed), tmp_path / "later")
    assert isinstance(outcome.error, errors.ResolveFailed) and isinstance(outcome.error.__cause__, Broken)

    def never() -> str:
        raise Broken

    outcome = ways.file(way, session, never, tmp_path / "never")
    assert isinstance(outcome.error, errors.ResolveFailed) and isinstance(outcome.error.__cause__, Broken)


@pytest.mark.parametrize("concurrency", MODES)
def test_a_provider_of_expired_urls_is_asked_a_few_times(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    signed = SignedObject(fault_server, lambda request: Reply(body=BODY), uses=0)
    with pytest.raises(errors.HTTPStatusError, match="403 Forbidden; 2 new URLs for it were refused as well"):
        session.read(signed.sign, concurrency=concurrency)
    assert len(signed.used) == 3
    url = signed.sign()
    with pytest.raises(errors.HTTPStatusError, match="its provider gave the same again"):
        session.read(lambda: url, concurrency=concurrency)


@pytest.mark.parametrize("answer", [None, 7, "", "http://", "nothing://x/y", b"http://host/x", ["http://host/x"]])
def test_what_is_no_url(answer: object, session: getm.Session) -> None:
    with pytest.raises(errors.ResolveFailed, match="no URL could be had from test_what") as caught:
        session.read(lambda: answer)  # type: ignore[arg-type, return-value]  # that is the point
    assert isinstance(caught.value.__cause__, errors.InvalidInput)


def test_no_thread_for_it(session: getm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(errors.ResolveFailed, match="RuntimeError: can't start new thread"):
            session.read(lambda: "http://host/x")


def test_an_asynchronous_provider_needs_an_asynchronous_function(session: getm.Session, signed: SignedObject) -> None:
    with pytest.raises(errors.ResolveFailed, match="only the asynchronous functions"):
        session.read(signed.asign)
    assert signed.used == []


def test_it_may_take_as_long_as_silence(session: getm.Session, signed: SignedObject, tmp_path: Path) -> None:
    release = threading.Event()

    def slow() -> str:
        if signed.used:
            release.wait()
        return signed.sign()

    async def asleep() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    def late(call: Callable[[], object]) -> None:
        with pytest.raises(errors.ResolveFailed, match=r"it took longer than 0\.2 s") as caught:
            call()
        assert isinstance(caught.value.__cause__, TimeoutError)

    try:
        late(lambda: session.read(slow, timeout=0.2))
        late(lambda: session.read(slow, timeout=0.2))
        late(lambda: session.download(slow, tmp_path / "x", timeout=0.2))
        late(lambda: asyncio.run(session.aread(asleep, timeout=0.2)))
    finally:
        let_go(release)


@pytest.mark.parametrize("phase", ["first", "later"])
def test_a_close_does_not_wait_for_it(phase: str, fault_server: FaultServer, tmp_path: Path) -> None:
    signed = SignedObject(fault_server, cut(BODY, 300_000), uses=3)
    asked, release = threading.Event(), threading.Event()

    def hangs() -> str:
        if phase == "first" or signed.used:
            asked.set()
            release.wait()
        return signed.sign()

    def closer(session: getm.Session) -> None:
        asked.wait()
        session.close()

    try:
        for call in (
            lambda session: session.read(hangs, timeout=None),
            lambda session: list(session.iter_content(hangs, timeout=None)),
            lambda session: asyncio.run(session.aread(hangs, timeout=None)),
            lambda session: session.download(hangs, tmp_path / "x", timeout=None),
        ):
            session = getm.Session()
            thread = threading.Thread(target=closer, args=(session,))
            thread.start()
            with pytest.raises(errors.ReaderClosed):
                call(session)
            thread.join()
            asked.clear()
            signed.used.clear()
    finally:
        let_go(release)


def test_a_cancelled_task_cancels_it(session: getm.Session) -> None:
    async def main() -> str:
        asked, ended = asyncio.Event(), asyncio.Event()

        async def provider() -> str:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError

        task = asyncio.create_task(session.aread(provider))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended.wait()
        return "ended"

    assert asyncio.run(main()) == "ended"


# Secrets ------------------------------------------------------------------------------------------------------------


def test_no_secret_in_events_results_receipts_or_logs(
    session: getm.Session, signed: SignedObject, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[getm.Event] = []

    def resource() -> getm.Resource:
        return getm.Resource(signed.sign(), headers={"Authorization": "SECRET"})

    entries = [getm.Entry(resource, "good"), getm.Entry(failing_later(signed), "bad")]
    with caplog.at_level(logging.DEBUG):
        results = list(
            session.download_all(
                entries,
                directory=tmp_path,
                jobs=1,
                continue_after_error=True,
                receipt=tmp_path / "receipt",
                on_event=events.append,
            )
        )
    assert [type(each) for each in sorted(results, key=lambda each: each.index)] == [
        getm.DownloadResult,
        getm.DownloadFailure,
    ]
    told = [
        repr(events),
        repr(results),
        caplog.text,
        (tmp_path / "receipt").read_text(),
        repr(entries),
        repr(resource()),
    ]
    told += [str(event.to_json()) for event in events if hasattr(event, "to_json")]
    assert any("expired" in each for each in told)
    assert not any("SECRET" in each for each in told)
