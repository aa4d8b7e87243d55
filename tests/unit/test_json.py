"""Results and events as JSON, made by msgspec alone; and that nothing else about them is unusual."""

from __future__ import annotations

import copy
import json
import os
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import getm
from getm.core.head import HeaderMap, ResponseHead
from getm.integrity.values import parse_checksum

VERDICT = getm.Verdict(True, parse_checksum(f"sha512:{'0f' * 64}"), "x-goog-hash", None)
RESULT = getm.DownloadResult(
    Path("in") / ("a" * 255),
    2**63,
    VERDICT,
    True,
    1 / 3,
    getm.Stats(23, 2, retries={"reset": 1}, seconds=1 / 3),
    url="https://host/" + "x" * 300,
    started_at=datetime(2026, 1, 2, tzinfo=UTC),
)
ERROR = getm.HTTPStatusError("404 Not Found " * 30, url="https://host/x", status=404, reason="Not Found", attempts=1)
FACTS = {"message": ERROR.message, "error": "status", "url": "https://host/x", "attempts": 1, "reason": "Not Found"}
HEADERS = HeaderMap(ResponseHead.of(200, "https://host/x", (("Content-Type", "text/html"), ("X-Long", "y" * 300))))
INFO = getm.ObjectInfo("https://host/x?sig=S", 7, '"e"', None, "text/html", None, True, (), HEADERS)

VALUES: tuple[Any, ...] = (
    RESULT,
    getm.DownloadFailure(3, "https://host/x", Path("x"), ERROR),
    getm.DownloadFailure(3, "https://host/x", None, ERROR),
    INFO,
    VERDICT,
    VERDICT.checksum,
    RESULT.stats,
    RESULT.stats.times,
    getm.Planned(None, 3),
    getm.Started(3, "https://host/" + "x" * 300, Path("y" * 300), 7, 2),
    getm.Progressed(3, 4, None),
    getm.Retried(
        3, "reset", 1, 0.5, "the connection broke " * 20, "the connection broke", 5, "https://host/x", Path("x")
    ),
    getm.Adapted(3, 4, "because " * 30),
    getm.Examining(3, Path("there/x.bam"), 5, 2**40),
    getm.Finished(3, RESULT, waived=True),
    getm.Skipped(3, Path("x"), "it exists", RESULT),
    getm.Failed(3, "https://host/x", None, ERROR),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_value_is_json_by_itself(value: Any) -> None:
    by_msgspec = json.loads(msgspec.json.encode(value))
    assert by_msgspec == json.loads(json.dumps(msgspec.to_builtins(value)))
    expected = set(value.__struct_fields__) | ({"event"} if isinstance(value, getm.Event) else set())
    assert set(by_msgspec) == expected


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_value_is_one_line(value: Any) -> None:
    assert len(repr(value)) < 100 and repr(value).isprintable()


def test_of_a_struct_that_says_what_counts() -> None:
    assert repr(getm.Stats(received_bytes=7, seconds=1 / 3)) == "Stats(received_bytes=7, seconds=0.333)"
    assert repr(getm.Planned(None, 3)) == "Planned(total_bytes=3)"
    assert (
        repr(getm.Started(0, "https://h/x", Path("in/x"), 7)) == "Started(index=0, url='https://h/x', path='x', size=7)"
    )


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_copies_are_as_good(value: Any) -> None:
    pickled = pickle.loads(pickle.dumps(value))
    changed = msgspec.structs.replace(value, **{value.__struct_fields__[0]: getattr(value, value.__struct_fields__[0])})
    for other in (pickled, copy.copy(value), copy.deepcopy(value), changed):
        assert type(other) is type(value)
        assert msgspec.json.encode(other) == msgspec.json.encode(value) and repr(other) == repr(value)
        if not isinstance(value, getm.ObjectInfo):
            assert other == value
        for name in value.__struct_fields__:
            assert type(getattr(other, name)) is type(getattr(value, name))


def test_fields_are_what_they_were() -> None:
    assert isinstance(RESULT.path, Path) and RESULT.path.name == "a" * 255
    assert INFO.headers is HEADERS and INFO.headers["content-type"] == "text/html"
    failed = getm.Failed(3, "https://host/x", Path("x"), ERROR)
    assert failed.error is ERROR and failed.path == Path("x")
    match failed:
        case getm.Failed(error=getm.HTTPStatusError(status=404), path=Path()):
            pass
        case _:
            raise AssertionError(failed)
    assert {failed, getm.Failed(3, "https://host/x", Path("x"), ERROR)} == {failed}
    with pytest.raises(AttributeError):
        RESULT.path = Path("y")  # type: ignore[misc]
    assert msgspec.structs.replace(RESULT, path=Path("y")).path == Path("y")


def test_what_json_has_of_an_error() -> None:
    assert ERROR.to_json() == {**FACTS, "status_code": 404}
    encoded = json.loads(msgspec.json.encode(getm.Failed(3, "https://host/x", Path("x"), ERROR)))
    assert encoded["error"] == ERROR.to_json() and encoded["path"] == "x"
    expired = getm.URLExpired("expired", url="https://host/x", status=403)
    assert (expired.to_json()["status_code"], expired.to_json()["error"]) == (403, "url-expired")


def test_the_flat_form() -> None:
    for value in VALUES:
        if hasattr(value, "to_json"):
            flat = value.to_json()
            assert json.loads(json.dumps(flat)) == flat
    assert RESULT.to_json()["checksum"] == f"sha512:{'0f' * 64}"
    assert getm.Finished(3, RESULT).to_json() == {"event": "finished", "index": 3, **RESULT.to_json()}
    failure = getm.DownloadFailure(3, "https://host/x", Path("x"), ERROR)
    assert getm.Failed(3, "https://host/x", Path("x"), ERROR).to_json() == {"event": "failed", **failure.to_json()}


def test_a_path_that_is_not_utf_8() -> None:
    path = Path(os.fsdecode(b"latin-\xe9"))
    skipped = getm.Skipped(3, path, "it exists")
    assert skipped.path == path and pickle.loads(pickle.dumps(skipped)) == skipped
    assert json.loads(json.dumps(skipped.to_json()))["path"] == str(path)
    with pytest.raises(UnicodeEncodeError):
        msgspec.json.encode(skipped)
