"""What a head says of its content's length and codings, in all forms that RFC 9112 permits."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import zlib

import pytest
from aiohttp.http import RawResponseMessage
from hypothesis import given
from hypothesis import strategies as st

from getm import errors
from getm.core.head import HeadError, ResponseHead, header_lines
from getm.engine.http.framing import decoded, frame, plain_head, usual_length
from getm.engine.http.response_protocol import ResponseProtocol, receive_buffer

BODY = random.Random(4).randbytes(100_000) + bytes(900_000)


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([status, "Server: x", *lines, "ETag: y", "", ""]).encode("latin-1")


def framed(*lines: str) -> tuple[list[bytes], tuple[str, ...], bool]:
    """The framing fields that are left, the codings to take off, and whether the connection can be kept."""
    framing = frame(head(*lines))
    kept = framing.head.split(b"\r\n")
    assert kept[0] == b"HTTP/1.1 200 OK" and kept[-2:] == [b"", b""] and b"Server: x" in kept and b"ETag: y" in kept
    return [line for line in kept[1:-2] if line[:1] in b"CT"], framing.codings, framing.reusable


@pytest.mark.parametrize(
    ("lines", "kept", "codings"),
    [
        (["Transfer-Encoding: chunked"], [b"Transfer-Encoding: chunked"], ()),
        (["transfer-encoding: CHUNKED"], [b"Transfer-Encoding: chunked"], ()),
        (["Transfer-Encoding: chunked,"], [b"Transfer-Encoding: chunked"], ()),
        (["Transfer-Encoding: , ,chunked ,\t,"], [b"Transfer-Encoding: chunked"], ()),
        (["Transfer-Encoding: identity, chunked"], [b"Transfer-Encoding: chunked"], ()),
        (["Transfer-Encoding:\r\n chunked"], [b"Transfer-Encoding: chunked"], ()),
        (["Transfer-Encoding: gzip, chunked"], [b"Transfer-Encoding: chunked"], ("gzip",)),
        (["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"], [b"Transfer-Encoding: chunked"], ("gzip",)),
        (["Transfer-Encoding: X-GZip,,chunked,"], [b"Transfer-Encoding: chunked"], ("gzip",)),
        (["Transfer-Encoding: deflate, gzip, chunked"], [b"Transfer-Encoding: chunked"], ("gzip", "deflate")),
        (["Transfer-Encoding: gzip"], [], ("gzip",)),
        (["Transfer-Encoding: deflate,"], [], ("deflate",)),
        (["Transfer-Encoding: identity"], [], ()),
        (["Transfer-Encoding:"], [], ()),
    ],
)
def test_case_4_transfer_codings_that_are_understood(
    lines: list[str], kept: list[bytes], codings: tuple[str, ...]
) -> None:
    found, to_take_off, reusable = framed(*lines)
    assert ([line.lower() for line in found], to_take_off) == ([line.lower() for line in kept], codings)
    assert reusable
    # With a length beside it the codings count, and the connection is not kept (RFC 9112, section 6.3).
    if any(kept) or codings:
        assert framed(*lines, "Content-Length: 5") == (kept, codings, False)
        assert framed("Content-Length: nonsense", *lines)[:2] == (kept, codings)


@pytest.mark.parametrize(
    "value",
    (
        *("x-new", "chunked;a=b", "chunked; a=b", "gzip;q=1, chunked", "chunked, chunked", "chunked, gzip", "br"),
        *("compress, chunked", '"chunked"', "chunked gzip", "identity;a", "chun\xe9ked", "zstd, chunked", "x" * 60_000),
    ),
)
def test_case_4_what_is_not_understood_is_refused(value: str) -> None:
    for lines in ([f"Transfer-Encoding: {value}"], [f"Transfer-Encoding: {value}", "Content-Length: 5"]):
        with pytest.raises(HeadError, match="Transfer-Encoding is") as caught:
            frame(head(*lines))
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["Content-Length: 5"], [b"Content-Length: 5"]),
        (["Content-Length: 5", "content-length: 5"], [b"Content-Length: 5"]),
        (["Content-Length: 5, 5,5"], [b"Content-Length: 5"]),
        (["Content-Length: 05", "Content-Length: 5"], [b"Content-Length: 5"]),
        (["Content-Length: 5", "Transfer-Encoding: identity"], [b"Content-Length: 5"]),
        # Not for us to choose: the parser refuses them.
        (["Content-Length: 5", "Content-Length: 6"], [b"Content-Length: 5", b"Content-Length: 6"]),
        (["Content-Length: 5,"], [b"Content-Length: 5,"]),
        (["Content-Length: -5"], [b"Content-Length: -5"]),
        (["Content-Length: 1e3"], [b"Content-Length: 1e3"]),
        (["Content-Length: " + "9" * 30], [b"Content-Length: " + b"9" * 30]),
        ([], []),
    ],
)
def test_case_33_equal_lengths_are_one_and_identity_is_none(lines: list[str], kept: list[bytes]) -> None:
    assert framed(*lines) == (kept, (), True)


@pytest.mark.parametrize(
    ("lines", "status", "length"),
    [
        (["Content-Length: 5"], "HTTP/1.1 200 OK", 5),
        (["content-length:\t007 "], "HTTP/1.0 206 Partial Content", 7),
        (["Content-Length: 5", "X-Content-Length: 6"], "HTTP/1.1 200 OK", None),
        (["Content-Length: 5", "Content-Length: 5"], "HTTP/1.1 200 OK", None),
        (["Content-Length: 5, 5"], "HTTP/1.1 200 OK", None),
        (["Content-Length: 5\r\n ,6"], "HTTP/1.1 200 OK", 5),
        (["Content-Length: -5"], "HTTP/1.1 200 OK", None),
        (["Content-Length: 5", "Transfer-Encoding: chunked"], "HTTP/1.1 200 OK", None),
        (["Content-Length: 5"], "HTTP/1.1 304 Not Modified", None),
        (["Content-Length: 5"], "HTTP/1.1 100 Continue", None),
        ([], "HTTP/1.1 200 OK", None),
    ],
)
def test_the_usual_head_is_known_at_a_glance(lines: list[str], status: str, length: int | None) -> None:
    """Wherever it is, the head stays as it is: the parser judges what goes on in further lines."""
    given_head = head(*lines, status=status)
    assert usual_length(given_head) == length
    if length is not None and "\n" not in lines[0]:
        assert frame(given_head).head.lower().count(b"content-length: %d" % length) == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ("Content-Length", "content-length", "Content-Range", "ETag", "X-A", "Connection", "Trailer", "A B", "")
            ),
            st.sampled_from(
                ("5", " 5", "5\t", "05", "+5", "5, 5", "", "close", "keep-alive", '"e"', "\x7f", "é", "a\r b")
            ),
        ),
        max_size=5,
    ),
    st.sampled_from(
        ("HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.0 200 OK", "HTTP/1.1 206 OK", "HTTP/1.1 2000")
    ),
)
def test_a_plain_head_is_what_the_parser_finds_in_it(fields: list[tuple[str, str]], status: str) -> None:
    text = "".join([f"{line}\r\n" for line in (status, *(f"{name}:{value}" for name, value in fields))]) + "\r\n"
    head = text.encode("latin-1")
    wanted = 206 if "206" in status else 200
    found = plain_head(head, wanted)
    assert plain_head(head, 406 - wanted) is None
    if found is None:
        return
    message = parsed(head)
    assert message.code == wanted and len(found.fields.get("content-range", ())) == (wanted == 206)
    assert not message.should_close and message.reason == found.reason
    assert header_lines(message.raw_headers) == found.lines
    assert usual_length(head) == found.length == int(message.headers["Content-Length"])
    assert found.fields == ResponseHead(200, "", found.lines).fields


def parsed(head: bytes) -> RawResponseMessage:
    """As aiohttp's parser reads it."""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        protocol = ResponseProtocol(loop, receive_buffer())
        protocol.expect_head()
        protocol.data_received(head)
        return loop.run_until_complete(protocol.read())[0]


