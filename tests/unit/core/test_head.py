"""Response heads: lengths, validators, codings and dates, from any text that a server may send."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.head import HeaderMap, HeadError, ResponseHead, header_lines, retry_after_s
from getm.core.spans import ContentRange, Span
from getm.core.version import Version

NOON = "Sun, 06 Nov 1994 12:00:00 GMT"
OUR_CLOCK = 784_123_203.0


def head(*headers: tuple[str, str]) -> ResponseHead:
    return ResponseHead.of(200, "https://example.test/object", headers)


# Content-Length ------------------------------------------------------------------------------------------------------


def length(*values: str) -> int | None:
    return head(*(("content-length", value) for value in values)).content_length()


def test_content_length() -> None:
    assert length() is None
    assert [length("0"), length(" 5\t"), length("007"), length("9223372036854775807")] == [0, 5, 7, 2**63 - 1]
    # RFC 9112, section 6.3: the same number several times is that number.
    assert [length("5", "5"), length("5, 5", "5")] == [5, 5]


BAD_LENGTHS = [
    *(
        "",
        "-1",
        "+5",
        "5.0",
        "5 5",
        "0x5",
        "1_0",
        "1e3",
        "\u0665",
        "\u00b2",
        "5, 6",
        "5,",
        "99999999999999999999",
        "9" * 100_000,
    ),
    ("5", "6"),
    ("5", ""),
]


def test_a_malformed_huge_or_contradictory_content_length_is_refused() -> None:
    for values in BAD_LENGTHS:
        with pytest.raises(HeadError, match="Content-Length") as caught:
            found = length(*([values] if isinstance(values, str) else values))
            pytest.fail(f"{values!r:.60} is accepted as {found}")
        assert len(str(caught.value)) < 200


def test_a_content_length_that_no_file_can_have_is_refused() -> None:
    for value in ("9223372036854775808", "9999999999999999999"):
        try:
            assert length(value) is None, value
        except HeadError:
            continue


# Everything else that is read out of a head --------------------------------------------------------------------------

NAMES = (
    "Content-Length",
    "content-range",
    "Content-Encoding",
    "Transfer-Encoding",
    "ETag",
    "Last-Modified",
    "Date",
    "Retry-After",
)
DATE_PIECES = st.sampled_from(
    [
        "Mon,",
        "Sun",
        "32",
        "0",
        "29",
        "06",
        "Feb",
        "Nov",
        "1994",
        "94",
        "99999",
        "00:00:00",
        "24:61:61",
        "::",
        "0:0",
        "-0000",
        "+9999",
        "-9999",
        "GMT",
        "UTC",
        "EST",
        "(",
        ")",
        ".",
        "\u00b2",
        "9" * 20,
        "-" + "9" * 20,
    ]
)
dates = st.lists(DATE_PIECES, max_size=8).map(" ".join)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.text(max_size=30) | dates), max_size=8))
def test_no_head_makes_a_parser_raise_anything_else(headers: list[tuple[str, str]]) -> None:
    given_head = head(*headers)
    try:
        size_bytes = given_head.content_length()
        assert size_bytes is None or size_bytes >= 0
    except HeadError:
        pass
    given_head.content_range()
    given_head.content_coding()
    given_head.version(None)
    strong = given_head.strong_validator()
    assert strong is None or strong in (given_head.get("etag"), given_head.get("last-modified"))
    delay_s = retry_after_s(given_head, 0.0)
    assert delay_s is None or (delay_s >= 0 and math.isfinite(delay_s))


def test_content_range_is_read_only_where_there_is_exactly_one() -> None:
    one = ("Content-Range", "bytes 0-4/10")
    assert head(one).content_range() == ContentRange(Span(0, 5), 10)
    assert head(one, one).content_range() is None
    assert head(("content-range", "bytes 4-0/10")).content_range() is None
    assert head().content_range() is None


def test_content_coding() -> None:
    values = ["", "identity", " IDENTITY ", "gzip", " GZip"]
    codings = [head(("content-encoding", value)).content_coding() for value in values]
    assert [head().content_coding(), *codings] == [None, None, None, None, "gzip", "gzip"]


def test_a_transfer_coding_frames_the_message() -> None:
    assert head(("Transfer-Encoding", "chunked"), ("Content-Length", "5")).is_chunked()
    assert not head(("Content-Length", "5")).is_chunked()


# Validators ----------------------------------------------------------------------------------------------------------


VALIDATORS: list[tuple[list[tuple[str, str]], str | None]] = [
    ([], None),
    ([("ETag", '"abc"')], '"abc"'),
    ([("ETag", '""')], '""'),
    ([("ETag", 'W/"abc"')], None),
    ([("ETag", "abc")], None),
    ([("ETag", '"')], None),
    ([("ETag", "")], None),
    # A date is strong only where the object cannot have changed again within its second.
    ([("Last-Modified", "Sun, 06 Nov 1994 11:59:59 GMT"), ("Date", NOON)], "Sun, 06 Nov 1994 11:59:59 GMT"),
    ([("Last-Modified", NOON), ("Date", NOON)], None),
    ([("Last-Modified", "Sun, 06 Nov 1994 12:00:01 GMT"), ("Date", NOON)], None),
    ([("Last-Modified", "Sun, 06 Nov 1994 11:59:59 GMT")], None),
    ([("Last-Modified", "yesterday"), ("Date", NOON)], None),
    # With an entity tag, a date is no way round its weakness.
    ([("ETag", 'W/"abc"'), ("Last-Modified", "Sat, 05 Nov 1994 12:00:00 GMT"), ("Date", NOON)], None),
]


def test_strong_validator() -> None:
    for headers, strong in VALIDATORS:
        assert head(*headers).strong_validator() == strong, headers


def test_validators_are_kept_as_sent() -> None:
    assert head(("ETag", 'W/"a"'), ("Last-Modified", "x")).version(9) == Version(9, 'W/"a"', "x")
    assert [str(Version(9, '"a"', "x")), str(Version(None, None, "x")), str(Version())] == ['"a"', "x", "none"]


# Retry-After ---------------------------------------------------------------------------------------------------------


DELAYS: list[tuple[str | None, str | None, float | None]] = [
    ("0", None, 0.0),
    (" 120 ", None, 120.0),
    ("Sun, 06 Nov 1994 12:00:10 GMT", NOON, 10.0),
    ("Sunday, 06-Nov-94 12:00:10 GMT", NOON, 10.0),
    ("Sun, 06 Nov 1994 11:00:00 GMT", NOON, 0.0),
    # By our own clock, which is three seconds ahead.
    ("Sun, 06 Nov 1994 12:00:10 GMT", None, 7.0),
    ("Sun, 06 Nov 1994 12:00:10 GMT", "now", 7.0),
    ("Sun, 06 Nov 1994 12:00:02 GMT", None, 0.0),
    ("soon", NOON, None),
    ("Sun, 06 Nov 99999 12:00:10 GMT", NOON, None),
    (f"Sun, 06 Nov 1994 12:00:10 +{'9' * 20}", NOON, None),
    ("-5", NOON, None),
    ("1.5", NOON, None),
    ("\u0665", NOON, None),
    ("", NOON, None),
    (None, NOON, None),
]


def test_case_28_retry_after_as_a_number_and_as_a_date() -> None:
    for value, date, delay_s in DELAYS:
        headers = [("Retry-After", value), ("Date", date)]
        present = [(name, text) for name, text in headers if text is not None]
        assert retry_after_s(head(*present), OUR_CLOCK) == delay_s, present


def test_a_retry_after_of_any_length_is_a_long_finite_time() -> None:
    for digits in (10, 19, 400, 100_000):
        delay_s = retry_after_s(head(("Retry-After", "9" * digits)), OUR_CLOCK)
        assert delay_s is not None and delay_s >= 999_999_999 and math.isfinite(delay_s)


@pytest.mark.parametrize("form", ["Sun Nov  6 12:00:10 1994", "Sun, 06 Nov 1994 12:00:10 -0000"])
def test_a_date_without_a_zone_is_utc_wherever_this_machine_stands(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # RFC 9110, section 5.6.7: recipients must accept the asctime form, which names no zone and means UTC.
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        delay_s = retry_after_s(head(("Retry-After", form), ("Date", NOON)), OUR_CLOCK)
    time.tzset()
    assert delay_s == 10.0


# Header fields -------------------------------------------------------------------------------------------------------


def test_header_map_finds_fields_in_any_case_and_joins_those_that_came_twice() -> None:
    fields = HeaderMap(head(("X-Hash", "a"), ("ETag", '"e"'), ("x-hash", "b")))
    assert fields["X-HASH"] == fields["x-hash"] == "a, b"
    assert fields.get_all("x-Hash") == ["a", "b"]
    assert fields.get_all("missing") == []
    assert fields.get("missing") is None
    no_name: object = 5
    assert "etag" in fields and "missing" not in fields and no_name not in fields
    assert (list(fields), len(fields)) == (["X-Hash", "ETag"], 2)
    assert dict(fields) == {"X-Hash": "a, b", "ETag": '"e"'}
    with pytest.raises(KeyError):
        fields["missing"]


def test_a_list_that_was_handed_out_is_the_callers_own() -> None:
    fields = HeaderMap(head(("a", "1")))
    fields.get_all("a").append("2")
    assert fields["a"] == "1"


@given(st.binary(max_size=40))
def test_no_byte_of_a_header_is_lost(data: bytes) -> None:
    ((name, value),) = ResponseHead(200, "", header_lines([(b"X-Name", data)])).headers
    assert name == "X-Name"
    # A line feed would end the header line.
    assert data.replace(b"\n", b" ") in (value.encode("utf-8"), value.encode("latin-1", "replace"))


def test_headers_are_utf_8_where_they_can_be() -> None:
    raw = [(b"a", "grün".encode()), (b"b", "grün".encode("latin-1"))]
    assert ResponseHead(200, "", header_lines(raw)).headers == (("a", "grün"), ("b", "grün"))
