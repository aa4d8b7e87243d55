"""The examples in the docstrings of the public functions and methods run, against a real server."""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

import getm
from tests.support.nginx import NginxServer

OF_THE_MODULE = [name for name in getm.__all__ if name.islower() and callable(getattr(getm, name))]
NAMES = [
    *OF_THE_MODULE,
    *("Session", "Session.close", "Timeout", "Retries", "Entry"),
    *(
        "Reader.read",
        "Reader.readall",
        "Reader.readinto",
        "Reader.readline",
        "Reader.seek",
        "Reader.seekable",
        "Reader.tell",
    ),
]
_EXAMPLE_URL = re.compile(r"https://data\.example\.org/([\w.]+)")


@pytest.fixture(autouse=True)
def closed_afterwards() -> Iterator[None]:
    yield
    getm.close()


@pytest.mark.parametrize("name", NAMES)
def test_example_runs(name: str, nginx: NginxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    urls = {
        "reads.bam": nginx.url(nginx.objects.write("reads.bam", b"BAM\1" + bytes(range(256)) * 10_000)),
        "notes.txt": nginx.url(nginx.objects.write("notes.txt", b"first line\nsecond line\n")),
        "numbers.f64": nginx.url(nginx.objects.write("numbers.f64", numpy.arange(10.0).tobytes())),
    }
    Path("manifest.json").write_text(json.dumps([{"url": urls["reads.bam"], "filepath": "reads.bam"}]))
    known = {"getm": getm, "io": io, "numpy": numpy, "zlib": zlib, "crc": 0, "urls": list(urls.values())}
    urls["folder"] = nginx.url("/index")
    target: object = getm
    for part in name.split("."):
        target = getattr(target, part)
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(target) or "")
    assert examples
    for example in examples:
        source = _EXAMPLE_URL.sub(lambda match: urls[match[1]], example.source)
        # `await` and `async for` stand where a notebook takes them.
        kind = "eval" if example.want else "exec"
        result = eval(compile(source, name, kind, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), known)
        if inspect.iscoroutine(result):
            asyncio.run(result)
        if example.want:
            assert f"{result!r}\n" == example.want
