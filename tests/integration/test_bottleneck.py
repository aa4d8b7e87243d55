"""What limits a transfer is named: one stage is slowed down for real (tests/support/limited.py), and others are not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from getm.testing import FaultServer, Pace, Reply
from tests.support.command import getm
from tests.support.limited import SCENARIOS, Limited
from tests.support.nginx import NginxServer

# Which processors are free is not a test's to decide.
STAGES = [stage for stage in SCENARIOS if stage != "cpu"]

pytestmark = pytest.mark.xdist_group("bottleneck")


@pytest.fixture
def limited(tmp_path: Path, nginx: NginxServer) -> Iterator[Limited]:
    made = Limited(tmp_path, nginx)
    yield made
    made.close()


@pytest.mark.parametrize("stage", STAGES)
def test_the_slow_stage_is_named(limited: Limited, stage: str) -> None:
    wrong = []
    # What slows this machine down for a moment is measured, too.
    for seed in (1, 101, 201):
        stats = limited.transfer(stage, seed)
        if stats.bottleneck is not None and stats.bottleneck.stage == stage:
            return
        wrong.append(stats)
    raise AssertionError(wrong)


@pytest.mark.slow
@pytest.mark.deadline(180)
def test_nineteen_of_twenty_are_named(limited: Limited) -> None:
    """Many more: python -m benchmarks --only limits."""
    wrong = []
    for stage in STAGES:
        for seed in range(2, 6):
            stats = limited.transfer(stage, seed)
            if stats.bottleneck is None or stats.bottleneck.stage != stage:
                wrong.append((stage, seed, stats))
    assert len(wrong) <= len(STAGES) * 4 // 20, wrong


# As the command says it -----------------------------------------------------------------------------------------------


@pytest.fixture
def slow_url(fault_server: FaultServer) -> str:
    return fault_server.serve("/slow", Reply(body=bytes(3 * 64 * 1024), pace=Pace(64 * 1024, 0.1)))


LINE = rb"limited by the server or the network: \d+\.\d [kM]B/s on one connection\n  network \d+ % .*\n"


def test_the_command_explains_on_standard_output(slow_url: str, tmp_path: Path) -> None:
    done = getm(slow_url, "--explain", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr
    assert re.fullmatch(LINE, done.stdout), done.stdout


def test_the_command_explains_beside_the_data(slow_url: str, tmp_path: Path) -> None:
    done = getm(slow_url, "-", "--explain", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == b"\0" * 3 * 64 * 1024
    assert re.fullmatch(LINE, done.stderr), done.stderr


def test_programs_and_receipts_get_the_stage(slow_url: str, tmp_path: Path) -> None:
    done = getm(slow_url, "--explain", "--json", "--receipt", "receipt", cwd=tmp_path)
    (line,) = map(json.loads, done.stdout.splitlines())
    assert line["limited_by"] == "network" and line["times"]["network"] > line["times"]["first byte"]
    assert json.loads((tmp_path / "receipt").read_text())["limited_by"] == "network"


def test_the_log_says_it_as_well(slow_url: str, tmp_path: Path) -> None:
    done = getm(slow_url, "-v", cwd=tmp_path)
    assert b"INFO getm.cli: limited by the server or the network: " in done.stdout


def test_a_failure_is_not_explained(fault_server: FaultServer, tmp_path: Path) -> None:
    done = getm(fault_server.url("/nothing"), "--explain", cwd=tmp_path)
    assert done.returncode == 8 and not done.stdout
