"""`--url-command CMD`: what it gets, what it may print, when it is run, and how it fails."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
from pathlib import Path

import pytest

import getm
from getm.cli.url_command import URLCommand
from getm.testing import FaultServer, Reply, Request, failure
from tests.support.command import failure as told_by
from tests.support.command import getm as run_getm
from tests.support.command import refused, started
from tests.support.signing import SignedObject, cut

BODY = hashlib.shake_256(b"url command").digest(1_000_000)


def script(folder: Path, code: str, name: str = "sign") -> Path:
    """A command of that code in sh."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def signed(fault_server: FaultServer) -> SignedObject:
    """The signature is the number of those before it."""
    signed = SignedObject(fault_server, cut(BODY, 300_000), uses=2)
    fault_server.serve("/sign", lambda request: Reply(body=signed.sign().encode()))
    return signed


@pytest.fixture
def sign(fault_server: FaultServer, tmp_path: Path) -> Path:
    """Asks for a signature, and writes down what it got."""
    asks = f"python3 -c 'import urllib.request as u; print(u.urlopen(\"{fault_server.url('/sign')}\").read().decode())'"
    return script(tmp_path, f'echo "$#" "$@" >> {tmp_path}/arguments; {asks}')


def test_a_download_outlives_its_signatures(signed: SignedObject, sign: Path, tmp_path: Path) -> None:
    run = run_getm(f"{signed.url}?old=SECRET", "out", "--url-command", f"{sign} -v", "--retries=3", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "out").read_bytes() == BODY
    assert len(signed.used) >= 2 and signed.one_for_each_expiry
    assert (tmp_path / "arguments").read_text().splitlines() == [f"2 -v {signed.url}"] * len(signed.used)


def test_lists_and_everything_that_is_told(signed: SignedObject, sign: Path, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps([{"url": f"{signed.url}?SECRET", "filepath": "a/b"}]))
    arguments = ["-m", "list.json", "--url-command", sign, "--json", "-vv", "--progress=json", "--receipt", "receipt"]
    run = run_getm(*arguments, cwd=tmp_path)
    assert run.returncode == 0 and (tmp_path / "a" / "b").read_bytes() == BODY
    receipt = (tmp_path / "receipt").read_text()
    assert json.loads(receipt.splitlines()[-1])["url"] == signed.url and "SECRET" not in receipt


def test_json(fault_server: FaultServer, tmp_path: Path) -> None:
    def reply(request: Request) -> Reply:
        return Reply(body=BODY) if request.header("X-Token") == "SECRET" else failure(403)

    url = fault_server.serve("/x", reply)
    facts = {
        "url": url,
        "headers": {"X-Token": "SECRET"},
        "checksums": [f"md5:{hashlib.md5(BODY).hexdigest()}"],
        "size": len(BODY),
        "expires_at": "2099-01-01T00:00:00Z",
        "mirrors": None,
    }
    command = script(tmp_path, f"cat <<'END'\n{json.dumps(facts, indent=1)}\nEND")
    run = run_getm("https://nowhere.example.test/x", "out", "--url-command", command, "--json", cwd=tmp_path)
    assert run.returncode == 0 and (tmp_path / "out").read_bytes() == BODY
    assert json.loads(run.stdout)["verified"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("echo 'cannot sign https://h/x?SECRET' >&2; exit 3", "ended with status 3: cannot sign https://h/x"),
        ("exit 1", "(--url-command) ended with status 1"),
        ("kill -9 $$", "ended with status -9"),
        ("true", "expected one line with a URL, or a JSON object, got 0 lines"),
        ("echo http://h/SECRET; echo http://h/SECRET", "got 2 lines"),
        ("echo /SECRET", "expected an http or https URL, got a path"),
        ("echo '{\"url\": '", "what was printed is no JSON"),
        ('echo \'{"url": "http://h/x", "sha": "SECRET"}\'', "unknown key 'sha'"),
        ("echo '{\"size\": 5}'", 'the JSON has no "url"'),
        ('echo \'{"url": "http://h/x", "expires_at": "SECRET"}\'', '"expires_at" is no time'),
        ('echo \'{"url": "http://h/x", "headers": "SECRET"}\'', "headers must be"),
    ],
)
def test_what_goes_wrong(code: str, says: str, tmp_path: Path) -> None:
    run = run_getm("https://nowhere.example.test/x", "--url-command", script(tmp_path, code), cwd=tmp_path)
    facts = told_by(run)
    assert (run.returncode, facts["error"]) == (4, "resolve")
    assert "no URL could be had from https://nowhere.example.test/x: " in str(facts["message"])
    assert says in str(facts["message"])


def test_it_may_take_as_long_as_silence(tmp_path: Path) -> None:
    command = script(tmp_path, "exec sleep 100")
    run = run_getm("https://nowhere.example.test/x", "--url-command", command, "--timeout=0.2", cwd=tmp_path)
    assert run.returncode == 4 and "took longer than 0.2 s" in str(told_by(run)["message"])


def test_it_ends_with_the_command(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    command = script(tmp_path, f"exec 9> {tmp_path}/fifo; echo started >&9; exec sleep 100")
    with (
        started("https://nowhere.example.test/x", "--url-command", command, cwd=tmp_path) as process,
        (tmp_path / "fifo").open() as fifo,
    ):
        assert fifo.readline() == "started\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
        # Its end.
        assert fifo.read() == ""


@pytest.mark.parametrize(("command", "says"), [("no-such-command x", "there is no command"), ("'", "cannot be split")])
def test_a_command_that_is_none(command: str, says: str, tmp_path: Path) -> None:
    run = refused("https://nowhere.example.test/x", "--url-command", command, cwd=tmp_path)
    assert run.returncode == 2 and says in str(told_by(run)["message"])


def test_workers_can_have_it(tmp_path: Path) -> None:
    command = URLCommand(str(script(tmp_path, 'echo "http://host/found?from=$1"')), 5.0)
    entry = pickle.loads(pickle.dumps(command.found(getm.Entry("https://h/x?SECRET"))))
    assert entry.provider().url == "http://host/found?from=https://h/x"
