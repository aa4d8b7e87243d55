"""The installed command on a pseudo-terminal, as people see it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from getm.testing import FaultServer, Reply, failure
from tests.support.command import started
from tests.support.terminal import PseudoTerminal

MIB = 1024 * 1024


@contextmanager
def on_screen(
    terminal: PseudoTerminal, *arguments: object, cwd: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The command on `terminal`, by both its streams."""
    variables = {**os.environ, "TERM": "xterm", **environment}
    end = terminal.end
    with started(*arguments, cwd=cwd, env=variables, stdin=end, stdout=end, stderr=end) as process:
        os.close(end)
        yield process


def write_list(folder: Path, urls: dict[str, str]) -> Path:
    path = folder / "list.json"
    path.write_text(json.dumps([{"url": url, "filepath": name} for name, url in urls.items()]))
    return path


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_several_files(tmp_path: Path, fault_server: FaultServer, columns: int) -> None:
    gate = fault_server.gate()
    slow = fault_server.serve("/slow", Reply(body=bytes(20 * MIB), stall_at=12 * MIB, gate=gate))
    busy = fault_server.serve("/busy", failure(503, retry_after="30"), Reply(body=b"data"))
    urls = {
        "run/a-name-that-is-long/slow.fastq.gz": slow,
        "run/数据/small.fastq.gz": fault_server.serve("/small", Reply(body=b"data")),
        "run/busy.fastq.gz": busy,
        "run/missing.fastq.gz": fault_server.serve("/missing", failure(404)),
    }
    with PseudoTerminal(columns) as terminal:
        with on_screen(terminal, "-m", write_list(tmp_path, urls), "-c", cwd=tmp_path) as process:
            lines = terminal.shows("2/4 files", "waiting: 503", "retry 1 of 5 in", "slow.fastq.gz", "60 %", "1 failed")
            rows = [line for line in lines if "files" in line or "waiting" in line or "━" in line]
            assert len(rows) == 3 and all(len(line) < columns for line in rows)
            assert " 60 %" in next(row for row in rows if "slow.fastq" in row)
            assert any(re.match(r"· \[.*small\.fastq\.gz", line) for line in lines)
            terminal.resize(60)
            lines = terminal.shows("waiting: 503")
            gate.open()
            terminal.shows("slow.fastq.gz", "3/4 files")
            process.send_signal(signal.SIGINT)
        left = terminal.end_of_output()
    assert process.returncode == 130
    assert not any("━" in line or "waiting" in line for line in left)
    text = "".join(left)
    assert "2 files, 20.0 MiB" in text and "1 of 4 failed" in text and "1 not tried" in text
    assert "Interrupted by SIGINT" in text


def test_one_file_that_waits(tmp_path: Path, fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x.bam", Reply(body=bytes(MIB), hold=gate))
    with PseudoTerminal(80) as terminal:
        with on_screen(terminal, url, cwd=tmp_path) as process:
            terminal.shows("waiting for the server, 1 s")
            gate.open()
        left = terminal.end_of_output()
    assert process.returncode == 0
    assert len(left) == 1 and left[0].startswith("· x.bam: 1.0 MiB in ") and "not verified" in left[0]


def test_many_files(tmp_path: Path, fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    urls = {f"f{number}": fault_server.serve(f"/{number}", Reply(body=b"data")) for number in range(60)}
    urls["missing"] = fault_server.serve("/missing", failure(404))
    urls["last"] = fault_server.serve("/last", Reply(body=bytes(2 * MIB), stall_at=MIB, gate=gate))
    with PseudoTerminal(80) as terminal:
        with on_screen(terminal, "-m", write_list(tmp_path, urls), "-c", "-d", "d", cwd=tmp_path) as process:
            lines = terminal.shows("61/62 files", "98 %", "1 failed")
            assert len(lines) == 2 and "missing: 404 Not Found" in lines[0]
            gate.open()
        failed, *summed_up = terminal.end_of_output()
    assert process.returncode == 8
    assert failed.startswith("✗ [") and "missing" in failed
    expected = r"61 files, 2\.0 MiB, [\d.]+ s, 0 verified, 61 not verified, 1 of 62 failed"
    assert re.fullmatch(expected, " ".join(summed_up))


def test_json_lines_and_bars_on_one_terminal(tmp_path: Path, fault_server: FaultServer) -> None:
    urls = {f"f{number}": fault_server.serve(f"/{number}", Reply(body=b"data")) for number in range(30)}
    with PseudoTerminal(1000, 100) as terminal:
        with on_screen(terminal, "-m", write_list(tmp_path, urls), "--json", cwd=tmp_path) as process:
            pass
        left = terminal.end_of_output()
    assert process.returncode == 0
    assert sum(json.loads(line)["event"] == "finished" for line in left if line.startswith("{")) == 30
    assert not any("━" in line for line in left) and left[-1].startswith("30 files, ")


@pytest.mark.parametrize(
    ("environment", "marks"),
    [
        ({"NO_COLOR": "1"}, "✓"),
        ({"TERM": "dumb"}, "✓"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "+"),
    ],
)
def test_plainer_terminals(tmp_path: Path, fault_server: FaultServer, environment: dict[str, str], marks: str) -> None:
    gate = fault_server.gate()
    url = fault_server.serve(
        "/x", Reply(body=bytes(2 * MIB), stall_at=MIB, gate=gate, headers={"Content-MD5": "stEjbChqPAcEIk/kEF7KSQ=="})
    )
    with PseudoTerminal(80) as terminal:
        with on_screen(terminal, url, "out", cwd=tmp_path, **environment) as process:
            if "TERM" not in environment:
                terminal.shows("50 %")
            gate.open()
        (left,) = terminal.end_of_output()
    assert process.returncode == 0
    assert left.startswith(f"{marks} out: 2.0 MiB in ")
    assert (b"\x1b[3" in terminal.raw) is ("LC_ALL" in environment)
    assert "LC_ALL" not in environment or terminal.raw.isascii()
    assert "TERM" not in environment or b"\x1b" not in terminal.raw
