"""Pages of the documentation about every public name of getm, written from signatures and docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import getm

ROOT = Path(__file__).parent.parent
FOLDER = "reference/python"


class _Page(NamedTuple):
    """`names`: of `getm`, in the order in which the page has them."""

    title: str
    introduction: str
    names: tuple[str, ...]


_PAGES = {
    "functions.md": _Page(
        "Functions",
        "Functions of the module are methods of a default [`Session`](session.md), which starts with the first call "
        "and ends with `getm.close()` or with the program.",
        (
            *("urlopen", "open", "read", "readinto", "read_ranges", "shared", "iter_content", "iter_content_unordered"),
            *("download", "download_all", "read_list", "list_objects", "info", "checksum", "close"),
            *(
                "aread",
                "aread_ranges",
                "aiter_content",
                "aiter_content_unordered",
                "adownload",
                "adownload_all",
                "ainfo",
                "alist_objects",
            ),
        ),
    ),
    "session.md": _Page(
        "Session", "A session has the methods that are [functions](functions.md) of the module.", ("Session",)
    ),
    "readers.md": _Page(
        "Readers and iterators",
        "What functions that open a URL return. None of these is made by its class.",
        (
            *("Reader", "ContentIterator", "UnorderedIterator", "AsyncContentIterator", "AsyncUnorderedIterator"),
            *("SpanContents", "SharedObject"),
        ),
    ),
    "values.md": _Page(
        "Arguments and lists",
        "What functions take.",
        ("Timeout", "Retries", "Resource", "Checksum", "Entry", "EntryList", "ListRequest", "ListPage"),
    ),
    "results.md": _Page(
        "Results",
        "What functions return, and what a transfer was like.",
        ("DownloadResult", "DownloadFailure", "ObjectInfo", "ListedObject", "Verdict", "Stats", "Times", "Bottleneck"),
    ),
    "events.md": _Page(
        "Events",
        "`on_event` of `download_all` is called with these, and `getm --progress=json` prints them. For each entry "
        "there are any number of `Examining`, then `Started`, any number of `Progressed`, `Retried` and `Adapted`, and "
        "one of `Finished`, `Failed` and `Skipped`, each of which may also come without a `Started` before it. In "
        'JSON, "event" is the name of the class in lower case. No event has a secret: URLs are without their query.',
        (
            *("Event", "Planned", "Examining", "Started", "Progressed", "Retried", "Adapted", "Finished", "Failed"),
            "Skipped",
        ),
    ),
    "errors.md": _Page(
        "Error classes",
        "All are names of `getm` and of `getm.errors`. [Errors and exit statuses](../errors.md) says what to do.",
        tuple(name for name in vars(getm.errors) if name in getm.__all__ and name != "Stats"),
    ),
}
# Names that are no subject of a page.
_APART = {"errors", "__version__"}

# Members that other layers of getm use.
_INTERNAL = {
    *("Entry.found_by", "Entry.label", "Entry.checksum", "Entry.verifiable", "Entry.target"),
    *("Entry.expanding", "Entry.stands_for_several", "ListedObject.source", "ListedObject.texts"),
    *("Resource.texts", "Resource.expires_s", "Retries.decide", "Reader.onwards"),
    *("Stats.and_then", "Stats.for_store", "Stats.time_facts"),
}

_INTEGRATIONS = {
    "fsspec": ("getm/integrations/fsspec/__init__.py", "getm/integrations/fsspec/filesystem.py"),
    "safetensors": ("getm/integrations/safetensors/__init__.py", "getm/integrations/safetensors/loading.py"),
    "dask": ("getm/integrations/dask.py",),
    "ray": ("getm/integrations/ray.py",),
    "otel": ("getm/integrations/otel.py",),
}
_TESTING = ("getm/testing/__init__.py", "getm/testing/server.py", "getm/testing/script.py")

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example):\n", re.MULTILINE)
_ITEM = re.compile(r"^(\*{0,2}\w+): ", re.MULTILINE)


def pages() -> dict[str, str]:
    """Each page by its path below docs/. Raises ValueError for a public name that is on no page."""
    homes = {name: page for page, (_, _, names) in _PAGES.items() for name in names}
    if missing := set(getm.__all__) - set(homes) - _APART:
        raise ValueError(f"no page of the reference has {sorted(missing)}: add them to one in {Path(__file__).name}")
    found = {
        f"{FOLDER}/{page}": "\n\n".join(
            [f"# {title}", introduction, *(_linked(_about(name), page, homes, name) for name in names)]
        )
        + "\n"
        for page, (title, introduction, names) in _PAGES.items()
    }
    integrations = ["# Integrations", "Each needs its extra: [install](../../start/install.md#extras)."]
    for name, files in _INTEGRATIONS.items():
        integrations += [f"## getm.integrations.{name}", *_read_module(name, files)]
    found[f"{FOLDER}/integrations.md"] = "\n\n".join(integrations) + "\n"
    testing = ["# getm.testing", "How to use it: [test your own pipeline](../../how-to/testing.md)."]
    found[f"{FOLDER}/testing.md"] = "\n\n".join([*testing, *_read_module("testing", _TESTING)]) + "\n"
    return found


# A name of getm ------------------------------------------------------------------------------------------------------


def _about(name: str) -> str:
    value = getattr(getm, name)
    if not inspect.isclass(value):
        return "\n\n".join([f"## {name}", _signature(f"getm.{name}", value), *_sections(inspect.getdoc(value))])
    parts = [f"## {name}"]
    if issubclass(value, getm.GetmError):
        parts.append(_bases(value))
    elif name in {*_PAGES["values.md"].names, "Session"}:
        parts.append(_signature(f"getm.{name}", value))
    parts += _sections(inspect.getdoc(value))
    for member, defined in _members(value):
        if f"{name}.{member}" not in _INTERNAL and not (name == "Session" and member in getm.__all__):
            parts += _about_member(name, member, defined)
    return "\n\n".join(parts)


def _members(value: type) -> Iterator[tuple[str, Any]]:
    """Methods and properties that getm itself defines, those of base classes included."""
    seen = set()
    for owner in value.__mro__:
        # What errors and events inherit is said once, of their bases.
        inherited = owner is not value and issubclass(owner, getm.GetmError | getm.Event)
        if inherited or not owner.__module__.startswith("getm."):
            continue
        for member, defined in vars(owner).items():
            is_code = isinstance(defined, property) or inspect.isfunction(defined)
            if is_code and member not in seen and not member.startswith("_"):
                seen.add(member)
                yield member, defined


def _about_member(name: str, member: str, defined: Any) -> list[str]:
    # Its own docstring: what is inherited is said elsewhere.
    text = (defined.fget if isinstance(defined, property) else defined).__doc__
    if not text or not inspect.isfunction(getattr(defined, "fget", defined)):
        return []
    signature = [] if isinstance(defined, property) else [_signature(member, defined, method=True)]
    return [f"### {name}.{member}", *signature, *_sections(inspect.cleandoc(text))]


def _bases(error: type[getm.GetmError]) -> str:
    names = [base.__name__ for base in error.__bases__]
    fields = [name for name in error.FIELDS if name in error.__annotations__]
    kinds = ", ".join(f"`{name}: {error.__annotations__[name]}`" for name in fields)
    return (
        f'{"Bases" if len(names) > 1 else "Base"}: {", ".join(f"`{name}`" for name in names)}. In JSON its "error" is '
        f"`{error.code}`." + (f" Fields: {kinds}." if kinds else "")
    )


def _signature(name: str, value: Any, *, method: bool = False) -> str:
    signature = inspect.signature(value)
    parameters = [each for each in signature.parameters.values() if not (method and each.name == "self")]
    lines, keywords = [], False
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and not keywords:
            lines.append("*")
            keywords = True
        elif each.kind is each.VAR_POSITIONAL:
            keywords = True
        lines.append(_parameter(each))
    result = "" if inspect.isclass(value) else f" -> {_type(signature.return_annotation)}"
    return _call(name, lines, result)


def _call(name: str, parameters: Iterable[str], result: str) -> str:
    lines = list(parameters)
    code = f"{name}({', '.join(lines)}){result}"
    if len(code) > 80:
        code = f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f"){result}"
    return f"```python\n{code}\n```"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = "*" * (parameter.kind is parameter.VAR_POSITIONAL) + "**" * (parameter.kind is parameter.VAR_KEYWORD)
    kind = "" if parameter.annotation is parameter.empty else f": {_type(parameter.annotation)}"
    if parameter.default is parameter.empty:
        return f"{stars}{parameter.name}{kind}"
    default = parameter.default
    shown = f"{type(default).__name__}()" if isinstance(default, getm.Timeout | getm.Retries) else repr(default)
    shown = "..." if shown.startswith("<") else shown
    return f"{stars}{parameter.name}{kind} = {shown}" if kind else f"{stars}{parameter.name}={shown}"


def _type(annotation: Any) -> str:
    if annotation is None or annotation is type(None):
        return "None"
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    # Without the modules of classes.
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text)


# Docstrings ----------------------------------------------------------------------------------------------------------


def _sections(text: str | None) -> list[str]:
    """A docstring in Google's form as Markdown."""
    if not text:
        return []
    first, *rest = _SECTION.split(text)
    parts = [first.strip()]
    for title, content in zip(rest[::2], rest[1::2], strict=True):
        body, _, after = content.partition("\n\n") if title != "Example" else (content, "", "")
        body = textwrap.dedent(body).strip("\n")
        match title:
            case "Args" | "Attributes" | "Raises":
                parts += [f"**{ {'Args': 'Arguments'}.get(title, title) }**", _items(body)]
            case "Example":
                parts += ["**Example**", f"```python\n{body.strip()}\n```"]
            case _:
                parts += [f"**{title}**", body]
        parts += [after.strip()] if after.strip() else []
    return parts


