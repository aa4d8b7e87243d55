"""The README and all pages of docs/: every code block runs, against a real server, and prints what the page shows."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.support.documentation import PAGES, ROOT, Block, ExampleHost, read_blocks
from tests.support.nginx import NginxServer

# Too large for what they would test here.
OPTIONAL = re.compile(r"^import (torch|webdataset)$", re.MULTILINE)
BLOCKS = [(page.relative_to(ROOT), block) for page in PAGES for block in read_blocks(page.read_text())]
EXAMPLES = [pytest.param(block, id=f"{page}-line-{block.line}") for page, block in BLOCKS if block.run_by is None]


@pytest.fixture(scope="session")
def host(nginx: NginxServer) -> ExampleHost:
    """One for all that a worker runs: between two pages it may run another module."""
    return ExampleHost(nginx)


@pytest.mark.deadline(180)
@pytest.mark.parametrize("block", EXAMPLES)
def test_example_prints_what_the_page_shows(block: Block, host: ExampleHost, tmp_path: Path) -> None:
    for package in OPTIONAL.findall(block.code):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: it is too large for what it would test here")
    status, printed = host.run(block, tmp_path)
    assert status == 0, printed
    if "…" in block.prints:
        pattern = re.escape(block.prints).replace("…", ".*")
        assert re.fullmatch(pattern, printed), printed
    else:
        assert printed == block.prints


@pytest.mark.parametrize(("page", "block"), [each for each in BLOCKS if each[1].run_by is not None])
def test_a_block_that_another_test_runs_is_known_to_it(page: Path, block: Block) -> None:
    assert block.run_by is not None
    assert f'"{page.relative_to("docs")}"' in (ROOT / block.run_by).read_text()


def test_the_rules_catch_a_block_that_would_not_be_checked() -> None:
    with pytest.raises(ValueError, match="line 3: a block of no language"):
        list(read_blocks("a\n\n```\nb\n```\n"))
    with pytest.raises(ValueError, match="line 1: a block of c "):
        list(read_blocks("```c\nb\n```\n"))
    with pytest.raises(ValueError, match="line 3: a block of json "):
        list(read_blocks("words\n\n```json\n{}\n```\n"))
    blocks = list(read_blocks("`a.json`:\n\n```json\n{}\n```\n```sh\nb\n```\n```sh\nc\n```\n```text\nd\n```\n"))
    assert [(each.line, each.code, each.prints) for each in blocks] == [(6, "b\n", ""), (9, "c\n", "d\n")]
    assert blocks[0].files == {"a.json": "{}\n"}
    (block,) = read_blocks("<!-- Run by tests/x.py. -->\n\n```c\nb\n```\n")
    assert (block.language, block.run_by) == ("c", "tests/x.py")


_LINK = re.compile(r"\]\(([^)#\s]+)")
# Of those in docs/ the site's build says so.
DOCUMENTS = ["CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_documents_lead_somewhere(name: str) -> None:
    document = ROOT / name
    for target in _LINK.findall(document.read_text()):
        if not target.startswith(("https://", "http://")):
            assert (document.parent / target).exists(), target
