"""The rooms of getm and what each may import, read from the source: docs/design.md says why.

A new module belongs in a room: add its path to `ROOMS`, at the place where what it imports stands above it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "getm"


@dataclass(frozen=True)
class Room:
    """Modules (dotted, without "getm."; a package stands for all within it) and what is kept out of them.

    A room imports rooms above it, and itself. `forbidden` are further modules, of getm or not, that it may not import.
    """

    name: str
    modules: tuple[str, ...]
    forbidden: tuple[str, ...] = ()


ROOMS = (
    Room("errors", ("errors", "stats", "log", "_version")),
    Room("launch", ("launch", "ending"), ("asyncio", "mmap")),
    Room("values", ("spans", "options", "head", "retry", "redact"), ("asyncio", "socket", "mmap")),
    Room("integrity", ("integrity",), ("asyncio",)),
    Room("wire", ("wire",), ("asyncio", "mmap")),
    Room("buffers", ("buffers",), ("asyncio",)),
    Room("engine", ("engine",)),
    Room("engine client", ("client",)),
    Room("faces", ("transfer", "reader", "aio"), ("getm.engine",)),
    Room("downloads", ("events", "downloads"), ("getm.engine", "getm.buffers", "getm.wire", "getm.client")),
    Room(
        "lists", ("lists",), ("asyncio", "socket", "mmap", "getm.engine", "getm.client", "getm.transfer", "getm.reader")
    ),
    Room("batch", ("batch",), ("getm.engine",)),
    Room("session", ("session", "functions"), ("getm.engine",)),
    Room("package", ("__init__",), ("getm.engine", "getm.buffers", "getm.wire", "getm.client")),
    Room(
        "command",
        ("commands", "demo", "cli", "__main__"),
        ("getm.engine", "getm.buffers", "getm.wire", "getm.client"),
    ),
)

# Two modules of one room that are strangers to each other.
STRANGERS = {("reader", "aio"), ("aio", "reader")}

# Packages with one home.
HOMES = {
    "aiohttp": ("engine",),
    "uvloop": ("engine",),
    "rich": ("downloads.bars", "commands.lines"),
}

MAY_PRINT = ("commands", "demo")

MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def room_number(module: str) -> int:
    """The place of a module of getm in `ROOMS`, -1 if it has none."""
    return next((number for number, room in enumerate(ROOMS) if within(module, room.modules)), -1)


def imports(name: str, tree: ast.Module) -> set[str]:
    """Everything that a module imports, also inside functions, as dotted names ("getm.errors", "asyncio").

    `from package import name` counts as "package.name" where that is a module of getm, else as "package".
    """
    package = ["getm", *name.split(".")][:-1]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}".removeprefix("getm.")
                is_module = inner in MODULES or f"{inner}.__init__" in MODULES
                found.add(f"{source}.{alias.name}" if source.split(".")[0] == "getm" and is_module else source)
    return found


def violations(name: str, source: str) -> list[str]:
    """What is wrong with the imports and calls of module `name`, one sentence each."""
    number = room_number(name)
    if number < 0:
        return [f"getm.{name} belongs to no room: add it to ROOMS"]
    room, tree = ROOMS[number], ast.parse(source)
    wrong = []
    for imported in sorted(imports(name, tree)):
        if within(imported, room.forbidden):
            wrong.append(f"getm.{name} ({room.name}) may not import {imported}")
        for package, homes in HOMES.items():
            if within(imported, (package,)) and not within(name, homes):
                wrong.append(f"getm.{name} imports {imported}, whose home is {', '.join(homes)}")
        if not within(imported, ("getm",)):
            continue
        inner = "__init__" if imported == "getm" else imported.removeprefix("getm.")
        if room_number(inner) > number:
            wrong.append(f"getm.{name} ({room.name}) imports getm.{inner}, which stands below it")
        if (name, inner) in STRANGERS:
            wrong.append(f"getm.{name} imports getm.{inner}: two faces that may not know each other")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and within(node.module, ("getm",)):
            source_room = room_number(node.module.removeprefix("getm.") if node.module != "getm" else "__init__")
            for alias in node.names:
                private = alias.name.startswith("_") and not alias.name.startswith("__")
                if private and source_room != number:
                    wrong.append(f"getm.{name} imports the private name {alias.name} of {node.module}")
        prints = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if prints and not within(name, MAY_PRINT):
            wrong.append(f"getm.{name} calls print(); only the command does")
    return wrong


@pytest.mark.parametrize("name", MODULES)
def test_module_keeps_to_its_room(name: str) -> None:
    assert violations(name, MODULES[name].read_text()) == []


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("stray", "", "belongs to no room"),
        ("errors", "from getm.spans import Span", "stands below it"),
        ("spans", "def f():\n    import asyncio", "may not import asyncio"),
        ("retry", "from . import session", "stands below it"),
        ("wire", "import mmap", "may not import mmap"),
        ("integrity.pool", "from getm.engine.http import x", "stands below it"),
        ("integrity.pool", "from ..engine import http", "stands below it"),
        ("client", "import aiohttp.web", "whose home is engine"),
        ("client", "from uvloop import run", "whose home is engine"),
        ("session", "from getm.engine.http import x", "may not import getm.engine"),
        ("reader", "from getm.aio import x", "may not know each other"),
        ("reader", "import getm", "stands below it"),
        ("downloads.partial", "from getm.buffers import lease", "may not import getm.buffers"),
        ("downloads.partial", "import rich", "whose home is"),
        ("cli", "from getm.downloads.partial import _open", "private name _open"),
        ("session", "print(1)", "calls print()"),
    ],
)
def test_violations_are_found(name: str, source: str, expected: str) -> None:
    assert any(expected in sentence for sentence in violations(name, source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("engine.http", "import aiohttp, uvloop, asyncio\nfrom getm.buffers import ledger\nfrom . import pipe"),
        ("commands.verify", "import getm\nfrom getm.downloads import progress\nprint(getm)"),
        ("session", "from getm import errors\nfrom getm._version import __version__\nfrom getm.client import Client"),
    ],
)
def test_what_is_allowed(name: str, source: str) -> None:
    assert violations(name, source) == []
