"""Each phase of a transfer has a limit of its own. A limit that is not kept shows as the test's deadline."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Pace, Reply
from tests.support import mounts

BODY = bytes(300_000)
LONG_S = 10_000.0
each_mode = pytest.mark.parametrize("concurrency", (1, 3, None))
pytestmark = pytest.mark.deadline(30)


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Somebody listens, accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("connect_s", (LONG_S, None))
@each_mode
def test_case_50_the_head_has_a_limit_of_its_own(
    connect_s: float | None, concurrency: int | None, session: getm.Session, silent_port: int
) -> None:
    timeout = getm.Timeout(connect_s=connect_s, stall_s=0.2, floor_bytes_s=None)
    with pytest.raises(errors.TimedOut, match=r"no response within 0.2 s") as caught:
        session.read(f"http://127.0.0.1:{silent_port}/", concurrency=concurrency, timeout=timeout)
    assert (caught.value.phase, caught.value.timeout_s) == ("response", 0.2)


@pytest.mark.parametrize("stall_s", (LONG_S, None))
@each_mode
def test_case_50_connecting_has_a_limit_of_its_own(
    stall_s: float | None, concurrency: int | None, session: getm.Session, silent_port: int
) -> None:
    """TLS is a part of it: here, its first message is never answered."""
    timeout = getm.Timeout(connect_s=0.2, stall_s=stall_s, floor_bytes_s=None)
    with pytest.raises(errors.TimedOut, match=r"within 0.2 s") as caught:
        session.read(f"https://127.0.0.1:{silent_port}/", concurrency=concurrency, timeout=timeout)
    assert (caught.value.phase, caught.value.timeout_s) == ("connect", 0.2)


@each_mode
def test_case_50_so_has_a_proxy_that_does_not_answer(
    concurrency: int | None, session: getm.Session, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    timeout = getm.Timeout(connect_s=0.2, stall_s=LONG_S, floor_bytes_s=None)
    with pytest.raises(errors.TimedOut) as caught:
        session.read("https://data.example/", concurrency=concurrency, timeout=timeout)
    assert caught.value.phase == "connect"


@each_mode
@pytest.mark.parametrize("framing", ("length", "chunked", "close"))
def test_case_50_silence_in_a_body_has_the_same_limit_in_every_framing(
    framing: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    gate = fault_server.gate()
    reply = Reply(body=BODY, ranges=False, framing=framing, stall_at=100_000, gate=gate)  # type: ignore[arg-type]
    url = fault_server.serve("/x", reply)
    timeout = getm.Timeout(connect_s=None, stall_s=0.2, floor_bytes_s=None)
    with session.urlopen(url, concurrency=concurrency, timeout=timeout) as fh, pytest.raises(errors.TimedOut) as caught:
        fh.read()
    assert (caught.value.phase, caught.value.timeout_s) == ("body", 0.2)
    gate.open()


def test_case_50_bytes_that_keep_coming_are_no_silence_however_long_they_take(
    session: getm.Session, fault_server: FaultServer
) -> None:
    for framing in ("length", "chunked"):
        reply = Reply(body=BODY, framing=framing, pace=Pace(20_000, 0.1))
        url = fault_server.serve(f"/{framing}", reply)
        assert session.read(url, timeout=getm.Timeout(stall_s=1.0, floor_bytes_s=None)) == BODY


@each_mode
def test_case_50_a_status_is_told_before_its_page_has_come(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(status=404, body=b"page", stall_at=1, gate=gate))
    with pytest.raises(errors.HTTPStatusError, match="404"):
        session.read(url, concurrency=concurrency, timeout=getm.Timeout(stall_s=LONG_S))
    gate.open()


# Names ------------------------------------------------------------------------------------------------------------


@each_mode
def test_case_50_a_name_that_does_not_exist_is_told_at_once(concurrency: int | None, tmp_path: Path) -> None:
    """Not after the retries, which would wait for hours here."""
    files = tmp_path / "nsswitch.conf"
    files.write_text("hosts: files\n")
    patient = getm.Retries(5, base_s=LONG_S, cap_s=LONG_S)
    with mounts.replaced(Path("/etc/nsswitch.conf"), files), getm.Session(retries=patient) as session:
        with pytest.raises(errors.HostNotFound, match=r"there is no host nowhere\.example") as caught:
            session.read("http://nowhere.example/x", concurrency=concurrency)
        assert caught.value.attempts == 1
        assert isinstance(caught.value, errors.ConnectFailed)


@each_mode
def test_case_50_a_resolver_that_cannot_tell_is_asked_again(concurrency: int | None, tmp_path: Path) -> None:
    """Nobody answers on the address of the name server, which the kernel tells at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.77", 0))
    resolvers, order = tmp_path / "resolv.conf", tmp_path / "nsswitch.conf"
    resolvers.write_text("nameserver 127.0.0.77\noptions timeout:1 attempts:1\n")
    order.write_text("hosts: files dns\n")
    with (
        mounts.replaced(Path("/etc/nsswitch.conf"), order),
        mounts.replaced(Path("/etc/resolv.conf"), resolvers),
        getm.Session(retries=getm.Retries(2, base_s=0)) as session,
    ):
        with pytest.raises(errors.ConnectFailed, match="could not be resolved") as caught:
            session.read("http://nowhere.example/x", concurrency=concurrency)
        assert not isinstance(caught.value, errors.HostNotFound)
        assert caught.value.attempts == 3
