"""Facts of the project that more than one file states: the files agree, and pyproject.toml is right."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import getm

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STATED_IN = ("*.md", "*.yml", "*.cff", "Containerfile", "conda/*", ".github/**/*.*", "docs/**/*.md")
ADDRESS = re.compile(r"https://github\.com/[^/\s]+/getm\b|https://[a-z]+\.github\.io/getm/")


def test_addresses_of_the_project_are_those_of_its_metadata() -> None:
    files = sorted({path for pattern in STATED_IN for path in ROOT.glob(pattern)})
    stated = {(path.relative_to(ROOT), address) for path in files for address in ADDRESS.findall(path.read_text())}
    assert {path.name for path, _ in stated} >= {"Containerfile", "recipe.yaml"}
    urls = PROJECT["urls"]
    assert {address for _, address in stated} <= {urls["Source"], urls["Documentation"]}


def test_pythons_of_the_classifiers_are_tested() -> None:
    classifier = re.compile(r"Programming Language :: Python :: (3\.\d+)")
    claimed = [match[1] for text in PROJECT["classifiers"] if (match := classifier.fullmatch(text))]
    matrix = re.search(r"python: \[(.*)\]", (ROOT / ".github/workflows/test.yml").read_text())
    assert matrix is not None
    assert re.findall(r'"([^"]+)"', matrix[1]) == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]}"


def test_conda_requires_what_pip_requires() -> None:
    recipe = (ROOT / "conda/recipe.yaml").read_text()
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert f'python_min: "{lowest}"' in recipe
    run = recipe.partition("  run:\n")[2].partition("\n\n")[0]
    assert [line.removeprefix("    - ") for line in run.splitlines()[2:]] == [
        re.sub("([a-z0-9])([<>=])", r"\1 \2", needed, count=1) for needed in PROJECT["dependencies"]
    ]


def test_each_requirement_and_extra_has_its_weight() -> None:
    weighed = (ROOT / "docs/explanation/dependencies.md").read_text()
    assert {re.split("[<>=]", needed)[0] for needed in PROJECT["dependencies"]} == {
        match[1] for match in re.finditer(r"^\| ([a-z][\w-]*) [0-9]", weighed, re.MULTILINE)
    }
    table = (ROOT / "docs/start/install.md").read_text()
    extras = {match[1] for match in re.finditer(r"^\| `(\w+)` \|", table, re.MULTILINE)}
    developers = {"bench", "dev", "docs", "package", "quick-test", "test", "workflows"}
    assert extras == set(PROJECT["optional-dependencies"]) - developers


def test_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## \[(.+?)\] - (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == getm.__version__.partition(".dev")[0]
    assert (newest[2] == "unreleased") == (".dev" in getm.__version__)
