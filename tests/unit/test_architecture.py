"""The layers of getm and what each may import, read from the source: docs/explanation/design.md says why.

A new module belongs in a layer: add its path to `LAYERS`, at the place where what it imports stands above it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "getm"


@dataclass(frozen=True)
class Layer:
    """Modules (dotted, without "getm."; a package stands for all within it) and what is kept out of them.

    A layer imports layers above it, and itself. `forbidden` are further modules that it may not import.
    """

    name: str
    modules: tuple[str, ...]
    forbidden: tuple[str, ...] = ()


LAYERS = (
    Layer("testing", ("testing",)),
    Layer("values", ("errors", "options", "core", "_version"), ("asyncio", "socket", "mmap")),
    Layer("start of an engine", ("client.process",), ("asyncio", "mmap")),
    Layer("integrity", ("integrity", "results"), ("asyncio",)),
    Layer("protocol", ("protocol",), ("asyncio", "mmap")),
    Layer("buffers", ("buffers",), ("asyncio",)),
    Layer("files", ("events", "files"), ("getm.engine", "getm.buffers", "getm.protocol", "getm.client")),
    Layer("clouds", ("clouds",), ("asyncio", "mmap", "getm.engine", "getm.buffers", "getm.protocol", "getm.client")),
    Layer("destinations", ("destinations",), ("getm.engine", "getm.buffers", "getm.protocol", "getm.client")),
    Layer("engine", ("engine",)),
    Layer("resolving", ("resolve",), ("getm.engine", "getm.buffers")),
    Layer("engine client", ("client",)),
    Layer("sync and async API", ("reader", "file_object", "aio", "shared_object"), ("getm.engine",)),
    Layer("manifests", ("manifests",), ("asyncio", "socket", "mmap", "getm.engine", "getm.client", "getm.reader")),
    Layer("batch", ("batch",), ("getm.engine",)),
    Layer("session", ("arguments", "transfers", "session", "default_session"), ("getm.engine",)),
    Layer("package", ("__init__",), ("getm.engine", "getm.buffers", "getm.protocol")),
    Layer("adapter", ("adapter",), ("getm.engine", "getm.buffers", "getm.protocol")),
    Layer("integrations", ("integrations",), ("getm.engine", "getm.buffers", "getm.protocol")),
    Layer("command", ("cli", "__main__"), ("getm.engine", "getm.buffers", "getm.protocol")),
)

# Two modules of one layer that are strangers to each other.
STRANGERS = {("reader", "aio"), ("aio", "reader")}

# Packages with one home.
HOMES = {
    "aiohttp": ("engine.http", "adapter.server"),
    "uvloop": ("engine.http", "adapter.server"),
}

MAY_PRINT = ("cli",)

MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def layer_number(module: str) -> int:
    """The place of a module of getm in `LAYERS`, -1 if it has none."""
    return next((number for number, layer in enumerate(LAYERS) if within(module, layer.modules)), -1)


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`, which nothing runs."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from run_time_nodes(child)


def imports(name: str, tree: ast.Module) -> set[str]:
    """Everything that a module imports, also inside functions, as dotted names ("getm.errors", "asyncio").

    `from package import name` counts as "package.name" where that is a module of getm, else as "package".
    """
    package = ["getm", *name.split(".")][:-1]
    found: set[str] = set()
    for node in run_time_nodes(tree):
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
    number = layer_number(name)
    if number < 0:
        return [f"getm.{name} belongs to no layer: add it to LAYERS"]
    layer, tree = LAYERS[number], ast.parse(source)
    wrong = []
    for imported in sorted(imports(name, tree)):
        if within(imported, layer.forbidden):
            wrong.append(f"getm.{name} ({layer.name}) may not import {imported}")
        for package, homes in HOMES.items():
            if within(imported, (package,)) and not within(name, homes):
                wrong.append(f"getm.{name} imports {imported}, whose home is {', '.join(homes)}")
        if not within(imported, ("getm",)):
            continue
        inner = "__init__" if imported == "getm" else imported.removeprefix("getm.")
        if layer_number(inner) > number:
            wrong.append(f"getm.{name} ({layer.name}) imports getm.{inner}, which stands below it")
        if (name, inner) in STRANGERS:
            wrong.append(f"getm.{name} imports getm.{inner}: the sync and the async API may not know each other")
    for node in run_time_nodes(tree):
        if isinstance(node, ast.ImportFrom) and node.module and within(node.module, ("getm",)):
            source_layer = layer_number(node.module.removeprefix("getm.") if node.module != "getm" else "__init__")
            for alias in node.names:
                private = alias.name.startswith("_") and not alias.name.startswith("__")
                if private and source_layer != number:
                    wrong.append(f"getm.{name} imports the private name {alias.name} of {node.module}")
        prints = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if prints and not within(name, MAY_PRINT):
            wrong.append(f"getm.{name} calls print(); only the command does")
    return wrong


@pytest.mark.parametrize("name", MODULES)
def test_module_keeps_to_its_layer(name: str) -> None:
    assert violations(name, MODULES[name].read_text()) == []


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("stray", "", "belongs to no layer"),
        ("errors", "from getm.reader import Reader", "stands below it"),
        ("core.spans", "def f():\n    import asyncio", "may not import asyncio"),
        ("options", "from . import session", "stands below it"),
        ("protocol.codec", "import mmap", "may not import mmap"),
        ("integrity.hashing.threads", "from getm.engine.http.requests import x", "stands below it"),
        ("integrity.hashing.threads", "from ...engine import http", "stands below it"),
        ("client", "import aiohttp.web", "whose home is engine.http"),
        ("engine.fetch", "import aiohttp", "whose home is engine.http"),
        ("client", "from uvloop import run", "whose home is engine"),
        ("session", "from getm.engine.http.requests import x", "may not import getm.engine"),
        ("reader", "from getm.aio import x", "may not know each other"),
        ("reader", "import getm", "stands below it"),
        ("files.partial", "from getm.buffers import lease", "may not import getm.buffers"),
        ("files.partial", "import uvloop", "whose home is"),
        ("cli.main", "from getm.files.partial import _open", "private name _open"),
        ("testing.server", "from getm.errors import GetmError", "stands below it"),
        ("session", "print(1)", "calls print()"),
    ],
)
def test_violations_are_found(name: str, source: str, expected: str) -> None:
    assert any(expected in sentence for sentence in violations(name, source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("engine.main", "import asyncio\nfrom getm.buffers import ledger\nfrom . import connection"),
        ("engine.http.loop", "import aiohttp, uvloop"),
        ("cli.verify", "import getm\nfrom getm.files import partial\nprint(getm)"),
        (
            "session",
            "from getm import errors\nfrom getm.client.pool import EnginePool",
        ),
    ],
)
def test_what_is_allowed(name: str, source: str) -> None:
    assert violations(name, source) == []
