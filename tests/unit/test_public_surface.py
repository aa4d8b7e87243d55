"""What `import getm` gives, and what it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import pytest

import getm


def test_every_public_name_is_there_and_only_once() -> None:
    assert getm.__all__ == sorted(set(getm.__all__))
    for name in getm.__all__:
        assert getattr(getm, name) is not None
    assert set(getm.__all__) <= set(dir(getm))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getm.nothing  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'redact'"):
        getm.redact  # type: ignore[attr-defined]  # noqa: B018


def test_public_names_are_those_that_checkers_of_types_read() -> None:
    """What a name is must not depend on which of the modules is looked at first, for people, checkers and programs."""
    homes = [importlib.import_module(f"getm.{home}") for home in getm._HOMES]
    for name in {*getm.__all__} - {"errors", "__version__"}:
        found = [getattr(home, name) for home in homes if name in getattr(home, "__all__", vars(home))]
        assert found and all(each is getattr(getm, name) for each in found), name
    # A module of the package that bears the name of a function would take its place when it is imported.
    modules = {path.stem for path in Path(getm.__file__).parent.iterdir()}
    assert modules & {*getm.__all__} == {"errors"}


def test_all_errors_are_public_and_no_two_classes_share_a_name() -> None:
    tree = [getm.GetmError]
    for error in tree:
        tree.extend(error.__subclasses__())
        assert getattr(getm, error.__name__) is getattr(getm.errors, error.__name__) is error
    public = {name for name in getm.__all__ if isinstance(getattr(getm, name), type)}
    assert {name for name in public if issubclass(getattr(getm, name), Exception)} == {each.__name__ for each in tree}


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
        assert getm.download.__module__ == "getm.session"
        print("good")
    """
    assert run(textwrap.dedent(program)) == "good"


def test_version_is_the_installed_one() -> None:
    assert getm.__version__ == metadata.version("getm")
