"""Every mode and every face against a real nginx: the same bytes, whatever the size."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import getm
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

SLOT = 1024 * 1024
SIZES = (0, 1, SLOT - 1, SLOT, SLOT + 1, 40 * SLOT + 12345)
MODES = (1, 2, 5, None)
Make = Callable[..., ServedObject]


@pytest.fixture
def session(shared_session: Callable[..., getm.Session], nginx: NginxServer) -> getm.Session:
    return shared_session(processes=2, cacert=nginx.ca_path)


def joined(parts: Iterator[memoryview]) -> bytes:
    # Not b"".join(parts): that keeps every view until the last one is there.
    return b"".join(map(bytes, parts))


# Over TLS the bytes come by another path of the event loop, whose ends are the same for all sizes.
@pytest.mark.parametrize(
    ("size", "tls"), [*((size, False) for size in SIZES), *((size, True) for size in (0, SLOT + 1, SIZES[-1]))]
)
@pytest.mark.parametrize("concurrency", MODES)
def test_all_faces_give_the_same_bytes(
    size: int, concurrency: int | None, tls: bool, session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(size)
    expected, url = served.read(), nginx.url(served, tls=tls)
    with session.urlopen(url, concurrency=concurrency) as fh:
        assert fh.size == size
        assert fh.read() == expected
        assert len(fh.read()) == 0
        assert fh.tell() == size
    with session.urlopen(url, concurrency=concurrency) as fh:
        buffer, filled = bytearray(size + 10), 0
        # What has come, and never nothing before the end.
        while count := fh.readinto(memoryview(buffer)[filled:]):
            filled += count
        assert filled == size
        assert buffer[:size] == expected
    assert joined(session.iter_content(url, concurrency=concurrency)) == expected
    assert session.read(url, concurrency=concurrency) == expected
    placed = bytearray(size)
    for offset, part in session.iter_content_unordered(url, concurrency=concurrency):
        placed[offset : offset + len(part)] = part
    assert placed == expected

    async def collect() -> tuple[bytes, bytes]:
        ordered = b"".join([bytes(part) async for part in session.aiter_content(url, concurrency=concurrency)])
        unordered = bytearray(size)
        async for offset, part in session.aiter_content_unordered(url, concurrency=concurrency):
            unordered[offset : offset + len(part)] = part
        return ordered, bytes(unordered)

    assert asyncio.run(collect()) == (expected, expected)


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("via", ("chunked", "close-delimited", "no-ranges", "redirect/relative", "gzip-always"))
def test_unusual_responses_give_the_same_bytes(
    via: str, concurrency: int | None, session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    """Those whose length is not known take the plain path, and no server is made to grant ranges."""
    served = make_object(5 * SLOT + 17)
    expected = nginx.objects.add_gzip(served) if via == "gzip-always" else served.read()
    with session.urlopen(nginx.url(served, via=via), concurrency=concurrency) as fh:
        assert fh.read() == expected
        assert fh.size == len(expected)


@pytest.mark.parametrize("concurrency", (1, 4, None))
@pytest.mark.parametrize("chunk_size", (1, 7, 4096, 300_000, SLOT, 3 * SLOT + 1, 100 * SLOT))
def test_chunks_have_the_size_asked_for(
    chunk_size: int, concurrency: int | None, session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    size = 40_001 if chunk_size < 100 else 12 * SLOT + 5
    served = make_object(size)
    parts = list(map(bytes, session.iter_content(nginx.url(served), chunk_size, concurrency=concurrency)))
    assert {len(part) for part in parts[:-1]} <= {chunk_size}
    assert 0 < len(parts[-1]) <= chunk_size
    assert b"".join(parts) == served.read()


def test_reads_of_any_length_follow_each_other(session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(40 * SLOT + 12345)
    expected = served.read()
    with session.urlopen(nginx.url(served)) as fh:
        for size in (1, 0, SLOT, SLOT - 1, 3 * SLOT, 17, 12 * SLOT, 20 * SLOT, 100 * SLOT):
            at = fh.tell()
            view = fh.read(size)
            assert isinstance(view, memoryview)
            assert view.readonly
            assert view == expected[at : at + size]
        assert fh.tell() == len(expected)


def test_a_long_read_over_adjacent_slots_is_no_copy(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(40 * SLOT + 12345)
    with getm.Session() as fresh, fresh.urlopen(nginx.url(served)) as fh:
        view = fh.read(3 * SLOT)
        # A copy would lie in a bytes object; shared memory lies in a ctypes array.
        assert not isinstance(view.obj, bytes | bytearray)
        assert view == served.read(0, 3 * SLOT)


def test_a_buffered_reader_and_numpy_take_it(session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    served = nginx.objects.write("lines.txt", b"first line\nsecond line\n" * 1000)
    with io.BufferedReader(session.urlopen(nginx.url(served))) as buffered:
        assert buffered.readline() == b"first line\n"
        assert buffered.read() == served.read()[11:]
    with session.urlopen(nginx.url(served)) as fh:
        array = np.frombuffer(fh.read(1000), dtype=np.uint8)
        assert array.tobytes() == served.read(0, 1000)
        assert not array.flags.writeable
    with session.urlopen(nginx.url(served)) as fh, pytest.raises(io.UnsupportedOperation, match="BufferedReader"):
        fh.readline()


def test_what_an_open_url_tells(session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(1000)
    url = nginx.declared_url(served, content_md5=served.md5_base64) + "&X-Amz-Signature=secret"
    with session.urlopen(url) as fh:
        assert fh.readable()
        assert not fh.closed
        assert (fh.size, fh.tell(), fh.url) == (1000, 0, url)
        assert fh.name == served.path.name
        assert fh.headers["CONTENT-length"] == "1000"
        assert not fh.checksum.verified
        fh.read()
        assert fh.checksum.verified
        assert (fh.checksum.source, str(fh.checksum.checksum)) == ("Content-MD5", f"md5:{served.md5_hex}")
    assert fh.closed
    with pytest.raises(getm.errors.ReaderClosed):
        fh.read()


@pytest.mark.slow
@pytest.mark.deadline(240)
@pytest.mark.parametrize(("concurrency", "tls"), [(1, False), (4, False), (None, False), (4, True)])
def test_a_gigabyte(
    concurrency: int | None, tls: bool, session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(1_000_000_000)
    digest = hashlib.sha256()
    for part in session.iter_content(
        nginx.url(served, tls=tls), concurrency=concurrency, checksum=f"md5:{served.md5_hex}"
    ):
        digest.update(part)
    assert digest.digest() == served.sha256


def test_row_27_signed_urls_arrive_byte_identical(session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(1000)
    query = "?X-Amz-Credential=AK%2Fus-east-1%2Fs3&sig=a%2Bb%27c%20d+e%2f~*'()&empty=&flag"
    mark = nginx.log.mark()
    assert session.read(nginx.url(served) + query + "#fragment", headers={"X-Own": "1"}) == served.read()
    (request,) = nginx.log.since(mark)
    assert request.target == f"{served.url_path}{query}"
    assert (request.accept_encoding, request.range) == ("identity", "")


def test_only_get_is_used_and_connections_are_kept(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(20 * SLOT)
    mark = nginx.log.mark()
    with getm.Session() as session:
        for concurrency in (1, 1, 3):
            assert session.read(nginx.url(served), concurrency=concurrency) == served.read()
    requests = nginx.log.since(mark)
    assert {request.method for request in requests} == {"GET"}
    # The third read needs up to three connections; the first two shared one.
    assert len({request.connection for request in requests}) <= 3
    assert requests[0].connection == requests[1].connection
