"""Where the time of downloads went, as the command says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from getm.cli.output.explaining import Explanation
from getm.core.stats import Stats, Times
from getm.events import Event, Finished, Skipped
from getm.integrity.verdict import unverified
from getm.results import DownloadResult

MEASURED = Times(network_s=7.5, disk_s=2.5, response_s=0.01, connection_s=30.0)


def finished(name: str, stats: Stats) -> Event:
    return Finished(0, DownloadResult(Path(name), 1, unverified(""), False, 1.0, stats))


def explained(*events: Event, busy: float = 0.0) -> list[str]:
    explanation = Explanation(lambda: busy)
    for event in events:
        explanation.on_event(event)
    return explanation.lines()


def test_of_one_file_the_seconds_are_said() -> None:
    assert explained(finished("a.bam", Stats(received_bytes=3 * 10**8, requests=4, measured=MEASURED))) == [
        "limited by the server or the network: 10.0 MB/s on each of 4 connections",
        "  network 75 % (7.5 s), disk 25 % (2.5 s)",
    ]


def test_of_many_files_the_times_are_added_up() -> None:
    each = Stats(received_bytes=1000, requests=1, first_byte_s=0.3, seconds=0.4)
    assert explained(*[finished("a", each)] * 1000) == [
        "1,000 files: limited by the time to the first byte: 300 ms for each of 1,000 requests",
        "  of the time of each, in the mean: time to the first byte 75 %, network 25 %",
    ]


def test_many_files_may_be_more_than_a_processor_can_take() -> None:
    each = Stats(received_bytes=1000, requests=1, first_byte_s=0.003, seconds=0.004)
    first, _ = explained(*[finished("a", each)] * 1000, busy=0.95)
    assert first == "1,000 files: limited by this machine's CPU: a thread of getm was busy 95 % of the time"


@pytest.mark.parametrize("events", [(), (Skipped(0, None, "it exists"),), (finished("a", Stats()),)])
def test_nothing_is_said_of_nothing(events: tuple[Event, ...]) -> None:
    assert explained(*events) == []
