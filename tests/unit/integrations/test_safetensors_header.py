"""Headers of safetensors files: what the format demands, and that the package of the format agrees."""

from __future__ import annotations

import json
from typing import Any

import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st

from getm import FormatError
from getm.integrations.safetensors.header import DTYPES, MAX_HEADER_BYTES, header_stop, parse_header


def a_file(header: Any, data_bytes: int) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data_bytes)


def tensor(start: int, stop: int, shape: list[int] | None = None, dtype: str = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [stop - start] if shape is None else shape, "data_offsets": [start, stop]}


def parse(content: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    """By name: dtype, shape, bytes."""
    stop = header_stop(content, len(content), None)
    found = parse_header(content[:stop], len(content)).values()
    return {each.name: (each.dtype, list(each.shape), content[each.start : each.stop]) for each in found}


def test_a_good_header() -> None:
    header = {
        "__metadata__": {"format": "np"},
        "b": tensor(8, 8, [0, 5], "F32"),
        "scalar": tensor(8, 10, [], "BF16"),
        "a": tensor(0, 8, [2, 2], "F16"),
        "last": tensor(10, 13, [2, 2, 1, 2], "F6_E2M3") | {"shape": [4]},
    }
    content = a_file(json.dumps(header).encode() + b"   ", 13)
    found = parse(content)
    assert list(found) == ["a", "b", "scalar", "last"]
    assert found["scalar"] == ("BF16", [], bytes(2))
    assert found == {name: (each["dtype"], each["shape"], bytes(each["data"])) for name, each in reference(content)}
    assert parse(a_file({}, 0)) == {}


def reference(content: bytes) -> list[tuple[str, Any]]:
    deserialize: Any = safetensors.deserialize
    return list(deserialize(content))


BAD: dict[str, tuple[Any, int, str]] = {
    "overlap": ({"a": tensor(0, 8), "b": tensor(4, 12)}, 12, "'b' overlaps 'a'"),
    "the same place": ({"a": tensor(0, 8), "b": tensor(0, 8)}, 8, "'b' overlaps 'a'"),
    "within another": ({"a": tensor(0, 8), "b": tensor(2, 4)}, 8, "'b' overlaps 'a'"),
    "hole": ({"a": tensor(0, 8), "b": tensor(9, 12)}, 12, "'b' leaves a hole after 'a'"),
    "hole at the start": ({"a": tensor(1, 8)}, 8, "'a' leaves a hole after the header"),
    "hole at the end": ({"a": tensor(0, 8)}, 9, "the tensors end at byte"),
    "data without tensors": ({}, 1, "the tensors end at byte"),
    "past the end": ({"a": tensor(0, 9)}, 8, "'a': it ends at byte"),
    "far past the end": ({"a": tensor(0, 2**62)}, 8, "'a': it ends at byte"),
    "backwards": ({"a": tensor(8, 0, [8])}, 8, "'a': its data_offsets"),
    "negative": ({"a": tensor(-1, 7, [8])}, 8, "'a': its data_offsets"),
    "three offsets": ({"a": tensor(0, 8) | {"data_offsets": [0, 4, 8]}}, 8, "'a': its data_offsets"),
    "fractions": ({"a": tensor(0, 8) | {"data_offsets": [0, 8.0]}}, 8, "'a': its data_offsets"),
    "truth for a number": ({"a": tensor(0, 1) | {"data_offsets": [False, True]}}, 1, "'a': its data_offsets"),
    "texts": ({"a": tensor(0, 8) | {"data_offsets": ["0", "8"]}}, 8, "'a': its data_offsets"),
    "too small for its shape": ({"a": tensor(0, 8, [3, 3])}, 8, "'a': its shape and dtype need 9 bytes, and it has 8"),
    "too large for its shape": ({"a": tensor(0, 8, [7])}, 8, "'a': its shape and dtype need 7 bytes, and it has 8"),
    "too small for its dtype": ({"a": tensor(0, 8, [8], "F64")}, 8, "'a': its shape and dtype need 64 bytes"),
    "an overflow": ({"a": tensor(0, 0, [2**62, 8])}, 0, "'a': its shape and dtype need"),
    "a number beyond 64 bits": ({"a": tensor(0, 0, [2**64, 0])}, 0, "'a': its shape must"),
    "bits that are no bytes": ({"a": tensor(0, 2, [3], "F4")}, 2, "'a': its shape and dtype need 1.5 bytes"),
    "a negative shape": ({"a": tensor(0, 8, [-2, -4])}, 8, "'a': its shape must"),
    "a shape that is none": ({"a": tensor(0, 8) | {"shape": 8}}, 8, "'a': its shape must"),
    "a shape of too many": ({"a": tensor(0, 1, [1] * 65)}, 1, "'a': its shape must"),
    "another dtype": ({"a": tensor(0, 8, dtype="F128")}, 8, "'a': its dtype is 'F128'"),
    "a dtype that is none": ({"a": tensor(0, 8) | {"dtype": ["U8"]}}, 8, r"'a': its dtype is \['U8'\]"),
    "no dtype": ({"a": {"shape": [8], "data_offsets": [0, 8]}}, 8, "'a': expected dtype"),
    "something more": ({"a": tensor(0, 8) | {"url": "x"}}, 8, "'a': expected dtype"),
    "no tensor": ({"a": None}, 0, "'a': expected dtype"),
    "twice": (b'{"a": %b, "a": %b}' % (2 * (json.dumps(tensor(0, 8)).encode(),)), 8, "'a' stands twice"),
    "a field twice": (b'{"a": {"dtype": "U8", "shape": [1], "shape": [1], "data_offsets": [0, 1]}}', 1, "stands twice"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, 0, "__metadata__"),
    "metadata that is none": ({"__metadata__": []}, 0, "__metadata__"),
    "a list": (b"[]", 0, "does not begin with"),
    "nothing": (b"", 0, "does not begin with"),
    "spaces first": (b" {}", 0, "does not begin with"),
    "no JSON": (b"{a}", 0, "no JSON"),
    "more than one": (b"{}{}", 0, "no JSON"),
    "no UTF-8": (b'{"\xff": 1}', 0, "no JSON"),
    "very deep": (b'{"a":' + b"[" * 100_000, 0, "no JSON"),
    "a very long number": (b'{"a":' + b"1" * 100_000 + b"}", 0, "no JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_headers_that_are_refused(case: str) -> None:
    header, data_bytes, message = BAD[case]
    with pytest.raises(FormatError, match=message) as caught:
        parse(a_file(header, data_bytes))
    assert caught.value.name in ("a", "b", None, "shape")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too few"),
        (b"1234567", "too few"),
        ((MAX_HEADER_BYTES + 1).to_bytes(8, "little"), "may have 100000000"),
        (b"\xff" * 8, "may have 100000000"),
        ((5).to_bytes(8, "little") + b"{}", "the file has 10"),
        (b"<!DOCTYPE html>", "may have"),
    ],
)
def test_lengths_that_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        header_stop(content, len(content), None)


counts = st.integers(-1, 12)
headers = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["U8", "F16", "F4", "BOOL", "F32", "x"]),
            "shape": st.lists(counts, max_size=2),
            "data_offsets": st.lists(counts, min_size=2, max_size=2),
        }
    ),
)


@st.composite
def contiguous(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """Headers that are nearly right."""
    position, header = 0, {}
    for name in draw(st.permutations(["a", "b", "c"])):
        dtype = draw(st.sampled_from(["U8", "F16", "F4", "F64"]))
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        length = DTYPES[dtype].bits
        for each in shape:
            length *= each
        stop = position + length // 8 + draw(st.sampled_from([0, 0, 0, 0, 1]))
        header[name] = tensor(position, stop, shape, dtype)
        position = stop
    return header, position


@given(st.one_of(contiguous(), st.tuples(headers, st.integers(0, 12))))
def test_what_is_taken_is_what_the_formats_own_package_takes(made: tuple[dict[str, Any], int]) -> None:
    content = a_file(*made)
    try:
        found: Any = parse(content)
    except FormatError:
        with pytest.raises(safetensors.SafetensorError):
            reference(content)
        return
    assert found == {name: (each["dtype"], each["shape"], bytes(each["data"])) for name, each in reference(content)}
