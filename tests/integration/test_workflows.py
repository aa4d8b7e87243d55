"""docs/workflows.md: its Snakemake rules are run, and its WDL is checked, where these programs are installed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fault_script import Reply, failure
from tests.support.fault_server import FaultServer

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "docs" / "workflows.md").read_text(), re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [content for name, content in BLOCKS if name == language]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a module of this environment, with this tree's `getm` as the command of that name."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "getm").write_text(f'#!/bin/sh\nexec {sys.executable} -m getm "$@"\n')
    (commands / "getm").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *arguments]
        folder = tmp_path / "work"
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=100
        )

    (tmp_path / "work").mkdir()
    return run


@pytest.mark.slow
@pytest.mark.deadline(120)
@pytest.mark.parametrize("number", [0, 1], ids=["a file for each job", "one job for a list"])
def test_snakemake(
    number: int,
    run: Callable[..., subprocess.CompletedProcess[str]],
    fault_server: FaultServer,
    tmp_path: Path,
) -> None:
    pytest.importorskip("snakemake", reason="pip install snakemake")
    folder = tmp_path / "work"
    bodies = {f"{number}.fastq": f"@read {number}\n".encode() * (number + 1) for number in range(3)}
    # One fails at first, for longer than getm itself tries.
    replies = {name: [Reply(body=body)] for name, body in bodies.items()}
    replies["1.fastq"][:0] = [failure(404)]
    entries = [
        {
            "url": fault_server.serve(f"/{name}", *replies[name]),
            "filepath": f"reads/{name}",
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        for name, body in bodies.items()
    ]
    (folder / "manifest.json").write_text(json.dumps(entries))
    (folder / "Snakefile").write_text(blocks("snakemake")[number])
    done = run("snakemake", "--cores", "2")
    assert done.returncode == 0, done.stderr
    for name, body in bodies.items():
        assert (folder / "reads" / name).read_bytes() == body
        # What was complete is not downloaded again when another one fails.
        assert len([each for each in fault_server.requests if each.path == f"/{name}"]) == len(replies[name])


@pytest.mark.slow
@pytest.mark.deadline(60)
def test_wdl(run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    pytest.importorskip("WDL", reason="pip install miniwdl")
    (wdl,) = blocks("wdl")
    (tmp_path / "work" / "fetch.wdl").write_text(wdl)
    done = run("WDL", "check", "--strict", "fetch.wdl")
    assert done.returncode == 0, done.stdout + done.stderr