def _items(body: str) -> str:
    """`name: text` as a list; further lines are indented."""
    lines: list[str] = []
    for line in body.splitlines():
        found = _ITEM.match(line)
        lines.append(f"- `{found[1]}`: {line[found.end() :]}" if found else f"  {line.strip()}")
    return "\n".join(lines)


def _linked(text: str, page: str, homes: Mapping[str, str], itself: str) -> str:
    """Classes in code style become links to where they are described. (A function's name may be an argument's, too.)"""

    def link(match: re.Match[str]) -> str:
        name = match[1]
        if name not in homes or name == itself or name.islower():
            return match[0]
        return f"[`{name}`]({'' if homes[name] == page else homes[name]}#{name.lower()})"

    # Not in code blocks.
    pieces = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(piece if number % 2 else re.sub(r"`(\w+)`", link, piece) for number, piece in enumerate(pieces))


# Other modules -------------------------------------------------------------------------------------------------------


def _read_module(name: str, files: Iterable[str]) -> list[str]:
    """What a module has in its `__all__`. It is read, not imported: integrations need their packages."""
    trees = [ast.parse((ROOT / file).read_text()) for file in files]
    wanted = [each for tree in trees for each in _public_names(tree)]
    parts = []
    for node in (each for tree in trees for each in tree.body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in wanted:
            wanted.remove(node.name)
            parts += _about_node(name, node)
        elif isinstance(node, ast.Assign) and (alias := ast.unparse(node.targets[0])) in wanted:
            wanted.remove(alias)
            parts += [f"### {name}.{alias}", f"```python\n{ast.unparse(node)}\n```"]
    if wanted:
        raise ValueError(f"{name} has {wanted} in another file than {files}")
    return parts


def _public_names(tree: ast.Module) -> Iterable[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            yield from ast.literal_eval(node.value)


def _about_node(home: str, node: ast.FunctionDef | ast.ClassDef, *, method: bool = False) -> list[str]:
    text = ast.get_docstring(node)
    if method and not text:
        return []
    parts = [f"{'####' if method else '###'} {home}.{node.name}"]
    if isinstance(node, ast.FunctionDef) and "property" not in map(ast.unparse, node.decorator_list):
        result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        arguments = [each for each in _arguments(node.args) if not (method and each == "self")]
        parts.append(_call(node.name, arguments, result))
    parts += _sections(text)
    for member in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
            parts += _about_node(f"{home}.{node.name}", member, method=True)
    return parts


def _arguments(given: ast.arguments) -> Iterator[str]:
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    yield from map(_argument, positional, defaults)
    if given.vararg:
        yield f"*{_argument(given.vararg, None)}"
    elif given.kwonlyargs:
        yield "*"
    yield from map(_argument, given.kwonlyargs, given.kw_defaults)


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")
