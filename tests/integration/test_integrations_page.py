"""docs/integrations.md: every example in it is run, as those of the README are, and prints what it says it prints."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.integration.test_readme import ROOT, Example, output_of, read_examples
from tests.support.nginx import NginxServer

_HOST = "https://data.example.org/"
EXAMPLES = list(read_examples((ROOT / "docs" / "integrations.md").read_text()))


@pytest.fixture(scope="module")
def root(nginx: NginxServer) -> str:
    """The URL of what stands at the example host."""
    place = nginx.objects.make(1).path.parents[1] / "integrations" / "data"
    (place / "year=2024").mkdir(parents=True)
    (place / "year=2024" / "table.csv").write_text("x,y\n" + "".join(f"{row},{row * row}\n" for row in range(1000)))
    (place / "notes.txt").write_bytes(b"first line\nsecond line\n")
    return nginx.url("/index/integrations/", tls=True)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line-{example.line}")
def test_example_prints_what_the_page_shows(
    example: Example, root: str, tmp_path: Path, nginx: NginxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert example.language == "python"
    monkeypatch.setenv("SSL_CERT_FILE", str(nginx.ca_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-W", "error", "-c", example.code.replace(_HOST, root)]
    status, printed = output_of(command, tmp_path, dict(os.environ))
    assert (status, printed.replace(root, _HOST)) == (0, example.prints)
