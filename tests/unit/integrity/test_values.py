"""Checksums as people write them, and that every spelling of one is equal."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.errors import InvalidInput
from getm.integrity.algorithms import require_algorithm
from getm.integrity.files import checksum
from getm.integrity.values import DIGEST_BYTES, Checksum, canonical_algorithm, parse_checksum, parse_pair

MD5 = bytes.fromhex("25f9e794323b453885f5181f1b624d0b")
CRC32C = bytes.fromhex("e3069283")


@st.composite
def checksums(draw: st.DrawFn) -> Checksum:
    algorithm = draw(st.sampled_from(sorted(DIGEST_BYTES)))
    size_bytes = DIGEST_BYTES[algorithm]
    value = draw(st.binary(min_size=size_bytes, max_size=size_bytes))
    parts = draw(st.none() | st.integers(1, 10_000)) if algorithm == "s3-etag" else None
    return Checksum(algorithm, value, parts)


@given(checksums())
def test_every_encoding_of_a_checksum_reads_back_as_the_same(checksum: Checksum) -> None:
    suffix = "" if checksum.parts is None else f"-{checksum.parts}"
    name = checksum.algorithm
    for text in (
        str(checksum),
        f"{name.upper()}:{checksum.hex.upper()}{suffix}",
        f"{name}={checksum.hex}{suffix}",
        f"{name}:{checksum.base64}{suffix}",
        f"{name}={checksum.base64.rstrip('=')}{suffix}",
        f"{name.replace('-', '_')}: {checksum.base64}{suffix} ",
    ):
        assert parse_checksum(text) == checksum, text
        assert hash(parse_checksum(text)) == hash(checksum)


@given(checksums(), checksums())
def test_checksums_are_equal_only_when_algorithm_value_and_parts_are(one: Checksum, other: Checksum) -> None:
    same = (one.algorithm, one.value, one.parts) == (other.algorithm, other.value, other.parts)
    assert (one == other) is same
    assert (str(one) == str(other)) is same


@pytest.mark.parametrize("wrong", [None, 5, True, b"md5", ["md5"], object()])
def test_case_46_a_wrong_type_is_invalid_input(wrong: Any) -> None:
    for call in (
        lambda: Checksum(wrong, MD5),
        lambda: canonical_algorithm(wrong),
        lambda: parse_checksum(wrong),
        lambda: require_algorithm(wrong),
        lambda: checksum(b"", wrong),
    ):
        with pytest.raises(InvalidInput):
            call()


@pytest.mark.parametrize("value", ["0123456789abcdef", bytearray(MD5), memoryview(MD5), list(MD5), None])
def test_case_46_a_digest_is_bytes(value: Any) -> None:
    with pytest.raises(InvalidInput, match="expected 16 bytes as the md5 digest"):
        Checksum("md5", value)


@pytest.mark.parametrize("parts", [True, 1.5, "3", 0, 10_001])
def test_case_46_the_number_of_parts_is_an_int(parts: Any) -> None:
    with pytest.raises(InvalidInput, match="1 to 10000 parts"):
        Checksum("s3-etag", MD5, parts)


@given(st.text(max_size=60))
def test_any_text_is_a_checksum_or_invalid_input(text: str) -> None:
    try:
        checksum = parse_checksum(text)
    except InvalidInput:
        return
    assert parse_checksum(str(checksum)) == checksum


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sha-256=" + "ab" * 32, Checksum("sha256", b"\xab" * 32)),
        ("SHA256:" + "AB" * 32, Checksum("sha256", b"\xab" * 32)),
        ("crc32c:4waSgw==", Checksum("crc32c", CRC32C)),
        ("crc32c:E3069283", Checksum("crc32c", CRC32C)),
        ("gs_crc32c:4waSgw==", Checksum("crc32c", CRC32C)),
        ("crc-64/nvme:ae8b14860a799888", Checksum("crc64nvme", bytes.fromhex("ae8b14860a799888"))),
        ("xxhash3:" + "00" * 8, Checksum("xxh3-64", bytes(8))),
        ("XXH128:" + "00" * 16, Checksum("xxh3-128", bytes(16))),
        (f's3_etag:"{MD5.hex()}-12"', Checksum("s3-etag", MD5, 12)),
        (f"s3-etag:{MD5.hex()}", Checksum("s3-etag", MD5)),
        ("md5:Jfnnl" + "DI7RTiF9RgfG2JNCw==", Checksum("md5", MD5)),
    ],
)
def test_spellings_from_the_wild(text: str, expected: Checksum) -> None:
    assert parse_checksum(text) == expected


# Eight characters that are both hex and unpadded-looking base64: only a padded base64 text is base64 for four bytes.
def test_eight_hex_digits_are_never_taken_for_base64() -> None:
    assert parse_checksum("crc32:deadbeef").value == bytes.fromhex("deadbeef")
    with pytest.raises(InvalidInput):
        parse_checksum("crc32:3q2+7w=x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "md5",
        ":" + MD5.hex(),
        "md5:",
        "md5:" + MD5.hex()[:-1],
        "md5:" + MD5.hex() + "0",
        "md5:" + "g" * 32,
        "md5:" + MD5.hex() + "-3",
        "md6:" + MD5.hex(),
        "sha256:" + MD5.hex(),
        "s3-etag:" + MD5.hex() + "-0",
        "s3-etag:" + MD5.hex() + "-10001",
        "s3-etag:" + MD5.hex() + "-1x",
        's3-etag:W/"' + MD5.hex() + '"',
        # The last two bits of a 16-byte value's base64 are zero: here they are not, so a character was damaged.
        "md5:" + base64.b64encode(MD5).decode().replace("Cw==", "Cx=="),
        "md5:" + base64.b64encode(MD5).decode() + "=",
    ],
)
def test_what_is_no_checksum_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"expected|1 to 10000"):
        parse_checksum(text)


@pytest.mark.parametrize(
    ("algorithm", "value", "expected"),
    [
        ("md5", MD5.hex(), Checksum("md5", MD5)),
        ("md5", base64.b64encode(MD5).decode(), Checksum("md5", MD5)),
        ("gs_crc32c", "4waSgw==", Checksum("crc32c", CRC32C)),
        ("s3_etag", MD5.hex() + "-7", Checksum("s3-etag", MD5, 7)),
        ("s3_etag", MD5.hex(), Checksum("s3-etag", MD5)),
        ("sha256", "ab" * 32, Checksum("sha256", b"\xab" * 32)),
        ("null", None, None),
        ("null", "null", None),
        ("null", MD5.hex(), None),
        (None, None, None),
        ("", "", None),
    ],
)
def test_pairs_of_old_manifests_and_flags(algorithm: str | None, value: str | None, expected: Checksum | None) -> None:
    assert parse_pair(algorithm, value) == expected


@pytest.mark.parametrize(
    ("algorithm", "value"), [("md5", None), ("md5", ""), ("md5", "null"), (None, MD5.hex()), ("", MD5.hex())]
)
def test_half_a_pair_is_refused(algorithm: str | None, value: str | None) -> None:
    with pytest.raises(InvalidInput, match="give both"):
        parse_pair(algorithm, value)


@pytest.mark.parametrize(
    ("algorithm", "value", "parts"),
    [("sha-256", bytes(32), None), ("md5", bytes(15), None), ("md5", bytes(16), 3), ("s3-etag", bytes(16), 0)],
)
def test_a_checksum_that_cannot_be_is_not_made(algorithm: str, value: bytes, parts: int | None) -> None:
    with pytest.raises(InvalidInput):
        Checksum(algorithm, value, parts)


def test_canonical_names_are_their_own_canonical_names() -> None:
    for name in DIGEST_BYTES:
        assert canonical_algorithm(name) == name
        assert canonical_algorithm(f" {name.upper()} ".strip()) == name
