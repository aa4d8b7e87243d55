"""Code blocks of the documentation, and the host at which its examples are served.

What a page keeps to:

- a `python` or `sh` block prints exactly what the `text` block after it shows, and nothing where there is none. "…" in
  a `text` block stands for anything within a line;
- a block after a sentence that ends with the name of a file (`list.json`:) is that file, for the blocks after it;
- a block after the comment `<!-- Run by tests/integration/test_x.py. -->` is run by that test;
- a `bash` block is for setting up, and a `text` block after no other shows what a person sees: neither is run.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from getm.integrity.values import Checksum
from tests.support.nginx import NginxServer
from tests.support.s3_server import S3Server

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOST = "https://data.example.org/"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"`([\w.-]+)`:\n\n\Z")
_RUN_BY = re.compile(r"<!-- Run by (\S+)\. -->\n\n?\Z")
_URL = re.compile(re.escape(HOST) + r"[\w./={}-]*")
_SETUP = "bash"
_PROGRAMS = {"python": [sys.executable, "-W", "error", "-c"], "sh": ["bash", "-euo", "pipefail", "-c"]}

# In a process of its own: these libraries keep threads and descriptors.
_ARRAYS = """
import sys
from pathlib import Path
import numpy as np, pyarrow, pyarrow.parquet, xarray, zarr

