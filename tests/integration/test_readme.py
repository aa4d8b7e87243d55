"""README.md: every example in it is run, by Python or a shell of its own, against a real server, and prints what it
says it prints.

The rules that the README keeps to: a `python` or `sh` block prints exactly what the `text` block after it shows, and
nothing where there is none; a `json` block is the file that the sentence before it names; a `bash` block is for setting
up, and not run here.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from getm.integrity.values import Checksum
from tests.support.nginx import NginxServer
from tests.support.s3_server import S3Server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"`([\w.]+)`:\n\n\Z")
_EXAMPLE_URL = re.compile(r"https://data\.example\.org/([\w./-]+)")
_BUSY_URL = "https://data.example.org/busy.bam"
_LINK = re.compile(r"\]\(([^)#]+)")

SETUP = "bash"
LANGUAGES = {"python", "sh"}


@dataclass
class Example:
    """A block that is run. `prints` is what the README shows as its output, `files` what the reader has written down
    by then."""

    line: int
    language: str
    code: str
    prints: str = ""
    files: dict[str, str] = field(default_factory=dict)


def read_examples(text: str) -> Iterator[Example]:
    """The examples of a Markdown text. Raises ValueError for a block that keeps to none of the rules."""
    files: dict[str, str] = {}
    example: Example | None = None
    for match in _BLOCK.finditer(text):
        language, content = match.groups()
        line = text.count("\n", 0, match.start()) + 1
        if language == "text":
            if example is not None:
                example.prints = content
                yield example
                example = None
            continue
        if example is not None:
            yield example
            example = None
        if language in LANGUAGES:
            example = Example(line, language, content, files=dict(files))
        elif language == "json":
            named = _FILE_NAME.search(text[: match.start()])
            if named is None:
                raise ValueError(f"line {line}: no sentence before the block ends with the name of its file")
            files[named[1]] = content
        elif language != SETUP:
            raise ValueError(f"line {line}: a block of {language or 'no language'} would be neither run nor compared")
    if example is not None:
        yield example


EXAMPLES = list(read_examples(README))


@pytest.fixture(scope="module")
def urls(nginx: NginxServer) -> dict[str, str]:
    """What stands at the example host, by name: the URLs at which nginx serves it."""
    # No random generator: the README shows checksums of these bytes, so they must be the same for ever.
    reads = nginx.objects.write("reads.bam", b"BAM\x01" + hashlib.shake_256(b"reads.bam").digest(20 * 1024 * 1024))
    notes = nginx.objects.write("notes.txt", b"first line\nsecond line\n")
    members = io.BytesIO()
    with zipfile.ZipFile(members, "w") as archive:
        archive.writestr(zipfile.ZipInfo("large.bin"), bytes(16 * 1024 * 1024))
        for number in range(1000):
            archive.writestr(zipfile.ZipInfo(f"member-{number}.txt"), str(number))
    zipped = nginx.objects.write("members.zip", members.getvalue())
    numbers = nginx.objects.write("numbers.f64", np.arange(1_000_000, dtype=np.float64).tobytes())
    crc = Checksum("crc32c", reads.crc32c)
    return {
        "reads.bam": nginx.declared_url(reads, tls=True, goog_hash=f"crc32c={crc.base64}"),
        "notes.txt": nginx.url(notes, tls=True),
        "members.zip": nginx.url(zipped, tls=True),
        "numbers.f64": nginx.url(numbers, tls=True),
        "missing.bam": nginx.url("/objects/missing.bam", tls=True),
        "busy.bam": nginx.url("/status/503", tls=True),
    }


@pytest.fixture
def folder(tmp_path: Path, nginx: NginxServer) -> Path:
    """Where an example runs: a folder with nothing but the certificate that one of them names."""
    place = tmp_path / "here"
    place.mkdir()
    shutil.copy(nginx.ca_path, place / "our-ca.pem")
    return place


@pytest.fixture
def environment(tmp_path: Path, nginx: NginxServer) -> dict[str, str]:
    """As a reader's, with `getm` on the PATH and the test's certificate authority trusted."""
    commands = tmp_path / "commands"
    commands.mkdir()
    beside = Path(sys.executable).parent
    path = os.pathsep.join([str(commands), str(beside), os.environ["PATH"]])
    found = {**os.environ, "PATH": path, "SSL_CERT_FILE": str(nginx.ca_path), "LC_ALL": "C.UTF-8"}
    if not (beside / "getm").exists():
        # Not installed: the module of this tree is the command.
        script = commands / "getm"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m getm "$@"\n')
        script.chmod(0o755)
        found["PYTHONPATH"] = str(ROOT)
    return found


def output_of(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    run = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return run.returncode, run.stdout.decode()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.language}-line-{example.line}")
def test_example_prints_what_the_readme_shows(
    example: Example,
    urls: dict[str, str],
    folder: Path,
    environment: dict[str, str],
    nginx: NginxServer,
    tmp_path: Path,
) -> None:
    for name, content in example.files.items():
        (folder / name).write_text(_EXAMPLE_URL.sub(lambda match: urls[match[1]], content))
    code = _EXAMPLE_URL.sub(lambda match: urls[match[1]], example.code)
    commands = {
        "python": [sys.executable, "-W", "error", "-c", code],
        "sh": ["bash", "-euo", "pipefail", "-c", code],
    }
    with S3Server(tmp_path) if "s3://" in code else contextlib.nullcontext() as store:
        variables = environment if store is None else environment | store.environment
        status, printed = output_of(commands[example.language], folder, variables)
    served = re.compile(rf"https://127\.0\.0\.1:{nginx.https_port}/(declared/)?objects/")
    printed = served.sub("https://data.example.org/", printed.replace(urls["busy.bam"], _BUSY_URL))
    assert (status, printed) == (0, example.prints)


def test_demo_prints_the_table_that_the_readme_shows(folder: Path, environment: dict[str, str]) -> None:
    """All of it but the numbers, the digest, and the spaces that depend on them."""

    def shape(table: str) -> list[str]:
        return re.sub(r" +", " ", re.sub(r"[0-9a-f]{64}|[0-9]+(\.[0-9]+)?", "#", table)).splitlines()

    (shown,) = (content for language, content in _BLOCK.findall(README) if content.startswith("getm 0."))
    status, printed = output_of(["getm", "demo", "--size", "2"], folder, environment)
    assert status == 0
    assert shape(printed) == shape(shown)


def test_two_commands_set_everything_up() -> None:
    """They stand before all examples, and the second is what CI runs."""
    setup = [(match.start(), match[2]) for match in _BLOCK.finditer(README) if match[1] == SETUP]
    assert len(setup) == 2
    assert setup[1][0] < README.index("```python")
    assert setup[0][1].splitlines()[0].endswith(" &&")
    assert setup[0][1].endswith("python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/getm demo\n")
    assert setup[1][1] == "bash dev_scripts/check\n"
    assert setup[1][1].strip() in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/design.md",
        "docs/integrations.md",
        "docs/two-phase.md",
        "examples/README.md",
    ],
)
def test_links_between_the_documents_lead_somewhere(name: str) -> None:
    document = ROOT / name
    for target in _LINK.findall(document.read_text()):
        if not target.startswith("https://"):
            assert (document.parent / target).exists(), target


def test_the_rules_catch_a_block_that_would_not_be_checked() -> None:
    with pytest.raises(ValueError, match="line 3: a block of no language"):
        list(read_examples("a\n\n```\nb\n```\n"))
    with pytest.raises(ValueError, match="line 1: a block of c "):
        list(read_examples("```c\nb\n```\n"))
    with pytest.raises(ValueError, match="the name of its file"):
        list(read_examples("words\n\n```json\n{}\n```\n"))
    examples = list(read_examples("`a.json`:\n\n```json\n{}\n```\n```sh\nb\n```\n```sh\nc\n```\n```text\nd\n```\n"))
    assert [(each.line, each.code, each.prints) for each in examples] == [(6, "b\n", ""), (9, "c\n", "d\n")]
    assert examples[0].files == {"a.json": "{}\n"}
