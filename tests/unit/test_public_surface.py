"""What `import getm` gives, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import pytest

import getm

# The whole public surface, in alphabetical order. A name added or removed here is a line in CHANGELOG.md.
PUBLIC = [
    "AsyncContentIterator",
    "AsyncUnorderedIterator",
    "Checksum",
    "ChecksumMismatch",
    "ContentIterator",
    "DownloadFailure",
    "DownloadResult",
    "EngineDied",
    "Entry",
    "Event",
    "Failed",
    "Finished",
    "GetmError",
    "HTTPStatusError",
    "InvalidInput",
    "NetworkError",
    "Planned",
    "Progressed",
    "Reader",
    "RemoteChanged",
    "Retried",
    "Retries",
    "Session",
    "Skipped",
    "SlotsExhausted",
    "Started",
    "Stats",
    "Timeout",
    "UnorderedIterator",
    "Verdict",
    "__version__",
    "adownload",
    "adownload_all",
    "aiter_content",
    "aiter_content_unordered",
    "checksum",
    "close",
    "download",
    "download_all",
    "errors",
    "iter_content",
    "iter_content_unordered",
    "read",
    "urlopen",
]


def test_public_names() -> None:
    assert sorted(getm.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(getm, name) is not None
    assert set(PUBLIC) <= set(dir(getm))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getm.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_names_are_imported_from_where_checkers_read_that_they_are() -> None:
    """The package lists its names three times: for `*`, for those who read it, and for those who run it."""
    read = {}
    for node in ast.walk(ast.parse(Path(getm.__file__).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module not in ("getm", "getm._version", "getm.core", "importlib"):
            read.update({alias.name: f"{node.module}" for alias in node.names})
    assert {name: f"getm.{home}" for name, home in getm._HOMES.items()} == read
    assert sorted([*read, "errors", "__version__"]) == PUBLIC
    # A module of the package that bears the name of a function would take its place when it is imported.
    modules = {path.stem for path in Path(getm.__file__).parent.iterdir()}
    assert not modules & set(read)


def run(program: str) -> str:
    """What a program prints in an interpreter that has imported nothing yet."""
    return subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def test_import_loads_no_heavy_package() -> None:
    heavy = ("aiohttp", "uvloop", "rich", "numpy", "asyncio", "ssl", "msgspec", "logging", "subprocess")
    assert run(f"import sys, getm; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_a_download_loads_no_package_of_the_engine() -> None:
    heavy = ("aiohttp", "uvloop", "rich", "numpy")
    program = f"import sys; from getm import *; print([name for name in {heavy} if name in sys.modules], errors, read)"
    assert run(program).startswith("[] <module 'getm.errors' from ")


def test_names_are_as_good_as_imported_ones() -> None:
    program = """
        import pickle, pydoc, getm
        assert "urlopen(url" in pydoc.plain(pydoc.render_doc(getm))
        assert pickle.loads(pickle.dumps(getm.Timeout())) == getm.Timeout()
        assert isinstance(getm.errors.InvalidInput("x"), getm.GetmError)
        assert getm.download.__module__ == "getm.functions"
        print("good")
    """
    assert run(textwrap.dedent(program)) == "good"


def test_version_is_the_installed_one() -> None:
    assert getm.__version__ == metadata.version("getm")
