"""Whatever a server, a file or a broken engine sends: a value or one of getm's errors, in bounded time.

The modules' own tests have the particular cases; here is what cuts through several of them, and long input that is made
to take long: the deadline of a test is what fails then.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.head import HeaderMap, HeadError, ResponseHead, header_lines, retry_after_s
from getm.core.redact import redact
from getm.core.spans import parse_content_range
from getm.core.url import validate_url
from getm.errors import GetmError, InvalidInput, ProtocolError, from_wire
from getm.files.names import name_from_headers, name_from_url, safe_name
from getm.integrity.declared.discover import discover
from getm.integrity.sums_files import format_sums_line, parse_sums
from getm.integrity.values import parse_checksum
from getm.options import validate_headers
from getm.protocol.codec import FRAME, Decoder, decode_body, encode, encode_body
from getm.protocol.messages import FROM_ENGINE, EndInfo, FailedInfo, HeadInfo, Kind, OpenRequest, Record
from getm.protocol.order import Conversation
from tests.unit.protocol.test_codec import records

# The pipe ------------------------------------------------------------------------------------------------------------

BODIES: dict[Kind, type[Record]] = {
    Kind.OPEN: OpenRequest,
    Kind.HEAD: HeadInfo,
    Kind.END: EndInfo,
    Kind.FAILED: FailedInfo,
}


@st.composite
def mutated_streams(draw: st.DrawFn) -> bytes:
    """What an engine sends for one object, with bytes changed, left out, doubled, or moved."""
    frames = [
        encode_body(Kind.HEAD, 1, draw(records(Kind.HEAD))),
        *(encode(Kind.PART, 1, offset=index, slot=index, length=1) for index in range(draw(st.integers(0, 3)))),
        encode_body(Kind.END, 1, draw(records(Kind.END))),
        encode_body(Kind.FAILED, 1, draw(records(Kind.FAILED))),
    ]
    data = bytearray(b"".join(draw(st.permutations(frames)) if draw(st.booleans()) else frames))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        span = draw(st.integers(0, 2 * FRAME.size))
        match draw(st.sampled_from(("change", "drop", "double", "insert"))):
            case "change" if at < len(data):
                data[at] ^= draw(st.integers(1, 255))
            case "drop":
                del data[at : at + span]
            case "double":
                data[at:at] = data[at : at + span]
            case _:
                data[at:at] = draw(st.binary(max_size=FRAME.size))
    return bytes(data)


@given(mutated_streams(), st.integers(1, 100))
def test_a_mutated_stream_is_heard_or_refused(data: bytes, step: int) -> None:
    """By codec, order and bodies together, as a channel does it; an error that came so is rebuilt."""
    decoder, conversation = Decoder(FROM_ENGINE), Conversation()
    conversation.pass_(Kind.OPEN, 1)
    try:
        for start in range(0, len(data), step):
            for message in decoder.feed(data[start : start + step]):
                conversation.pass_(message.kind, message.object)
                kind = BODIES.get(message.kind)
                body = None if kind is None else decode_body(message, kind)
                if isinstance(body, FailedInfo):
                    error = from_wire(body.code, body.message, body.url, body.fields)
                    assert isinstance(error, GetmError) and str(error) is not None
    except ProtocolError:
        return


# What servers say ----------------------------------------------------------------------------------------------------

FIELDS = (
    *("Content-Length", "Content-Range", "Content-Encoding", "Transfer-Encoding", "ETag", "Last-Modified", "Date"),
    *("Retry-After", "Repr-Digest", "Content-Digest", "Digest", "Content-MD5", "x-goog-hash", "X-Linked-Etag"),
    *("x-goog-stored-content-encoding", "x-goog-stored-content-length", "x-amz-checksum-sha256", "X-Linked-Size"),
    *("x-amz-checksum-type", "x-amz-meta-s3cmd-attrs", "x-amz-mp-parts-count", "x-checksum-md5", "Server"),
    *("x-ms-blob-content-md5", "x-amz-server-side-encryption", "Content-Disposition", "Location"),
)
PIECES = (
    *(b"bytes ", b"0-4/5", b"*/", b"sha-256=:", b"md5=", b"=:", b":", b'"', b"W/", b"-2", b";", b",", b"=", b"'"),
    *(b"UTF-8''%e2%82", b"attachment; filename", b"*=", b"..", b"/", b"%2f", b"\x00", b"\xff", b"\r", b"\\", b" "),
    *(b"AAAAAAAAAAAAAAAAAAAAAA==", b"0123456789abcdef" * 4, b"99999999999999999999", b"Mon, 01 Jan 2024 00:00:00 GMT"),
)
values = st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=10).map(b"".join)
raw_headers = st.lists(st.tuples(st.sampled_from([name.encode() for name in FIELDS]), values), max_size=12)


def read_everything(raw: list[tuple[bytes, bytes]], *, status: int, size: int | None) -> None:
    """All that getm reads out of a response's head, from the bytes as they came."""
    headers = ResponseHead(200, "", header_lines(raw)).headers
    head = ResponseHead.of(status, "https://data.example/object", headers)
    try:
        head.content_length()
    except HeadError as error:
        assert len(str(error)) < 1000
    head.content_range()
    head.content_coding()
    head.strong_validator()
    retry_after_s(head, 0.0)
    dict(HeaderMap(head))
    found = discover([ResponseHead.of(302, "https://data.example/", headers), head], size=size)
    for declared in found.declared:
        assert parse_checksum(str(declared.checksum)) == declared.checksum
    name = name_from_headers(headers)
    assert name is None or safe_name(name) == name


