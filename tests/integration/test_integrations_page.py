"""docs/integrations.md: every example in it is run, as those of the README are, and prints what it says it prints."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

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
    model = place.with_name("model")
    model.mkdir()
    shards: dict[str, dict[str, Any]] = {
        "a.safetensors": {"embedding": np.zeros((100, 64), "f2"), "head": np.zeros((64, 100), "f2")},
        "b.safetensors": {"bias": np.zeros(64, "f4")},
    }
    files = {name: file for file, tensors in shards.items() for name in tensors}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    for file, tensors in shards.items():
        safetensors.numpy.save_file(tensors, model / file)
    rows = np.zeros((1000, 16), "f4")
    rows[:, 0] = np.arange(1000)
    rows.tofile(model / "rows.f32")
    for number, (name, content) in enumerate({"a": b"first", "b": b"second"}.items()):
        with tarfile.open(model / f"shard-{number:03}.tar", "w") as tar:
            member = tarfile.TarInfo(f"{name}.txt")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return nginx.url("/index/integrations/", tls=True)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line-{example.line}")
def test_example_prints_what_the_page_shows(
    example: Example, root: str, tmp_path: Path, nginx: NginxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert example.language == "python"
    for package in re.findall(r"^import (torch|webdataset)$", example.code, re.MULTILINE):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: it is too large for what it would test here")
    monkeypatch.setenv("SSL_CERT_FILE", str(nginx.ca_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-W", "error", "-c", example.code.replace(_HOST, root)]
    status, printed = output_of(command, tmp_path, dict(os.environ))
    assert (status, printed.replace(root, _HOST)) == (0, example.prints)
