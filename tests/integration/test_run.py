"""`getm run -- COMMAND ARGUMENTS...`: the program is the process that was started, its URLs lead to the objects, and
nothing is left of it."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb_extension_httpfs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import parquet

from getm.core.units import MIB
from getm.testing import FaultServer, Reply, Request, failure
from tests.support.bam import Region, make_bam, named_bytes
from tests.support.command import failure as told_by
from tests.support.command import getm, refused, started
from tests.support.documentation import Block, blocks_run_by, files_of, run_block
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject
from tests.support.signing import SignedObject

Make = Callable[..., ServedObject]

BODY = hashlib.shake_256(b"run").digest(200_000)

# Programs that read URLs, or tell what they are. curl takes no URL for an option.
CAT = ["curl", "-sS", "--fail-with-body"]


@pytest.fixture
def url(fault_server: FaultServer) -> str:
    return fault_server.serve("/in/x.bam", Reply(body=BODY))


def run(
    *command: object, cwd: Path, options: tuple[object, ...] = (), **more: object
) -> subprocess.CompletedProcess[bytes]:
    return getm("run", *options, "--", *command, cwd=cwd, **more)  # type: ignore[arg-type]  # as `getm` takes them


def test_a_program_reads_by_its_url(url: str, tmp_path: Path) -> None:
    done = run(*CAT, f"{url}?key=SECRET", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, BODY, b"")


def test_what_the_program_gets(url: str, tmp_path: Path) -> None:
    code = "import json, os, sys; json.dump([sys.argv[1:], os.getpid(), os.listdir('/proc/self/fd')], sys.stdout)"
    arguments = ["x", f"--ref={url}", f"cat '{url}' y", "s3://bucket/a b", "chr1:1-2", "--json", "--"]
    with started("run", "--", sys.executable, "-c", code, *arguments, cwd=tmp_path, stdout=-1, stderr=-1) as process:
        out, _ = process.communicate()
    given, number, descriptors = json.loads(out)
    start, end = given[1].removeprefix("--ref=").rsplit("/0/", 1)
    assert start.startswith("http://127.0.0.1:") and end == "in/x.bam"
    assert given == [
        "x",
        f"--ref={start}/0/in/x.bam",
        f"cat '{start}/0/in/x.bam' y",
        f"{start}/1/a%20b",
        *arguments[4:],
    ]
    # It is the process that was started, and has no descriptor that it would not have otherwise: 0 to 2, and the one of
    # the folder that it lists.
    assert number == process.pid and len(descriptors) == 4


def test_names_that_are_kept(url: str, tmp_path: Path) -> None:
    done = run("echo", url, f"{url}?2", "https://", cwd=tmp_path, options=("--keep", url))
    kept, other, nothing = done.stdout.decode().split()
    assert kept == url and other.startswith("http://127.0.0.1:") and nothing == "https://"


def test_without_names_it_is_only_the_program(tmp_path: Path) -> None:
    done = run("cat", cwd=tmp_path, stdin=b"data")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"data", b"")


@pytest.mark.parametrize(("code", "status"), [("exit 3", 3), ("kill -TERM $$", -15), ("kill -KILL $$", -9)])
def test_its_exit_status(url: str, tmp_path: Path, code: str, status: int) -> None:
    done = run("sh", "-c", code, "sh", url, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_its_signals(url: str, tmp_path: Path, number: signal.Signals) -> None:
    code = f"trap 'exit 7' {number.name[3:]}; echo ready; while :; do read line; done"
    with started("run", "--", "bash", "-c", code, "bash", url, cwd=tmp_path, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        process.communicate()
    assert process.returncode == 7


def test_a_stopped_job_goes_on(url: str, tmp_path: Path) -> None:
    code = 'echo ready; read line; exec curl -sS "$0"'
    with started("run", "--", "sh", "-c", code, url, cwd=tmp_path, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(b"go\n")
    assert (process.returncode, out, err) == (0, BODY, b"")


def test_ctrl_c_on_a_terminal(url: str, tmp_path: Path) -> None:
    """It goes to the program alone: what serves it is in a session of its own."""
    code = "trap 'curl -sS \"$0\" | wc -c; exit 7' INT; echo ready; while :; do read line; done"
    controller, terminal = pty.openpty()
    with (
        os.fdopen(controller, "r+b", buffering=0) as screen,
        started("run", "--", "bash", "-c", code, url, cwd=tmp_path, **on_terminal(terminal)) as process,
    ):
        os.close(terminal)
        shown = b""
        while b"ready" not in shown:
            shown += screen.read(1000)
        screen.write(b"\x03")
        # Reading a terminal whose other end is closed is EIO on Linux, where a pipe would give b"".
        with contextlib.suppress(OSError):
            while data := screen.read(1000):
                shown += data
    assert process.returncode == 7 and str(len(BODY)).encode() in shown


def on_terminal(terminal: int) -> dict[str, Any]:
    """How to start a process whose terminal, in a session of its own, that is."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
    return {**streams, "start_new_session": True, "preexec_fn": partial(fcntl.ioctl, 0, termios.TIOCSCTTY, 0)}


