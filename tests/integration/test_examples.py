"""Every script in examples/ runs against `getm demo --serve`, and prints what is right; so does the notebook."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import hashlib
import importlib.util
import inspect
import io
import json
import re
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
    "bam_region.py": ["25 alignments overlap chr1:500,001-500,200", "r0_00009999\t499950\t100M\t", " bytes\n"],
    "data_loader.py": ["2560000 bytes, verified: sha256:", "40 batches, mean 4999.5"],
    "tensors.py": ["layer3.weight float32 (512, 512) mean 3.0", "bias float32 (512,) mean 255.5", " of 10"],
    "parquet_column.py": ["100000 rows, mean 0.5", " bytes in "],
    "zip_member.py": ["1000 members; This is member 700.", " bytes in "],
    "async_pipeline.py": ["reads.fastq.gz verified", "table.parquet verified", "members.zip verified"],
}


def test_each_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} - {"make_files.py", "make_bam.py"} == set(EXPECTED)
    readme = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in (*EXPECTED, "notebook.ipynb"))


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name: str, url: str, files: Path) -> None:
    if name == "data_loader.py" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed: it is too large for what it would test here")
    printed = run(name, url)
    assert all(text in printed for text in EXPECTED[name]), printed
    if name == "async_pipeline.py":
        for file in ("reads.fastq.gz", "table.parquet", "members.zip"):
            assert f"{hashlib.sha256((files / file).read_bytes()).hexdigest()} {file}" in printed


def test_the_alignments_of_a_region_are_all_that_overlap_it(
    url: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were written there, and, where pysam is installed, those that it finds and as it decodes them."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    bam_region = importlib.import_module("bam_region")
    make_bam = importlib.import_module("make_bam")
    regions = [
        ("chr1", 500_000, 500_200),
        ("chr1", 0, 1),
        ("chr2", 400_000, 400_001),
        ("chr2", 16_384, 32_768),
        ("chr1", 0, 1_200_000),
        ("chr2", 599_000, 600_000),
    ]
    found = {region: bam_region.read_region(f"{url}alignments.bam", *region) for region in regions}
    for (reference, start, stop), (alignments, _) in found.items():
        begins = range(0, make_bam.REFERENCES[reference] - 2 * make_bam.INTRON_BASES, make_bam.STEP)
        ends = [begin + sum(count for _, count in make_bam.cigar_of(number)) for number, begin in enumerate(begins)]
        expected = [begin for begin, end in zip(begins, ends, strict=True) if begin < stop and end > start]
        assert [each.start for each in alignments] == expected
    size = (files / "alignments.bam").stat().st_size
    assert found["chr1", 500_000, 500_200][1] < size / 4

    pysam = pytest.importorskip("pysam", reason="a second decoder: too large to be required")
    with pysam.AlignmentFile(str(files / "alignments.bam")) as bam:
        for region, (alignments, _) in found.items():
            assert [tuple(each) for each in alignments] == [
                (each.query_name, each.reference_start, each.reference_end, each.cigarstring, each.query_sequence)
                for each in bam.fetch(*region)
            ]


async def _outputs_of(cells: list[str]) -> list[str]:
    """What each cell prints, and the value of its last expression. As in Jupyter, the thread's loop is running, and a
    cell may await."""
    names: dict[str, object] = {}
    outputs = []
    for number, cell in enumerate(cells):
        tree = ast.parse(cell)
        last = tree.body[-1]
        if isinstance(last, ast.Expr):
            tree.body[-1] = ast.copy_location(
                ast.Assign([ast.Name("_", ast.Store(), lineno=0, col_offset=0)], last.value), last
            )
        code = compile(ast.fix_missing_locations(tree), f"cell {number}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        names["_"] = None
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            running = eval(code, names)
            if inspect.iscoroutine(running):
                await running
            value = names["_"]
            # What is behind a carriage return overwrites what was before it.
            shown = re.sub(r".*\r", "", printed.getvalue())
            outputs.append(shown + ("" if value is None else repr(value)))
    return outputs


def test_the_notebook_prints_what_it_shows(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GETM_EXAMPLES_URL", url)
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    shown = []
    for cell in cells:
        texts = [output["text"] if "text" in output else output["data"]["text/plain"] for output in cell["outputs"]]
        shown.append("".join(line for text in texts for line in text))
    printed = asyncio.run(_outputs_of(["".join(cell["source"]) for cell in cells]))
    assert [re.sub(r"http://127\.0\.0\.1:\d+/", "URL/", each) for each in printed] == [
        re.sub(r"http://127\.0\.0\.1:\d+/", "URL/", each) for each in shown
    ]
