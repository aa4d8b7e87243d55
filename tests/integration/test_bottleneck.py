"""What limits a transfer is named: one stage is slowed down for real (tests/support/limited.py), and others are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.limited import SCENARIOS, Limited
from tests.support.nginx import NginxServer

pytestmark = pytest.mark.xdist_group("bottleneck")


@pytest.fixture
def limited(tmp_path: Path, nginx: NginxServer) -> Iterator[Limited]:
    made = Limited(tmp_path, nginx)
    yield made
    made.close()


# Which processors are free is not a test's to decide.
@pytest.mark.parametrize("stage", [stage for stage in SCENARIOS if stage != "cpu"])
def test_the_slow_stage_is_named(limited: Limited, stage: str) -> None:
    stats = limited.transfer(stage, seed=1)
    assert stats.bottleneck is not None and stats.bottleneck.stage == stage, stats