place = Path(sys.argv[1])
numbers = np.random.Generator(np.random.SFC64(1)).random((8, 100_000))
table = pyarrow.table({f"c{number}": column for number, column in enumerate(numbers)})
pyarrow.parquet.write_table(table, place / "wide.parquet")
values = np.arange(2000.0).reshape(20, 100)
grid = xarray.Dataset({"t": (("x", "y"), values)}, coords={"x": np.arange(20), "y": np.arange(100)})
grid.to_netcdf(place / "grid.nc", engine="h5netcdf")
zarr.create_group(place / "group.zarr").create_array("plain", data=np.ones((200, 300)), chunks=(50, 50))
xarray.Dataset({"t": (("x",), np.ones(1000))}).to_zarr(place / "set.zarr", zarr_format=2)
"""


@dataclass
class Block:
    """A block of code. `prints` is what the page shows as its output, `files` what the reader has written down by then,
    `run_by` the test that runs it where it is none that can be run as it stands."""

    line: int
    language: str
    code: str
    prints: str = ""
    files: dict[str, str] = field(default_factory=dict)
    run_by: str | None = None


def read_blocks(text: str) -> Iterator[Block]:
    """The blocks of a Markdown text that are code. Raises ValueError for one that keeps to none of the rules."""
    files: dict[str, str] = {}
    block: Block | None = None
    for match in _BLOCK.finditer(text):
        language, content = match.groups()
        before, line = text[: match.start()], text.count("\n", 0, match.start()) + 1
        named = _FILE_NAME.search(before)
        if language == "text" and not named:
            if block is not None:
                block.prints = content
                yield block
                block = None
            continue
        if block is not None:
            yield block
            block = None
        if run_by := _RUN_BY.search(before):
            yield Block(line, language, content, run_by=run_by[1])
        elif named:
            files[named[1]] = content
        elif language in _PROGRAMS:
            block = Block(line, language, content, files=dict(files))
        elif language != _SETUP:
            raise ValueError(f"line {line}: a block of {language or 'no language'} would be neither run nor compared")
    if block is not None:
        yield block


def blocks_run_by(page: str, test: str) -> list[Block]:
    """Those of a page, a path below docs/, that `test` (its `__file__`) is to run."""
    return [
        block
        for block in read_blocks((ROOT / "docs" / page).read_text())
        if block.run_by is not None and (ROOT / block.run_by).samefile(test)
    ]


def files_of(page: str) -> dict[str, str]:
    """The files that a page, a path below docs/, has the reader write."""
    return {
        named[1]: match[2]
        for text in [(ROOT / "docs" / page).read_text()]
        for match in _BLOCK.finditer(text)
        if (named := _FILE_NAME.search(text[: match.start()]))
    }


def run_block(
    block: Block, folder: Path, variables: Mapping[str, str] | None = None, *, served: Callable[[str], str] = str
) -> tuple[int, str]:
    """Exit status and output of a block, as at a reader's machine: `getm` is on the PATH, and the current folder has
    the files that the page names. `variables`: of the environment; `served`: what is made of code and files before."""
    here, commands = folder / "here", folder / "commands"
    here.mkdir(exist_ok=True)
    commands.mkdir()
    for name, content in block.files.items():
        (here / name).write_text(served(content))
    (commands / "getm").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m getm "$@"\n')
    (commands / "getm").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "LC_ALL": "C.UTF-8",
        "DASK_TEMPORARY_DIRECTORY": str(folder),
        "DASK_LOGGING__DISTRIBUTED": "error",  # a slow machine is no part of what a page shows
        **(variables or {}),
    }
    run = subprocess.run(
        [*_PROGRAMS[block.language], served(block.code)],
        cwd=here,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return run.returncode, run.stdout.decode()


class ExampleHost:
    """What stands at the example host, served by nginx over HTTPS. Each object is made when it is first asked for."""

    def __init__(self, nginx: NginxServer) -> None:
        self._nginx = nginx
        self._urls: dict[str, str] = {}

    def run(self, block: Block, folder: Path) -> tuple[int, str]:
        """As `run_block`, with this host in place of the one that the block names. Its authority is trusted, and a file
        in the current folder has it."""
        (folder / "here").mkdir()
        (folder / "here" / "our-ca.pem").write_bytes(self._nginx.ca_path.read_bytes())
        with S3Server(folder) if "s3://" in block.code else contextlib.nullcontext() as store:
            variables = {"SSL_CERT_FILE": str(self._nginx.ca_path), **(store.environment if store else {})}
            status, printed = run_block(block, folder, variables, served=self._served)
        return status, self._shown(printed)

    def _served(self, text: str) -> str:
        return _URL.sub(lambda match: self._url(match[0].removeprefix(HOST)), text)

    def _shown(self, text: str) -> str:
        for name, url in sorted(self._urls.items(), key=lambda item: -len(item[1])):
            # Messages have URLs without their query.
            text = text.replace(url, HOST + name).replace(url.partition("?")[0], HOST + name)
        return text

    def _url(self, name: str) -> str:
        folders = {
            "data/": self._make_data,
            "model/": self._make_model,
            "arrays/": self._make_arrays,
            "readings/": self._make_readings,
        }
        for folder, make in folders.items():
            if name.startswith(folder):
                if folder not in self._urls:
                    make()
                    self._urls[folder] = self._nginx.url(f"/index/examples/{folder}", tls=True)
                return self._urls[folder] + name.removeprefix(folder)
        if name not in self._urls:
            self._urls[name] = self._object_url(name)
        return self._urls[name]

    def _object_url(self, name: str) -> str:
        nginx = self._nginx
        match name:
            case "missing.bam":
                return nginx.url("/objects/missing.bam", tls=True)
            case "busy.bam":
                return nginx.url("/status/503", tls=True)
            case "notes.txt":
                return nginx.url(nginx.objects.write(name, b"first line\nsecond line\n"), tls=True)
            case "numbers.f64":
                content = np.arange(1_000_000, dtype=np.float64).tobytes()
                return nginx.url(nginx.objects.write(name, content), tls=True)
            case "members.zip":
                return nginx.url(nginx.objects.write(name, _zip_archive()), tls=True)
            case "reads.bam":
                # No random generator: pages show checksums of these bytes, so they must be the same for ever.
                good = bad = b"BAM\x01" + hashlib.shake_256(b"reads.bam").digest(20 * 1024 * 1024)
            case _:
                good, bad = _table_or_tensor(name.partition(".")[2])
        served = nginx.objects.write(name, bad if name.startswith("damaged.") else good)
        declared = Checksum("crc32c", nginx.objects.write(f"declared.{name}", good).crc32c)
        return nginx.declared_url(served, tls=True, goog_hash=f"crc32c={declared.base64}")

    @property
    def _folder(self) -> Path:
        return self._nginx.objects.make(1).path.parents[1] / "examples"

    def _make_data(self) -> None:
        place = self._folder / "data"
        (place / "year=2024").mkdir(parents=True)
        (place / "year=2024" / "table.csv").write_text("x,y\n" + "".join(f"{row},{row * row}\n" for row in range(1000)))
        (place / "notes.txt").write_bytes(b"first line\nsecond line\n")

    def _make_arrays(self) -> None:
        place = self._folder / "arrays"
        place.mkdir(parents=True)
        subprocess.run([sys.executable, "-c", _ARRAYS, place], check=True)

    def _make_readings(self) -> None:
        for year in (2023, 2024):
            folder = self._folder / "readings" / f"year={year}"
            folder.mkdir(parents=True)
            (folder / "part.csv").write_text("x,y\n" + "".join(f"{row},{row * row}\n" for row in range(1000)))

    def _make_model(self) -> None:
        import safetensors.numpy

        model = self._folder / "model"
        model.mkdir(parents=True)
        shards: dict[str, dict[str, np.ndarray]] = {
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


def _zip_archive() -> bytes:
    members = io.BytesIO()
    with zipfile.ZipFile(members, "w") as archive:
        archive.writestr(zipfile.ZipInfo("large.bin"), bytes(16 * 1024 * 1024))
        for number in range(1000):
            archive.writestr(zipfile.ZipInfo(f"member-{number}.txt"), str(number))
    return members.getvalue()


def _table_or_tensor(suffix: str) -> tuple[bytes, bytes]:
    """What is declared, and something of the same size that differs from it. Both are larger than a ring: most of them
    is given out before it is verified."""
    if suffix == "f16":
        return np.full(4_000_000, 0.5, dtype=np.float16).tobytes(), np.ones(4_000_000, dtype=np.float16).tobytes()
    table = "".join(f"{number},{number * number}\n" for number in range(500_000)).encode()
    if suffix == "csv":
        return table, table.replace(b"250000,62500000000\n", b"250000,62500000009\n")
    if suffix == "csv.gz":
        # Decompressed, both are the same: only the checksum shows that they are not.
        return gzip.compress(table, 0, mtime=0), gzip.compress(table, 0, mtime=1)
    raise ValueError(f"no example is served with the suffix {suffix!r}")
