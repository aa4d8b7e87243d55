"""Every script in examples/ runs against `getm demo --serve`, and prints what is right."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, argument: str) -> str:
    return subprocess.run(
        [sys.executable, EXAMPLES / name, argument], stdout=subprocess.PIPE, text=True, check=True
    ).stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    run("make_files.py", str(folder))
    return folder


@pytest.fixture
def url(files: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "getm", "demo", "--serve", str(files)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


EXPECTED = {
    "fastq_lines.py": ["20000 reads, 2000000 bases; verified: sha256:"],
    "parquet_column.py": ["100000 rows, mean 0.5", " bytes in "],
    "zip_member.py": ["1000 members; This is member 700.", " bytes in "],
    "async_pipeline.py": ["reads.fastq.gz verified", "table.parquet verified", "members.zip verified"],
}


def test_each_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} - {"make_files.py"} == set(EXPECTED)
    readme = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name: str, url: str, files: Path) -> None:
    printed = run(name, url)
    assert all(text in printed for text in EXPECTED[name]), printed
    if name == "async_pipeline.py":
        for file in ("reads.fastq.gz", "table.parquet", "members.zip"):
            assert f"{hashlib.sha256((files / file).read_bytes()).hexdigest()} {file}" in printed
