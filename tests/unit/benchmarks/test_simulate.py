"""The simulation of many machines: what holds whatever the costs are, and that the page about it has what it prints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import simulate as simulation
from benchmarks.simulate import Costs, Losses, Outcome, Work, simulate

ROOT = Path(__file__).parents[3]
FREE = Costs(entry_s=0.001, byte_s=1e-9, portion_s=0.0, caller_entry_s=0.0, caller_portion_s=0.0)

works = st.builds(
    Work,
    entries=st.integers(1, 5000),
    mean_bytes=st.floats(1, 1e9),
    sigma=st.floats(0, 2),
    jobs=st.sampled_from([1, 16]),
)
seconds = st.floats(1e-6, 1e-2)
costs = st.builds(
    Costs, entry_s=seconds, byte_s=st.just(1e-9), portion_s=seconds, caller_entry_s=seconds, caller_portion_s=seconds
)


@given(works, costs, st.integers(1, 50), st.sampled_from([None, Losses(100.0, 10.0)]))
def test_nobody_is_busy_for_longer_than_it_takes_and_each_run_is_the_same(
    work: Work, costs: Costs, workers: int, losses: Losses | None
) -> None:
    outcome = simulate(work, costs, workers, losses)
    assert outcome == simulate(work, costs, workers, losses)
    assert 0 < outcome.caller_busy <= 1 + 1e-9 and 0 < outcome.workers_busy <= 1 + 1e-9
    assert outcome.caller_busy * outcome.seconds >= work.entries * costs.caller_entry_s * (1 - 1e-9)
    assert outcome.workers_busy * outcome.seconds * workers >= work.entries * work.mean_bytes * costs.byte_s * 0.99


def test_machines_share_the_work_until_the_caller_is_busy_all_the_time() -> None:
    work = Work(1_000_000, 1e3)
    one, ten = simulate(work, FREE, 1), simulate(work, FREE, 10)
    assert one.seconds == pytest.approx(1000, rel=0.01)
    assert ten.seconds == pytest.approx(100, rel=0.05)
    slow = Costs(entry_s=0.001, byte_s=0.0, portion_s=0.0, caller_entry_s=0.0005, caller_portion_s=0.0)
    assert simulate(work, slow, 10).seconds == pytest.approx(500, rel=0.01)


def test_a_lost_machine_costs_time_and_no_object() -> None:
    work = Work(100_000, 1e6)
    whole: Outcome = simulate(work, FREE, 4)
    lossy = simulate(work, FREE, 4, Losses(after_s=10.0, found_s=5.0))
    assert lossy.lost > 0
    assert whole.lost == 0 and lossy.seconds > whole.seconds


@pytest.mark.slow
def test_the_page_has_what_the_simulation_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["simulate"])
    simulation.main()
    assert capsys.readouterr().out in (ROOT / "docs" / "explanation" / "scale.md").read_text()
