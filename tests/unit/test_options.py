"""What a caller may ask for: URLs, headers, times and rings, made plain or refused before any request."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec.structs import astuple

from getm.buffers.layout import RingLayout, plan_layout
from getm.core.units import KIB, MIB
from getm.core.url import validate_url
from getm.core.validate import (
    validate_bool,
    validate_integer,
    validate_number,
    validate_path,
    validate_text,
)
from getm.errors import InvalidInput
from getm.options import (
    DEFAULT_CHUNK_BYTES,
    DEFAULT_MAX_MEMORY,
    MAX_CONCURRENCY,
    Retries,
    Timeout,
    validate_concurrency,
    validate_headers,
    validate_timeout,
)

PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


def refused(function: Any, *arguments: Any) -> InvalidInput | None:
    """The error by which a function refuses its arguments; None where it takes them."""
    try:
        function(*arguments)
    except InvalidInput as error:
        return error
    return None


def repr_or_type(value: object) -> str:
    try:
        return repr(value)[:20]
    except ValueError:  # an integer too long to be shown
        return type(value).__name__


# URLs ----------------------------------------------------------------------------------------------------------------

origins = st.sampled_from(
    [
        "http://example.test",
        "https://EXAMPLE.test:8443",
        "HTTPS://192.0.2.1",
        "http://u:p%40@a-b.test",
        "http://[::1]:80",
    ]
)
encoded = st.text(PRINTABLE.replace("#", ""), max_size=30) | st.lists(
    st.sampled_from(["%2F", "%2f", "%2B", "%27", "%20", "+", "%25", "%", "%zz", "'", "/../", "//", "a", "=", "&", ";"])
).map("".join)


@given(origins, encoded, encoded, st.text(max_size=5).filter(str.isprintable))
@example("https://bucket.test", "a%2Fb%20c+d%27e", "X-Sig=a%2Bb%2fc+d&x='(*)~", "")
def test_what_is_already_encoded_goes_on_the_wire_byte_for_byte(
    origin: str, path: str, query: str, fragment: str
) -> None:
    for url in (f"{origin}/{path}", f"{origin}/{path}?{query}", f"{origin}?{query}"):
        assert validate_url(url) == url
        assert validate_url(f"{url}#{fragment}") == url
        # Also where something else must be encoded.
        assert validate_url(f"{url}\u00fc") == f"{url}%C3%BC"


@given(origins, st.text(max_size=30))
def test_a_clean_url_is_printable_ascii_and_stays_as_it_is(origin: str, rest: str) -> None:
    url = f"{origin}/{rest}"
    error = refused(validate_url, url)
    assume(error is None)
    cleaned = validate_url(url)
    assert set(cleaned) <= set(PRINTABLE) and "#" not in cleaned
    assert validate_url(cleaned) == cleaned
    assert cleaned.startswith(f"{origin}/")


def test_characters_outside_ascii_and_spaces_are_percent_encoded() -> None:
    assert validate_url("http://h/a b/\u00fc%20\u20ac?q=\u00fc x#\u00fc") == (
        "http://h/a%20b/%C3%BC%20%E2%82%AC?q=%C3%BC%20x"
    )


def test_a_host_outside_ascii_is_written_in_idna() -> None:
    assert validate_url("http://b\u00fccher.test:80/\u00fc") == "http://xn--bcher-kva.test:80/%C3%BC"
    assert validate_url("http://u:p@b\u00fccher.test") == "http://u:p@xn--bcher-kva.test"


def test_a_host_outside_ascii_is_found_in_any_case_and_behind_userinfo() -> None:
    assert validate_url("http://B\u00dcCHER.test/") == "http://xn--bcher-kva.test/"
    assert validate_url("http://b\u00fc:p@b\u00fc/") == "http://b%C3%BC:p@xn--b-eha/"


UNUSABLE = [
    *(
        "",
        "example.test",
        "example.test/path",
        "//example.test/",
        "/path",
        "file:///etc/passwd",
        "ftp://h/",
        "s3://h/k",
    ),
    *("http:", "http://", "http:///path", "http:path", "http://:80/", "http://u:p@/", "http://?q", "http://#f"),
    *("http://h:0/", "http://h:65536/", "http://h:x/", "http://h:-1/", "http://h:8 0/", "http://[::1/", "http://::1]/"),
    *("javascript:alert(1)", "ht tp://h/", "http//h/", "http://h..\u00fc/", "http://\u2100.test/"),
]


def test_a_url_that_cannot_be_requested_is_refused() -> None:
    assert [url for url in UNUSABLE if refused(validate_url, url) is None] == []
    assert [value for value in (None, 5, b"http://h/", ["http://h/"]) if refused(validate_url, value) is None] == []


@given(st.sampled_from([*map(chr, range(0x20)), "\x7f"]), st.integers(0, 30))
def test_control_characters_anywhere_are_refused(char: str, at: int) -> None:
    url = "https://example.test/p?q=%0A#f"
    assert refused(validate_url, url) is None
    assert refused(validate_url, url[:at] + char + url[at:]) is not None


def test_a_refusal_does_not_tell_the_secrets_of_the_url() -> None:
    for url in ("ftp://u:HUNTER@h/p?HUNTER#HUNTER", "http://u:HUNTER@h:0/p?HUNTER", "http://u:HUNTER@h/p?HUNTER\n"):
        error = refused(validate_url, url)
        assert error is not None and error.url is not None
        assert "HUNTER" not in f"{error} {error!r}"


@given(st.text(max_size=40) | st.text(max_size=40).map("http://{}".format))
def test_any_text_is_a_url_or_invalid_input(text: str) -> None:
    if refused(validate_url, text) is None:
        assert set(validate_url(text)) <= set(PRINTABLE)


def test_a_url_with_undecodable_bytes_is_refused() -> None:
    assert refused(validate_url, "http://h/\udcff") is not None


def test_a_space_before_the_scheme_is_refused_or_removed() -> None:
    assert refused(validate_url, " http://h/") is not None or validate_url(" http://h/") == "http://h/"


# Request headers -----------------------------------------------------------------------------------------------------


def test_headers_come_as_a_mapping_or_as_pairs_and_keep_their_order() -> None:
    assert validate_headers(None) == ()
    assert validate_headers({"X-B": "1", "a": " \t2 "}) == (("X-B", "1"), ("a", "2"))
    assert validate_headers([("A", "1"), ("A", "2"), ("B", "")]) == (("A", "1"), ("A", "2"), ("B", ""))
    assert validate_headers({"X": "gr\u00fcn; a=\t1"}) == (("X", "gr\u00fcn; a=\t1"),)


def test_what_is_no_header_is_refused() -> None:
    names = ["", " ", "a b", "a:", "a\n", "\na", "a\0", "a\r\nb", "gr\u00fcn", "(a)", "a,b"]
    assert [name for name in names if refused(validate_headers, {name: "x"}) is None] == []
    shapes: list[Any] = ["ab", [("a",)], [("a", "b", "c")], [("a", 1)], [(b"a", b"b")], [["a", "b"]], {"a": None}]
    assert [shape for shape in shapes if refused(validate_headers, shape) is None] == []


@given(
    st.sampled_from(
        ["Range", "If-Range", "Accept-Encoding", "Connection", "Content-Length", "Transfer-Encoding", "TE"]
    ),
    st.sampled_from([str.lower, str.upper, str.title]),
)
def test_headers_that_getm_sets_itself_are_refused(name: str, spell: Any) -> None:
    error = refused(validate_headers, {spell(name): "HUNTER"})
    assert error is not None and "HUNTER" not in str(error)


@given(st.text(max_size=10), st.sampled_from(["\r", "\n", "\0", "\r\n"]), st.text(max_size=10))
def test_a_value_cannot_add_a_line_and_is_not_quoted_in_the_refusal(before: str, cut: str, after: str) -> None:
    error = refused(validate_headers, {"Authorization": f"HUNTER{before}{cut}{after}2"})
    assert error is not None
    assert "Authorization" in str(error) and "HUNTER" not in str(error)


def test_a_whole_header_line_given_as_a_name_is_not_quoted_in_the_refusal() -> None:
    assert "HUNTER" not in str(refused(validate_headers, [("Authorization: Bearer HUNTER", "")]))


def test_a_value_that_cannot_be_encoded_is_refused() -> None:
    assert refused(validate_headers, {"X": "\udcff"}) is not None


# Times and counts ----------------------------------------------------------------------------------------------------


def test_a_timeout_is_a_number_or_a_timeout_or_none_for_no_limit() -> None:
    default = Timeout(1.0, 2.0, 3.0)
    assert validate_timeout("default", default) is default
    assert validate_timeout(5, default) == Timeout(5.0, 5.0, 3.0)
    assert validate_timeout(0.5, default) == Timeout(0.5, 0.5, 3.0)
    assert validate_timeout(None, default) == Timeout(None, None, None, None)
    own = Timeout(None, None, None)
    assert validate_timeout(own, default) is own
    assert astuple(Timeout()) == (30.0, 60.0, None, 1024.0, 30.0, 1.0)


NO_NUMBERS: list[Any] = [
    0,
    -1,
    -0.0,
    math.nan,
    math.inf,
    -math.inf,
    True,
    "5",
    b"5",
    [5],
    (1, 2),
    10**400,
    10**5000,
    1j,
]


@pytest.mark.parametrize("value", [*NO_NUMBERS, object()], ids=repr_or_type)
def test_case_46_a_timeout_that_is_no_time_is_refused(value: Any) -> None:
    assert refused(validate_timeout, value, Timeout()) is not None
    for limit in ("connect_s", "stall_s", "total_s", "floor_bytes_s", "floor_window_s", "tail_s"):
        with pytest.raises(InvalidInput, match=limit):
            Timeout(**{limit: value})


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "5", [5], 10**400], ids=repr_or_type)
def test_case_46_retries_that_are_no_numbers_are_refused(value: Any) -> None:
    assert refused(Retries.of, value, Retries()) is not None
    for field in ("attempts", "base_s", "cap_s"):
        with pytest.raises(InvalidInput, match=field):
            Retries(**{field: value})


def test_case_44_a_check_complains_under_the_name_that_its_caller_uses() -> None:
    checks: list[Callable[[str], object]] = [
        lambda name: validate_integer(1000, name, 1, 256),
        lambda name: validate_integer("3", name, 1),
        lambda name: validate_number(0, name, "seconds"),
        lambda name: validate_number(math.nan, name, "bytes a second", 1),
        lambda name: validate_bool(1, name),
        lambda name: validate_path("a\0b", name),
        lambda name: validate_text(5, name),
    ]
    for check in checks:
        for name in ("--flag", "parameter"):
            error = refused(check, name)
            # Of Python alone nothing, unless the caller of the check says so.
            assert error is not None and error.message.startswith(f"{name} must be ") and "None" not in error.message
    with pytest.raises(InvalidInput, match="from 1 to 256, or None"):
        validate_integer(0, "concurrency", 1, 256, none=", or None")


class Text(str):
    """As of a library that has a subclass of its own for what it has read."""

    def __str__(self) -> str:
        return "another text"


def test_case_54_subclasses_and_numpy_scalars_become_plain_values() -> None:
    for value in (Text("http://h/"), np.str_("http://h/")):
        assert type(validate_url(value)) is str and validate_url(value) == "http://h/"
        assert type(validate_text(value, "x")) is str and validate_text(value, "x") == "http://h/"
        assert type(validate_path(value, "x")) is str
        ((name, text),) = validate_headers([(Text("X-Name"), value)])
        assert (type(name), type(text)) == (str, str) and (name, text) == ("X-Name", "http://h/")
    for number in (np.float64(2.5), np.float32(2.5), Fraction(5, 2)):
        assert type(validate_number(number, "x", "seconds")) is float
        assert astuple(Timeout(number, number, number, number, number, number)) == (2.5,) * 6  # type: ignore[arg-type]
        assert all(type(limit) is float for limit in astuple(Timeout(total_s=number)) if limit is not None)  # type: ignore[arg-type]
    for count in (np.int64(4), np.uint8(4), np.array(4)):
        assert type(validate_integer(count, "x", 1)) is int
        assert type(validate_concurrency(count)) is int  # type: ignore[arg-type]
        assert type(Retries(attempts=count).attempts) is int  # type: ignore[arg-type]


def test_concurrency() -> None:
    assert [validate_concurrency(value) for value in (None, 1, MAX_CONCURRENCY)] == [None, 1, MAX_CONCURRENCY]
    bad: list[Any] = [0, -1, True, np.True_, 1.0, np.float64(1), "1", MAX_CONCURRENCY + 1]
    assert [value for value in bad if refused(validate_concurrency, value) is None] == []


# Rings ---------------------------------------------------------------------------------------------------------------

MIN_BUDGET_BYTES = 2 * 4 * KIB
chunks = st.integers(1, 2**31) | st.sampled_from([1, 4 * KIB, 64 * KIB, MIB - 1, MIB, MIB + 1, 8 * MIB, 100 * MIB])
budgets = st.one_of([st.integers(MIN_BUDGET_BYTES, limit * MIB) for limit in (4, 64, 1024, 8192)])
widths = st.integers(1, MAX_CONCURRENCY) | st.integers(1, 16)


@given(chunks, widths, budgets)
@example(1, 256, MIN_BUDGET_BYTES)
@example(2**31, 256, MIN_BUDGET_BYTES)
@example(MIB, 2, 8 * MIB)
def test_a_ring_stays_within_its_budget_and_can_work(chunk_bytes: int, concurrency: int, budget_bytes: int) -> None:
    ring = plan_layout(chunk_bytes, concurrency, budget_bytes)
    assert ring.total_bytes == ring.slots * ring.slot_bytes <= budget_bytes
    # One slot being filled while the consumer reads another one; a part must fit into what the consumer leaves.
    assert ring.slots >= 2
    assert 1 <= ring.part_slots < ring.slots
    if concurrency > 1:
        # Every part in flight has its slots, and one more part is being consumed; less only where memory is short.
        all_parts = (concurrency + 1) * ring.part_slots
        assert ring.slots == all_parts or (ring.part_slots == 1 and ring.slots < all_parts)


@given(chunks, widths, st.integers(0, 2**33))
def test_a_slot_holds_whole_chunks_where_four_such_slots_fit(chunk_bytes: int, concurrency: int, spare: int) -> None:
    budget_bytes = 4 * max(MIB, chunk_bytes) + spare
    assert plan_layout(chunk_bytes, concurrency, budget_bytes).slot_bytes % chunk_bytes == 0


@given(chunks, widths, st.integers(0, 4 * MIB))
@example(1000, 1, MIB - 4000)
def test_a_smaller_slot_still_holds_whole_chunks_where_they_fit(chunk_bytes: int, concurrency: int, spare: int) -> None:
    budget_bytes = max(MIN_BUDGET_BYTES, 4 * chunk_bytes + spare)
    assert plan_layout(chunk_bytes, concurrency, budget_bytes).slot_bytes % chunk_bytes == 0


def test_the_rings_of_the_defaults() -> None:
    assert plan_layout(DEFAULT_CHUNK_BYTES, 1, DEFAULT_MAX_MEMORY) == RingLayout(MIB, 16, 1)
    # Sixteen connections with parts of 8 MiB, as AWS advises.
    assert plan_layout(DEFAULT_CHUNK_BYTES, 16, DEFAULT_MAX_MEMORY) == RingLayout(MIB, 17 * 8, 8)
