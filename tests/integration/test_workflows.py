"""Recipes for workflow engines and clusters: those for Snakemake, MPI and Spark are run, and the WDL is checked, where
these programs are installed; of that for Nextflow the script is run."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from getm.testing import FaultServer, Reply, failure
from tests.support.documentation import ROOT, blocks_run_by

BLOCKS = [block for page in ("how-to/workflows.md", "how-to/clusters.md") for block in blocks_run_by(page, __file__)]


def blocks(language: str) -> list[str]:
    return [block.code for block in BLOCKS if block.language == language]


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
        "PYSPARK_PYTHON": sys.executable,
    }

    def run(module: str, *arguments: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        command = [*before, sys.executable, "-m", module, *arguments]
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


def test_the_script_of_the_nextflow_process(fault_server: FaultServer, tmp_path: Path) -> None:
    (process,) = blocks("groovy")
    (script,) = re.findall(r'"""\n(.*?)"""', process, re.DOTALL)
    body = b"bytes of a run"
    values = {"url": fault_server.serve("/x", Reply(body=body)), "name": "reads.fastq"}
    values["sha256"] = hashlib.sha256(body).hexdigest()
    (tmp_path / "getm").write_text(f'#!/bin/sh\nexec {sys.executable} -m getm "$@"\n')
    (tmp_path / "getm").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    filled = re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], textwrap.dedent(script))
    subprocess.run(["bash", "-ue", "-c", filled], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "reads.fastq").read_bytes() == body


@pytest.fixture
def served(fault_server: FaultServer) -> dict[str, str]:
    """URLs by names; the last one is of no object."""
    urls = {f"{number}.bin": fault_server.serve(f"/{number}", Reply(body=b"x" * number)) for number in range(5)}
    return urls | {"missing.bin": fault_server.serve("/missing", failure(404))}


def recipe(package: str) -> str:
    return next(block for block in blocks("python") if f"from {package}" in block)


@pytest.mark.slow
@pytest.mark.deadline(120)
def test_mpi(run: Callable[..., subprocess.CompletedProcess[str]], served: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("mpi4py", reason="pip install mpi4py mpich")
    program, listed, data = tmp_path / "fetch.py", tmp_path / "list", tmp_path / "data"
    program.write_text(recipe("mpi4py"))
    del served["missing.bin"]
    listed.write_text("".join(f"{url}\n  out={name}\n" for name, url in served.items()))
    mpiexec = str(Path(sys.executable).with_name("mpiexec"))
    done = run("mpi4py.futures", str(program), str(listed), str(data), before=(mpiexec, "-n", "3"))
    assert done.returncode == 0, done.stderr
    expected = [f"{data / name} {number} False" for number, name in enumerate(served)]
    assert sorted(done.stdout.splitlines()) == expected


@pytest.mark.slow
@pytest.mark.deadline(180)
def test_spark(
    run: Callable[..., subprocess.CompletedProcess[str]],
    served: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("pyspark", reason="pip install pyspark, and a Java runtime")
    folder, data = tmp_path / "work", tmp_path / "data"
    lines = [
        f"{url},{name},{'md5:' + hashlib.md5(b'x').hexdigest() if name == '1.bin' else ''}"
        for name, url in served.items()
    ]
    (folder / "files.csv").write_text("url,path,checksum\n" + "\n".join(lines) + "\n")
    code = recipe("pyspark.sql").replace("/shared/data", str(data)).replace("repartition(64)", "repartition(2)")
    (folder / "recipe.py").write_text(f"{code}\nprint(sorted(map(tuple, done.collect())))\n")
    done = run("recipe")
    assert done.returncode == 0, done.stderr
    *_, rows = done.stdout.splitlines()
    *right, missing = ast.literal_eval(rows)
    assert right == [(f"{number}.bin", number, number == 1, None) for number in range(5)]
    assert missing[:3] == ("missing.bin", None, False) and missing[3].startswith("404")
