"""Text from outside: whatever came, it can be printed, encoded and kept short."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from getm.core.text import brief, decode, encodable

any_text = st.text(st.characters() | st.characters(categories=["Cs"]))


def test_case_1_text_of_any_bytes_can_be_encoded() -> None:
    assert encodable("Acc\udce8s refus\udce9") == "Acc\\udce8s refus\\udce9"
    assert encodable("Accès") == "Accès"
    assert decode(b"Acc\xe8s") == decode("Accès".encode()) == "Accès"


@given(any_text)
def test_case_1_every_text_can_be_encoded_and_what_could_be_stays(text: str) -> None:
    assert encodable(text).encode().decode() == encodable(text)
    assert encodable(encodable(text)) == encodable(text)


@given(any_text)
def test_case_1_what_a_server_sent_is_told_on_one_short_line(text: str) -> None:
    told = brief(text)
    told.encode()
    assert len(told) <= 4000
    assert not any(char < " " or "\x7f" <= char <= "\x9f" for char in told)


def test_what_is_long_is_cut() -> None:
    assert brief("a\r\n\x1b[31mb") == "a [31mb"
    assert brief("x" * 200) == "x" * 200
    assert brief("x" * 10**6) == "x" * 200 + "..."


@given(st.binary())
def test_no_byte_is_lost(data: bytes) -> None:
    assert data in (decode(data).encode("utf-8"), decode(data).encode("latin-1", "ignore"))