def test_a_program_that_is_not_there(url: str, tmp_path: Path) -> None:
    done = run("no-such-program", url, cwd=tmp_path)
    assert done.returncode == 127
    assert told_by(done) == {"message": "no-such-program cannot be run: No such file or directory."}
    (tmp_path / "plain").write_text("")
    assert run("./plain", url, cwd=tmp_path).returncode == 126


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a command behind --"),
        (["--"], "expected a command behind --"),
        (["samtools", "view", "https://host/x?SECRET"], "expected a command behind --"),
        (["--with", "x.bai", "--", "cat"], "--with: expected the URL or the name of an object"),
        (["--no-such", "--", "cat"], "--no-such"),
    ],
)
def test_wrong_options(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = refused("run", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in str(told_by(done)["message"])


def test_failures_are_told_once(fault_server: FaultServer, tmp_path: Path) -> None:
    name = fault_server.serve("/x", failure(404))
    done = run("sh", "-c", 'curl -s -o /dev/null -w "%{http_code}" "$0" "$0"', f"{name}?key=SECRET", cwd=tmp_path)
    assert done.stdout == b"404404"
    facts = told_by(done)
    assert (facts["status_code"], facts["url"]) == (404, name)


def test_a_proxy_is_not_asked(url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        proxy = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        variables = {"http_proxy": proxy, "no_proxy": "127.0.0.1,other"}
        assert run(*CAT, url, cwd=tmp_path, variables=variables).stdout == BODY
        variables["no_proxy"] = "other"
        assert run("printenv", "no_proxy", url, cwd=tmp_path, variables=variables).stdout == b"other,127.0.0.1\n"


def test_urls_by_a_command(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.serve("/signed", Reply(body=BODY))
    command = tmp_path / "sign"
    command.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/asked\necho {fault_server.url("/signed")}?sig=SECRET\n')
    command.chmod(0o755)
    done = run(*CAT, "https://host/x?old=SECRET", cwd=tmp_path, options=("--url-command", command))
    assert (done.stdout, done.stderr) == (BODY, b"")
    assert (tmp_path / "asked").read_text() == "https://host/x\n"


def test_secrets_are_on_no_command_line(url: str, tmp_path: Path) -> None:
    # Of what serves the program as well, which has started when the object has come.
    code = 'curl -sS -o /dev/null "$0"; grep -alE "PRIVATE[0-9]" /proc/[0-9]*/cmdline'
    done = run("sh", "-c", code, f"{url}?key=PRIVATE1", cwd=tmp_path)
    assert (done.stdout, done.stderr) == (b"", b"")


# Programs for real ---------------------------------------------------------------------------------------------------

# DuckDB's own way to have it, INSTALL, downloads it.
EXTENSION = next(Path(duckdb_extension_httpfs.__file__).parent.rglob("*.duckdb_extension"))
LOAD = f"LOAD '{EXTENSION}'"

needs_samtools = pytest.mark.skipif(shutil.which("samtools") is None, reason="samtools is not installed")
# Not at the start of the file: small ones are taken for indexes there, which are read whole.
REGIONS = [Region(2, 2_000_000, 9_000_000), Region(3, 1_000_000, 6_000_000), Region(3, 8_000_000, 8_100_000)]


@pytest.fixture(scope="module")
def bam(nginx: NginxServer) -> ServedObject:
    """Some 8 MB."""
    bam = nginx.objects.write("x.bam", b"")
    make_bam(bam.path, 75_000, 3)
    return bam


@needs_samtools
def test_samtools_reads_regions(nginx: NginxServer, bam: ServedObject, tmp_path: Path) -> None:
    regions = list(map(str, REGIONS))
    there = subprocess.run(["samtools", "view", "--no-PG", bam.path, *regions], capture_output=True, check=True)
    mark = nginx.log.mark()
    here = run("samtools", "view", "--no-PG", nginx.url(bam), *regions, cwd=tmp_path)
    assert (here.returncode, here.stdout, here.stderr) == (0, there.stdout, b"")
    index = bam.path.with_name("x.bam.bai").stat().st_size
    cost = sum(each.body_bytes for each in nginx.log.since(mark))
    # And at each of some five places where it hangs up, what the kernel keeps.
    assert cost <= 1.2 * named_bytes(bam.path, REGIONS) + index + 2.5 * MIB


@needs_samtools
def test_samtools_with_urls_that_expire(fault_server: FaultServer, bam: ServedObject, tmp_path: Path) -> None:
    """The file and its index each have signatures, made by a command, each good for five requests."""

    def signed_object(path: Path) -> SignedObject:
        body = path.read_bytes()
        return SignedObject(fault_server, lambda request: Reply(body=body), uses=5, path=f"/in/{path.name}")

    signed = {path.name: signed_object(path) for path in (bam.path, bam.path.with_name("x.bam.bai"))}

    def sign(request: Request) -> Reply:
        return Reply(body=signed[request.path.rpartition("/")[2]].sign().encode())

    for name in signed:
        fault_server.serve(f"/sign/in/{name}", sign)
    command = tmp_path / "sign"
    command.write_text(f'#!/bin/sh\nexec curl -sSf "{fault_server.url("/sign")}/in/${{1##*/}}"\n')
    command.chmod(0o755)
    there = subprocess.run(["samtools", "view", "--no-PG", bam.path, str(REGIONS[0])], capture_output=True, check=True)
    name = f"{signed['x.bam'].url}?old=SECRET"
    here = run(
        "samtools", "view", "--no-PG", name, REGIONS[0], cwd=tmp_path, options=("--url-command", command, "--retries=3")
    )
    assert (here.returncode, here.stdout, here.stderr) == (0, there.stdout, b"")
    assert len(signed["x.bam"].used) >= 3 and all(each.one_for_each_expiry for each in signed.values())


@pytest.fixture(scope="module")
def table(nginx: NginxServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[ServedObject, pa.Table]:
    """A Parquet file, and what is in it."""
    numbers = np.random.default_rng(1)
    table = pa.table({f"c{column}": numbers.integers(0, 2**60, 50_000) for column in range(20)})
    path = tmp_path_factory.mktemp("parquet") / "x.parquet"
    parquet.write_table(table, path, row_group_size=10_000)
    return nginx.objects.write("x.parquet", path.read_bytes()), table


def test_duckdb_reads_columns(nginx: NginxServer, table: tuple[ServedObject, pa.Table], tmp_path: Path) -> None:
    served, content = table
    code = f"import sys, duckdb\nconnection = duckdb.connect()\nconnection.execute({LOAD!r})\n"
    code += "print(connection.execute(sys.argv[1]).fetchone())"
    mark = nginx.log.mark()
    query = f"SELECT count(*), min(c3), max(c7) FROM read_parquet('{nginx.url(served)}')"
    done = run(sys.executable, "-c", code, query, cwd=tmp_path)
    expected = 50_000, pc.min(content["c3"]).as_py(), pc.max(content["c7"]).as_py()
    assert (done.stdout.decode().strip(), done.stderr) == (str(expected), b"")
    # Two columns of twenty, and the footer.
    assert sum(each.body_bytes for each in nginx.log.since(mark)) < served.size_bytes / 3


# The page ------------------------------------------------------------------------------------------------------------

BLOCKS = blocks_run_by("how-to/run.md", __file__)


@needs_samtools
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line-{block.line}")
def test_the_page(
    nginx: NginxServer, bam: ServedObject, table: tuple[ServedObject, pa.Table], tmp_path: Path, block: Block
) -> None:
    index = nginx.url(nginx.objects.write("17", bam.path.with_name("x.bam.bai").read_bytes()))
    # The same file, without an index beside it.
    other = nginx.url(bam).replace("/objects/", "/index/objects/other/")
    alone = bam.path.parent / "other" / "x.bam"
    if not alone.exists():
        alone.parent.mkdir()
        alone.hardlink_to(bam.path)

    def served(text: str) -> str:
        text = text.replace("https://data.example.org/index/17", index)
        text = text.replace("https://data.example.org/other/x.bam", other)
        text = text.replace("INSTALL httpfs; LOAD httpfs", LOAD)
        return re.sub(r"https://data\.example\.org/(x\.\w+)", lambda name: nginx.url(f"/objects/{name[1]}"), text)

    block = dataclasses.replace(block, files=files_of("how-to/run.md"))
    status, printed = run_block(block, tmp_path, served=served)
    assert status == 0, printed
    if "query.py" in block.code:
        assert printed == f"[(50000, {pc.max(table[1]['c3']).as_py()})]\n"
    else:
        (region,) = re.findall(r"chr2[-:0-9]*", block.code)
        there = subprocess.run(["samtools", "view", "-c", bam.path, region], capture_output=True, text=True, check=True)
        assert printed == there.stdout
