"""Errors cross processes: by pickle (the caller's own pools) and as a code with plain fields (getm's own pipe)."""

from __future__ import annotations

import pickle

import pytest

from getm import errors

URL = "https://example.test/object"


def subclasses(cls: type[errors.GetmError]) -> list[type[errors.GetmError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in subclasses(sub))]


CLASSES = sorted(set(subclasses(errors.GetmError)), key=lambda cls: cls.__name__)
SAMPLES: list[errors.Field] = ["a name", 7, -1.5, True, None]


def sample(cls: type[errors.GetmError]) -> errors.GetmError:
    fields = {name: SAMPLES[number % len(SAMPLES)] for number, name in enumerate(cls.FIELDS)}
    return cls("expected 5 bytes, got 4; try again", url=URL, **fields)


def same(first: errors.GetmError, second: errors.GetmError) -> bool:
    return (
        type(first) is type(second)
        and str(first) == str(second)
        and (first.message, first.url, first.fields()) == (second.message, second.url, second.fields())
    )


@pytest.mark.parametrize("cls", CLASSES)
def test_pickle_round_trip(cls: type[errors.GetmError]) -> None:
    error = sample(cls)
    assert same(error, pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize("cls", CLASSES)
def test_wire_round_trip(cls: type[errors.GetmError]) -> None:
    error = sample(cls)
    assert same(error, errors.from_wire(cls.code, error.message, error.url, error.fields()))


@pytest.mark.parametrize("cls", CLASSES)
def test_text_has_message_and_url(cls: type[errors.GetmError]) -> None:
    assert str(sample(cls)) == f"expected 5 bytes, got 4; try again [{URL}]"
    assert str(cls("no object is concerned")) == "no object is concerned"


def test_codes_are_unique() -> None:
    assert len({cls.code for cls in CLASSES}) == len(CLASSES)


def test_unknown_code_and_fields_do_not_crash() -> None:
    error = errors.from_wire("of-a-later-version", "something", None, {"unheard_of": 1})
    assert type(error) is errors.GetmError
    assert str(error) == "something"


def test_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="no field statuz"):
        errors.HTTPStatusError("x", statuz=404)


def test_case_61_builtin_bases() -> None:
    # Callers may catch what they know: network errors as OSError, waiting as TimeoutError, bad arguments as ValueError.
    assert issubclass(errors.NetworkError, OSError)
    assert issubclass(errors.TimedOut, TimeoutError)
    assert issubclass(errors.ConnectFailed, ConnectionError)
    assert issubclass(errors.InvalidInput, ValueError)
    assert issubclass(errors.ReaderClosed, ValueError)
    assert issubclass(errors.MemoryUnavailable, MemoryError)