@given(raw_headers, st.sampled_from((200, 206, 416)), st.none() | st.integers(0, 2**63 - 1))
def test_any_head_is_read(raw: list[tuple[bytes, bytes]], status: int, size: int | None) -> None:
    read_everything(raw, status=status, size=size)


_LONG_BYTES = 20_000
LONG = [
    piece * (_LONG_BYTES // len(piece)) for piece in (*PIECES, *map(b"".join, itertools.permutations(PIECES[3:10], 2)))
]


def test_long_headers_take_no_long_time() -> None:
    """What takes quadratic time would take minutes here."""
    for value in LONG:
        read_everything([(name.encode(), value) for name in FIELDS], status=206, size=5)


# What people and files say -------------------------------------------------------------------------------------------

TEXTS = [value.decode("latin-1") for value in LONG]


def typed(function: Callable[[str], object]) -> Callable[[str], object]:
    """The function, with getm's own refusals for values."""

    def call(text: str) -> object:
        try:
            return function(text)
        except InvalidInput as error:
            assert "HUNTER" not in f"{error}"
            return error

    return call


READERS: dict[str, Callable[[str], object]] = {
    "URL": validate_url,
    "URL with host": lambda text: validate_url(f"https://h/{text}"),
    "URL as host": lambda text: validate_url(f"https://{text}/"),
    "redacted": redact,
    "redacted URL": lambda text: redact(f"https://u:p@h/{text}"),
    "header": lambda text: validate_headers({"X-Name": text}),
    "header name": lambda text: validate_headers({text: "x"}),
    "name": safe_name,
    "name of URL": lambda text: name_from_url(f"https://h/{text}"),
    "sums": lambda text: parse_sums(text),
    "sums, escaped": lambda text: parse_sums(f"\\{'0' * 32}  {text}"),
    "sums, BSD": lambda text: parse_sums(f"MD5 ({text}) = {'0' * 32}"),
    "checksum": parse_checksum,
    "checksum of an algorithm": lambda text: parse_checksum(f"sha256:{text}"),
    "Content-Range": parse_content_range,
}


@pytest.mark.parametrize("reader", READERS)
def test_long_text_takes_no_long_time(reader: str) -> None:
    for text in TEXTS:
        typed(READERS[reader])(text)


@pytest.mark.parametrize("reader", READERS)
def test_any_text_is_a_value_or_invalid_input(reader: str) -> None:
    @given(
        st.text(max_size=60)
        | st.lists(st.sampled_from(PIECES), max_size=8).map(lambda p: b"".join(p).decode("latin-1"))
    )
    def check(text: str) -> None:
        typed(READERS[reader])(text)

    check()


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30),
    st.binary(min_size=32, max_size=32),
    st.booleans(),
)
def test_a_line_that_was_written_is_read_back(name: str, digest: bytes, bsd: bool) -> None:
    checksum = parse_checksum(f"sha256:{digest.hex()}")
    line = format_sums_line(checksum, name, bsd=bsd)
    (entry,) = parse_sums(line).entries
    assert (entry.name, entry.checksum) == (name, checksum)
