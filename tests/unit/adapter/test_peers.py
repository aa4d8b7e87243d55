"""Whose socket it is."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from getm.adapter import peers

# As the kernel writes it on a machine whose bytes are in this order.
HOST = "0100007F" if sys.byteorder == "little" else "7F000001"
TABLE = f"""\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: {HOST}:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: {HOST}:0400 {HOST}:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 2 1 0 20 4 30 10 -1
   2: {HOST}:1F90 {HOST}:0400 01 00000000:00000000 00:00000000 00000000     7        0 3 1 0 20 4 30 10 -1
"""


def test_the_owner_is_that_of_the_other_end() -> None:
    assert peers.owner(TABLE, ("127.0.0.1", 1024), ("127.0.0.1", 8080)) == 1001
    assert peers.owner(TABLE, ("127.0.0.1", 1025), ("127.0.0.1", 8080)) is None


@pytest.mark.parametrize(("user", "allowed"), [(1001, True), (1002, False)])
def test_other_users_are_refused(monkeypatch: pytest.MonkeyPatch, user: int, allowed: bool) -> None:
    monkeypatch.setattr(peers, "owner", lambda *_: user)
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    assert peers.is_of_this_user(("127.0.0.1", 1), ("127.0.0.1", 2)) is allowed


@pytest.mark.skipif(sys.platform != "linux", reason="there is no such table")
def test_a_real_connection_is_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        table = peers._TABLE.read_text()
        assert peers.owner(table, ours.getsockname(), ours.getpeername()) == os.geteuid()
