"""`getm serve NAME...`: URLs that other programs use, until it is stopped."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from getm.testing import FaultServer, Reply, failure
from tests.support.adapter import ask
from tests.support.command import failure as told_by
from tests.support.command import refused, started

BODY = hashlib.shake_256(b"serve").digest(100_000)


@pytest.fixture
def url(fault_server: FaultServer) -> str:
    return fault_server.serve("/in/x.bam", Reply(body=BODY))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped(url: str, tmp_path: Path, number: signal.Signals) -> None:
    with started("serve", f"{url}?key=SECRET", url, cwd=tmp_path, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        local = [process.stdout.readline().decode().strip() for _ in range(2)]
        assert [ask(each).body for each in local] == [BODY, BODY]
        assert local[0] != local[1] and all(each.endswith("/in/x.bam") for each in local)
        process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")


def test_json(url: str, tmp_path: Path) -> None:
    with started("serve", "--json", f"{url}?key=SECRET", cwd=tmp_path, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        assert facts["name"] == url and ask(facts["url"]).body == BODY
        process.terminate()
        process.communicate()


def test_a_file_of_urls(url: str, tmp_path: Path) -> None:
    with started("serve", "-o", "urls", url, cwd=tmp_path, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        path = tmp_path / "urls"
        assert path.read_text() == line and path.stat().st_mode & 0o777 == 0o600
        assert ask(line.strip()).body == BODY
        process.terminate()
        assert process.communicate() == (b"", b"")
    assert list(tmp_path.iterdir()) == [] and process.returncode == 0


def test_a_fifo_of_urls(url: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "urls")
    with started("serve", "-o", "urls", url, cwd=tmp_path, stdout=-1, stderr=-1) as process:
        assert ask((tmp_path / "urls").read_text().strip()).body == BODY
        process.terminate()
        process.communicate()
    assert (tmp_path / "urls").is_fifo()


def test_a_file_that_cannot_be_written(url: str, tmp_path: Path) -> None:
    with started("serve", "-o", "no/urls", url, cwd=tmp_path, stdout=-1, stderr=-1) as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (3, b"")
    assert b"no/urls cannot be written: No such file or directory" in err


def test_failures_are_told(fault_server: FaultServer, tmp_path: Path) -> None:
    name = fault_server.serve("/x", failure(403))
    with started("serve", f"{name}?key=SECRET", cwd=tmp_path, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        assert ask(process.stdout.readline().decode().strip()).status == 403
        process.terminate()
        _, err = process.communicate()
    assert b"403 Forbidden" in err and b"SECRET" not in err and err.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "NAME"),
        (["x.bam"], "expected the URL or the name of an object, got x.bam"),
        (["ftp://host/x"], "got ftp://"),
    ],
)
def test_wrong_names(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = refused("serve", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in str(told_by(done)["message"])
