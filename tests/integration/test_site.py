"""The documentation site: built, and looked at in a browser."""

from __future__ import annotations

import functools
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import getm
from tests.support.browser import CHROMIUM, Browser
from tests.support.documentation import ROOT

pytest.importorskip("zensical", reason='pip install "getm[docs]"')

# A start page, one with wide tables and pictures, one with long signatures, one with everything a command prints.
PAGES = ("", "explanation/benchmarks/", "reference/python/functions/", "reference/command/")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command: list[str | Path] = [sys.executable, ROOT / "dev_scripts" / "build_site.py", folder]
    build = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # Broken links, pages that the navigation leaves out and public names without a page end it, too.
    assert build.returncode == 0, build.stdout
    return folder / "site"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url(site: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_the_reference_has_every_public_name_and_option(site: Path) -> None:
    python = "".join(path.read_text() for path in (site / "reference" / "python").glob("*.md"))
    assert set(re.findall(r"^## (\w+)$", python, re.MULTILINE)) >= set(getm.__all__) - {"errors", "__version__"}
    command = (site / "reference" / "command.md").read_text()
    assert all(
        option in command for option in ("--existing WHAT", "--base-url URL", "## getm verify", "### Exit status")
    )


def test_pages_are_there_as_markdown_and_listed(site: Path) -> None:
    listed = re.findall(
        r"^- \[[^]]+\]\(https://[^/]+/getm/(\S+\.md)\): \S", (site / "llms.txt").read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted(str(path.relative_to(site)) for path in site.rglob("*.md"))
    assert (site / "how-to" / "read.md").read_text() == (ROOT / "docs" / "how-to" / "read.md").read_text()


@pytest.mark.deadline(180)
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to look at it in")
def test_pages_fit_a_phone_and_ask_nothing_of_other_hosts(url: str, tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        for page in PAGES:
            for width, scheme in ((390, "dark"), (1440, "light")):
                browser.open(url + page, width=width, scheme=scheme)
                assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), (page, width)
        assert [each for each in browser.requested if not each.startswith((url, "data:", "blob:"))] == []
