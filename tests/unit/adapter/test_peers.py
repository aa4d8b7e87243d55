"""Whose socket it is."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from getm.adapter import peers


@pytest.mark.parametrize(("user", "allowed"), [(1001, True), (0, True), (1002, False), (None, True)])
def test_other_users_are_refused(monkeypatch: pytest.MonkeyPatch, user: int | None, allowed: bool) -> None:
    monkeypatch.setattr(peers, "owner", lambda *_: user)
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    assert peers.is_of_this_user(("127.0.0.1", 1), ("127.0.0.1", 2)) is allowed


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
def test_the_owner_is_that_of_the_other_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        # None where the kernel was made without it.
        assert peers.owner(ours.getsockname(), ours.getpeername()) in (os.geteuid(), None)
        assert peers.owner(ours.getsockname(), ("127.0.0.1", 1)) is None


def test_a_system_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    assert peers.owner(("127.0.0.1", 1), ("127.0.0.1", 2)) is None
