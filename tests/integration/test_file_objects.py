"""Readers where Python's own library, or NumPy's, takes a file. Checkers of types read this file, too."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import getm
from getm.core.units import MIB
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

Make = Callable[[int], ServedObject]


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session()


LINES = b"first\nsecond\n" * 100_000


def test_case_60_the_standard_library_takes_a_reader(session: getm.Session, nginx: NginxServer, tmp_path: Path) -> None:
    url = nginx.url(nginx.objects.write("lines.txt", LINES))
    with io.BufferedReader(session.urlopen(url)) as buffered:
        assert buffered.readline() == b"first\n"
        assert buffered.read() == LINES[6:]
    with io.TextIOWrapper(io.BufferedReader(session.urlopen(url)), "ascii") as text:
        assert sum(1 for _ in text) == 200_000
    with session.urlopen(url) as fh, (tmp_path / "copy").open("wb") as file:
        shutil.copyfileobj(fh, file)
        assert fh.tell() == len(LINES)
    assert (tmp_path / "copy").read_bytes() == LINES
    with session.urlopen(url) as fh:
        start: memoryview = fh.read(5)
        rest: memoryview = fh.read()
        assert (bytes(start), bytes(rest)) == (LINES[:5], LINES[5:])
    with session.urlopen(url) as fh:
        array = np.empty(len(LINES), np.uint8)
        count: int = fh.readinto(array)
        assert bytes(array[:count]) == LINES[:count] and count > 0


def test_case_61_what_was_read_can_be_looked_up(session: getm.Session, nginx: NginxServer) -> None:
    url = nginx.url(nginx.objects.write("magic.bam", b"BAM\1" + LINES))
    with session.urlopen(url) as fh:
        assert fh.read(4) in {b"BAM\1", b"CRAM"}
        assert {fh.read(6): 1}[b"first\n"] == 1


def test_case_53_a_buffer_that_cannot_be_written_to_takes_no_bytes(
    session: getm.Session, nginx: NginxServer, tmp_path: Path
) -> None:
    """Each is refused with the error with which a file refuses it, and nothing was read by then."""
    content = LINES[:1000]
    url = nginx.url(nginx.objects.write("short.txt", content))
    (tmp_path / "file").write_bytes(content)
    refused: list[Any] = [b"abcd", memoryview(b"abcd"), "abcd", 5, None, [1], np.zeros((4, 4), np.uint8)[:, 1]]
    with session.urlopen(url) as fh, (tmp_path / "file").open("rb", buffering=0) as file:
        for buffer in refused:
            for each in (fh, file):
                with pytest.raises((TypeError, ValueError, BufferError)) as caught:
                    each.readinto(buffer)
                assert type(caught.value) is TypeError
        # A file would overwrite the pointers in it, and crash.
        objects: Any = np.array([None, None])
        with pytest.raises(TypeError, match="Python objects"):
            fh.readinto(objects)
        assert fh.tell() == 0 and bytes(fh.read()) == content


ARRAYS: list[np.ndarray[Any, Any]] = [
    np.empty((0, 3)),
    np.empty(0, "M8[s]"),
    np.zeros(5, "M8[s]"),
    np.array(0, "M8[ns]"),
    np.zeros((2, 3), "m8[ms]"),
    np.zeros((2, 3), [("when", "M8[s]"), ("what", "<i4")]),
    np.zeros(4, ">f8"),
    np.zeros(4, "<U3"),
    np.zeros((3, 2), complex, order="F"),
    np.array(1.5),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}-{array.shape}")
def test_case_53_every_array_that_a_file_takes_is_filled(
    session: getm.Session, nginx: NginxServer, tmp_path: Path, array: np.ndarray[Any, Any]
) -> None:
    content = bytes(range(1, 201))
    url = nginx.url(nginx.objects.write("numbers.bin", content))
    (tmp_path / "file").write_bytes(content)
    expected = array.copy("K")
    if array.flags.c_contiguous:
        with (tmp_path / "file").open("rb", buffering=0) as file, session.urlopen(url) as fh:
            assert fh.readinto(expected) == array.nbytes
            into: Any = array
            assert file.readinto(into) == array.nbytes
            assert fh.tell() == file.tell()
        assert expected.tobytes() == array.tobytes() == content[: array.nbytes]
    else:
        with session.urlopen(url) as fh, pytest.raises(TypeError):
            fh.readinto(array)


def test_case_61_readers_and_iterators_cannot_be_pickled_and_say_what_to_do(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    url = nginx.url(make_object(MIB))
    with session.urlopen(url) as fh, session.iter_content(url) as parts, session.iter_content_unordered(url) as pairs:
        for each in (fh, parts, pairs, session.aiter_content(url), session.aiter_content_unordered(url)):
            for attempt in (pickle.dumps, copy.copy):
                with pytest.raises(TypeError, match=f"a getm.{type(each).__name__} cannot be pickled"):
                    attempt(each)
