"""`--on-complete CMD`: what it is run for, what it gets, and what happens where it fails, hangs or is interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
from pathlib import Path

import pytest

from getm.testing import FaultServer, Reply
from tests.support.command import failure, getm, names, refused, started

BODY = b"data" * 1000
MD5 = hashlib.md5(BODY).hexdigest()


def script(folder: Path, text: str, name: str = "hook") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_what_the_command_gets(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY)) + "?X-Amz-Signature=SECRET"
    hook = script(tmp_path, 'env > env; for word; do echo "<$word>"; done; cat')
    where = tmp_path / "data"
    where.mkdir()
    run = getm(
        url, "--filepath=-x $(touch bad); y", "-d", where, "--on-complete", f"{hook} -a 'two words'", cwd=tmp_path
    )
    assert (run.returncode, run.stderr) == (0, b"")
    target = where / "-x $(touch bad); y"
    assert run.stdout.decode() == f"<-a>\n<two words>\n<{target}>\n"
    text = (tmp_path / "env").read_text()
    given = sorted(line for line in text.splitlines() if line.startswith(("GETM_C", "GETM_P", "GETM_S")))
    assert given == ["GETM_CHECKSUM=", f"GETM_PATH={target}", f"GETM_SIZE={len(BODY)}"]
    assert "SECRET" not in text and fault_server.url("") not in text
    assert names(tmp_path) == ["data", "env", "hook"]


def test_the_checksum_that_verified_it(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    hook = script(tmp_path, 'echo "$GETM_CHECKSUM"')
    run = getm(url, "--checksum", f"md5:{MD5}", "--on-complete", hook, "--json", cwd=tmp_path)
    # Lines of JSON stay alone.
    assert json.loads(run.stdout)["verified"] is True
    assert (run.returncode, run.stderr.decode()) == (0, f"md5:{MD5}\n")


@pytest.mark.parametrize(
    ("text", "words", "status"),
    [("exit 3", "ended with status 3", 3), ("kill -9 $$", "was ended by SIGKILL", -9)],
)
def test_a_command_that_fails(text: str, words: str, status: int, tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    hook = script(tmp_path, text)
    run = getm(url, "--on-complete", f"{hook} SECRET", cwd=tmp_path)
    facts = failure(run)
    assert (run.returncode, facts["error"], facts["path"], facts["exit_status"]) == (10, "command", "x", status)
    assert words in str(facts["message"]) and "the file itself is in place" in str(facts["message"])
    assert (tmp_path / "x").read_bytes() == BODY


def test_in_a_batch(tmp_path: Path, fault_server: FaultServer) -> None:
    """As many at a time as there are cores; with -c all are run, and each failure is reported."""
    urls = [fault_server.serve(f"/{number}", Reply(body=BODY)) for number in range(12)]
    (tmp_path / "now").mkdir()
    hook = script(
        tmp_path,
        'mkdir "now/$$"; ls now | wc -l >> most; sleep 0.02; rmdir "now/$$"; test "${1##*/}" != 5 -a "${1##*/}" != 7',
    )
    run = getm(*urls, "-d", "data", "-c", "--on-complete", hook, cwd=tmp_path)
    lines = [json.loads(line.removeprefix("ERROR:getm.cli:")) for line in run.stderr.decode().splitlines()]
    assert run.returncode == 10
    assert sorted(line["path"] for line in lines[:2]) == ["data/5", "data/7"] and len(lines) == 3
    counts = [int(line) for line in (tmp_path / "most").read_text().split()]
    assert len(counts) == 12 and max(counts) <= (os.cpu_count() or 1)
    assert names(tmp_path / "now") == [] and len(names(tmp_path / "data")) == 12


def test_what_commands_print_is_not_mixed(tmp_path: Path, fault_server: FaultServer) -> None:
    urls = [fault_server.serve(f"/{number}", Reply(body=BODY)) for number in range(4)]
    # On both streams, and without an end of line at last.
    hook = script(tmp_path, 'echo "$1" >&2; sleep 0.05; printf "%s" "$1"')
    run = getm(*urls, "-d", "data", "--on-complete", hook, cwd=tmp_path)
    lines = run.stdout.decode().splitlines()
    assert (run.returncode, run.stderr, len(lines)) == (0, b"", 8)
    assert lines[::2] == lines[1::2] and len({*lines}) == 4


def test_of_much_that_a_command_prints_the_end_is_passed_on(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    hook = script(tmp_path, "seq 1 100000; exit 1")
    run = getm(url, "--on-complete", hook, cwd=tmp_path)
    assert run.returncode == 10 and run.stdout.endswith(b"99999\n100000\n") and len(run.stdout) <= 65_536


def test_a_failure_ends_a_batch(tmp_path: Path, fault_server: FaultServer) -> None:
    urls = [fault_server.serve(f"/{number}", Reply(body=BODY)) for number in range(200)]
    hook = script(tmp_path, "echo >> ran; false")
    run = getm(*urls, "-d", "data", "--on-complete", hook, cwd=tmp_path)
    assert run.returncode == 10
    assert json.loads(run.stderr.decode().splitlines()[0].removeprefix("ERROR:getm.cli:"))["error"] == "command"
    # Of those that are in place by then, a few more are under way.
    assert (tmp_path / "ran").read_text().count("\n") < 200


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
def test_an_interrupt_ends_the_commands(number: signal.Signals, tmp_path: Path, fault_server: FaultServer) -> None:
    cores = os.cpu_count() or 1
    urls = [fault_server.serve(f"/{count}", Reply(body=BODY)) for count in range(cores + 2)]
    os.mkfifo(tmp_path / "begun")
    hook = script(tmp_path, "echo $$ > begun; exec sleep 100")
    # For writing as well: no end of file between two commands. A file for errors: commands that are left would keep a
    # pipe open.
    with (
        os.fdopen(os.open(tmp_path / "begun", os.O_RDWR)) as begun,
        (tmp_path / "errors").open("w") as errors,
        started(*urls, "-d", "data", "--on-complete", hook, cwd=tmp_path, stderr=errors) as process,
    ):
        running = [int(begun.readline()) for _ in range(cores)]
        process.send_signal(number)
        assert process.wait() == 128 + number
    message = json.loads((tmp_path / "errors").read_text().removeprefix("ERROR:getm.cli:"))["message"]
    assert message.startswith(("Interrupted", "Terminated")) and "was not run" in message
    for pid in running:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--on-complete", "nothing-of-this-name x"], "there is no command 'nothing-of-this-name'"),
        (["--on-complete", ""], "there is no command ''"),
        (["--on-complete", "echo 'x"], "cannot be split into words (No closing quotation)"),
        (["--on-complete", "echo", "-o", "-"], "--on-complete is for files"),
        (["--on-complete", "echo", "--on-complete", "echo"], "--on-complete is given twice"),
    ],
)
def test_what_is_refused(arguments: list[str], words: str, tmp_path: Path) -> None:
    run = refused("http://127.0.0.1:9/x", *arguments, cwd=tmp_path)
    assert run.returncode == 2 and words in str(failure(run)["message"])


def test_a_dry_run_runs_nothing(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    run = getm(url, "--dry-run", "--on-complete", "touch ran", cwd=tmp_path)
    assert (run.returncode, names(tmp_path)) == (0, [])
