"""The benchmarks' proxy passes bytes as they are and counts them. How fast it passes them: tests/unit/benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import getm
from benchmarks.link import Link
from benchmarks.proxy import shaped
from tests.support.nginx import NginxServer

SIZE_BYTES = 3_000_017


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    "link",
    [
        Link(),
        Link(rate=50e6, rtt_s=0.01, jitter_s=0.005, slow_start=True),
        Link(total_rate=50e6, reset_bytes=2_000_000),
    ],
    ids=["plain", "far", "reset"],
)
def test_every_byte_passes(
    nginx: NginxServer, shared_session: Callable[..., getm.Session], link: Link, tls: bool
) -> None:
    served = nginx.objects.make(SIZE_BYTES)
    port = nginx.https_port if tls else nginx.http_port
    with shaped(port, link) as proxy:
        content = shared_session(cacert=nginx.ca_path).read(proxy.url(nginx.url(served, tls=tls)))
        report = proxy.report()

    assert content == served.read()
    assert report.response_bytes >= SIZE_BYTES
    assert report.connections >= report.most_at_once >= 1


def test_a_reset_is_one_for_the_client_and_is_counted(
    nginx: NginxServer, shared_session: Callable[..., getm.Session]
) -> None:
    served = nginx.objects.make(SIZE_BYTES)
    with shaped(nginx.http_port, Link(reset_bytes=10_000)) as proxy:
        with pytest.raises(getm.NetworkError):
            shared_session().read(proxy.url(nginx.url(served)), retries=0)
        report = proxy.report()
        again = proxy.report()

    assert report.resets == 1
    assert report.response_bytes < SIZE_BYTES
    assert again.connections == again.resets == again.response_bytes == 0


def test_the_end_of_the_server_is_one_for_the_client(
    shared_session: Callable[..., getm.Session], tmp_path: Path
) -> None:
    with NginxServer(tmp_path, log=False) as gone:
        url = gone.url(gone.objects.make(1000))
    with shaped(gone.http_port, Link()) as proxy, pytest.raises(getm.NetworkError):
        shared_session().read(proxy.url(url), retries=0)
