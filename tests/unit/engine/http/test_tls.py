"""How a connection that ends within the TLS handshake is told, whatever this version of Python calls it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest

from getm.engine.http.tls import open_tls


def error_of(kind: type[ssl.SSLError], reason: str) -> ssl.SSLError:
    error = kind(1, f"[SSL: {reason}] (_ssl.c:992)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (error_of(ssl.SSLEOFError, "UNEXPECTED_EOF_WHILE_READING"), ConnectionResetError),
        (error_of(ssl.SSLError, "UNEXPECTED_EOF_WHILE_READING"), ConnectionResetError),
        (error_of(ssl.SSLError, "WRONG_VERSION_NUMBER"), ssl.SSLError),
        (error_of(ssl.SSLCertVerificationError, "CERTIFICATE_VERIFY_FAILED"), ssl.SSLCertVerificationError),
    ],
    ids=["SSLEOFError", "Python 3.11.2", "no TLS", "certificate"],
)
async def test_an_end_within_the_handshake_is_a_lost_connection(error: ssl.SSLError, expected: type[OSError]) -> None:
    class Wrapped(socket.socket):
        def do_handshake(self) -> None:
            raise error

    class Context:
        def wrap_socket(self, sock: socket.socket, **_: Any) -> socket.socket:
            return Wrapped(fileno=sock.detach())

    near, far = socket.socketpair()
    with near, far, pytest.raises(expected) as raised:
        await open_tls(asyncio.get_running_loop(), asyncio.Protocol, near, Context(), "h")  # type: ignore[arg-type]  # all it needs of one
    assert isinstance(raised.value, ConnectionResetError) == (expected is ConnectionResetError)
