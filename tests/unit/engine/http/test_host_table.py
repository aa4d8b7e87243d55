"""The table of hosts in shared memory: whoever dies, whatever is in its place."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from getm.core.pace import HostPace
from getm.engine.http import host_table
from getm.engine.http.host_table import HostTable, key_of
from getm.engine.http.pacing import HostPaces

SERVER = "https://data.example.org"
KEY = key_of(SERVER)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GETM_HOST_TABLE", str(tmp_path / "table"))
    return tmp_path / "table"


@pytest.fixture
def table(path: Path) -> Iterator[HostTable]:
    opened = HostTable()
    yield opened
    opened.close()


def learn(table: HostTable, key: bytes = KEY, interval_s: float = 1.0) -> None:
    now_s = time.monotonic()
    with table.change(key) as pace:
        pace.interval_s, pace.refused_s = interval_s, now_s


def test_what_one_process_learns_another_one_knows(table: HostTable) -> None:
    other = HostTable()
    paces = HostPaces()
    assert not paces.limits(SERVER)
    learn(table)
    found = other.find(KEY)
    assert found is not None and found.interval_s == 1.0
    # Though it had no limits a moment ago.
    assert paces.limits(SERVER) and not paces.limits("https://other.example.org")
    paces.close()
    other.close()


@pytest.mark.parametrize("server", ["HTTPS://DATA.example.org", "https://data.EXAMPLE.org"])
def test_a_server_is_known_in_capitals_too(server: str) -> None:
    assert key_of(server) == KEY


def test_every_field_is_kept(table: HostTable) -> None:
    numbered = enumerate(_defaults().items(), 1)
    values: dict[str, Any] = {name: type(default)(number) for number, (name, default) in numbered}
    values["refused_s"] = values["eased_s"] = time.monotonic()
    with table.change(KEY) as pace:
        for name, value in values.items():
            setattr(pace, name, value)
    assert table.find(KEY) == HostPace(**values)


def _defaults() -> dict[str, Any]:
    pace = HostPace()
    return {name: getattr(pace, name) for name in pace.__struct_fields__}


def test_a_record_that_is_not_whole_is_none(table: HostTable, path: Path) -> None:
    learn(table)
    at = path.read_bytes().index(KEY)
    with path.open("r+b") as file:
        file.seek(at + len(KEY))
        file.write(struct.pack("<d", 0.5))
    assert table.find(KEY) is None
    learn(table, interval_s=2.0)
    found = table.find(KEY)
    assert found is not None and found.interval_s == 2.0


def test_a_record_of_an_earlier_boot_is_none(table: HostTable) -> None:
    with table.change(KEY) as pace:
        pace.interval_s, pace.refused_s = 1.0, time.monotonic() + 1000
    assert table.find(KEY) is None


def test_more_hosts_than_there_is_room_for_replace_the_oldest(table: HostTable) -> None:
    for number in range(2000):
        learn(table, key_of(f"https://{number}.example.org"))
    assert table.find(key_of("https://1999.example.org")) is not None


_LOCKER = """
import fcntl, os, sys, time
file = os.open(os.environ["GETM_HOST_TABLE"], os.O_RDWR)
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_process_that_is_stopped_or_killed_with_the_lock_stops_nobody(table: HostTable) -> None:
    with subprocess.Popen([sys.executable, "-c", _LOCKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        learn(table, interval_s=2.0)
        assert (found := table.find(KEY)) is not None and found.interval_s == 2.0
        other.kill()
    learn(table, interval_s=3.0)
    assert (found := table.find(KEY)) is not None and found.interval_s == 3.0


_COUNTER = f"""
import sys
from getm.engine.http.host_table import HostTable, key_of
table = HostTable()
table.count(key_of({SERVER!r}), requests=1, responses=3)
print("counted", flush=True)
sys.stdin.read()
"""


def test_what_is_under_way_counts_while_its_process_lives(table: HostTable) -> None:
    table.count(KEY, responses=2)
    with subprocess.Popen([sys.executable, "-c", _COUNTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"counted\n"
        assert table.under_way(KEY) == (1, 5)
        other.kill()
    assert table.under_way(KEY) == (0, 2)
    table.count(KEY, responses=-2)
    assert table.under_way(KEY) == (0, 0)


_FILLER = """
import sys
from getm.engine.http.host_table import HostTable, key_of
table = HostTable()
for number in range(2000):
    table.count(key_of(str(number)), responses=1)
print("full", flush=True)
sys.stdin.read()
"""


def test_rows_of_the_dead_are_used_again(table: HostTable) -> None:
    with subprocess.Popen([sys.executable, "-c", _FILLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"full\n"
        # No room: it is not counted, and nothing else happens.
        table.count(KEY, responses=1)
        assert table.under_way(KEY) == (0, 0)
        other.kill()
    later = key_of("https://later.example.org")
    table.count(later, responses=1)
    assert table.under_way(later) == (0, 1)


@pytest.mark.parametrize("kind", ["link", "others may read it", "a folder", "a FIFO", "no folder", "read-only"])
def test_what_is_not_this_users_file_is_not_used(path: Path, kind: str) -> None:
    target = path.with_name("target")
    match kind:
        case "link":
            target.touch(0o600)
            path.symlink_to(target)
        case "others may read it":
            path.touch()
            path.chmod(0o644)
        case "a folder":
            path.mkdir()
        case "a FIFO":
            os.mkfifo(path, 0o600)
        case "no folder":
            os.environ["GETM_HOST_TABLE"] = "/proc/no/such/folder"
        case "read-only":
            os.environ["GETM_HOST_TABLE"] = "/proc/version"
    table = HostTable()
    learn(table)
    # Alone it works all the same.
    assert table.find(KEY) is not None
    table.count(KEY, responses=1)
    assert table.under_way(KEY) == (0, 1)
    table.close()
    if kind in ("link", "others may read it"):
        assert path.stat().st_size == 0


def test_on_a_full_disk_each_process_is_alone(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GETM_HOST_TABLE", str(small_disk / "table"))
    # Without a buffer, in which something would be left for its close to write: Python 3.14's has room for it.
    with (small_disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
        while True:
            filler.write(bytes(65536))
    table = HostTable()
    learn(table)
    assert table.find(KEY) is not None
    table.close()


def test_switched_off_it_learns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GETM_HOST_TABLE", "off")
    paces = HostPaces()
    assert not paces.limits(SERVER)
    assert paces.explain(f"{SERVER}/x", None) == (0, False) and paces.describe(f"{SERVER}/x") == ""
    paces.close()


def test_by_default_all_processes_of_a_user_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GETM_HOST_TABLE")
    assert str(host_table._path()).endswith(f"getm-hosts-2-{os.geteuid()}")