def test_transfer_codings_of_http_1_0_are_not_trusted_for_another_response() -> None:
    assert not frame(head("Transfer-Encoding: chunked", status="HTTP/1.0 200 OK")).reusable


def test_which_heads_are_followed_by_another() -> None:
    found = {status for status in range(1000) if frame(head(status=f"HTTP/1.1 {status:03} x")).interim}
    assert found == {*range(100, 200)} - {101}


@given(
    st.lists(st.sampled_from([b"Transfer-Encoding", b"Content-Length", b":", b",", b"5", b"chunked", b"\r\n", b" "]))
)
def test_whatever_comes_is_framed_or_refused(pieces: list[bytes]) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + b"".join(pieces) + b"\r\n\r\n"
    try:
        plain = frame(data).head
    except HeadError:
        return
    assert plain.startswith(b"HTTP/1.1 200 OK\r\n") and plain.endswith(b"\r\n")
    # Once is enough.
    assert frame(plain).head == plain or plain == data


def decode(coding: str, coded: bytes, step: int) -> bytes:
    """What comes of `coded`, given in pieces of `step` bytes."""
    pieces = iter([coded[start : start + step] for start in range(0, len(coded), step)])

    async def read() -> bytes:
        return next(pieces, b"")

    async def run() -> bytes:
        found = [piece async for piece in decoded(coding, read)]
        assert all(0 < len(piece) <= 256 * 1024 for piece in found)
        return b"".join(found)

    return asyncio.run(run())


RAW_DEFLATE = zlib.compress(BODY)[2:-4]


@pytest.mark.parametrize("step", (1000, 65536, 10**7))
@pytest.mark.parametrize(
    ("coding", "coded"),
    [
        ("gzip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:500_000]) + gzip.compress(b"") + gzip.compress(BODY[500_000:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", RAW_DEFLATE),
        ("gzip", gzip.compress(BODY + bytes(3 * 2**20))),
    ],
    ids=("gzip", "gzip in members", "deflate", "deflate without its wrapper", "far smaller than its content"),
)
def test_case_4_a_coding_is_taken_off(coding: str, coded: bytes, step: int) -> None:
    found = decode(coding, coded, step)
    assert found[: len(BODY)] == BODY and not any(found[len(BODY) :])


def test_case_4_an_empty_content_may_be_coded() -> None:
    assert decode("gzip", gzip.compress(b""), 1) == b""


@pytest.mark.parametrize("coded", (b"", gzip.compress(BODY)[:-1], gzip.compress(BODY)[:1000], b"\x1f"))
def test_case_4_a_coded_content_that_ends_too_soon(coded: bytes) -> None:
    with pytest.raises(errors.Truncated, match="gzip"):
        decode("gzip", coded, 1000)


@pytest.mark.parametrize("coded", (BODY, gzip.compress(BODY) + b"more", b"\x1f\x8b" + bytes(100)))
def test_case_4_a_content_that_is_not_coded_as_it_says(coded: bytes) -> None:
    with pytest.raises(errors.BadResponse, match="gzip"):
        decode("gzip", coded, 1000)
