"""What all transfers with a growing number of connections have from one host: measured together, since they share what
limits them, and given their connections together.

A timer runs only while there are such transfers. Each tells what it has received and has left, and is told how many
connections it may have.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Protocol

from getm.engine.concurrency import Controller, Decision, Sample, shares

_TICK_S = 0.02
# A further connection is worth its start for so many bytes, at least.
MIN_SHARE_BYTES = 4 * 1024 * 1024
_SCHEDULED = "/proc/thread-self/schedstat"
_SCHEDULED_BYTES = 128
# How many hosts are remembered.
_MAX_HOSTS = 64


class Scalable(Protocol):
    """A transfer from a host. `wanted`: the connections that it may have now, `most` at most; `bringing`: how many of
    its connections have brought something; `received`, `left`: in bytes."""

    wanted: int
    most: int

    @property
    def bringing(self) -> int: ...
    @property
    def received(self) -> int: ...
    @property
    def left(self) -> int: ...

    def take_held(self) -> bool:
        """Whether it has waited for its consumer since this was last called."""

    def take_latency_s(self) -> float | None:
        """How long its last response took to begin; None where there was none since this was last called."""

    def resize(self, connections: int, reason: str | None) -> None:
        """It may have so many connections now; `reason`: why, where that is a change."""


class HostLoad:
    """The connections to one host. `busy_s`: see `HostLoads`."""

    def __init__(self, busy_s: Callable[[], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._busy_s = busy_s
        self._controller = Controller()
        self._transfers: list[Scalable] = []
        # What those have received that have ended.
        self._received_before = 0
        self._refused = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        return not self._transfers

    def join(self, transfer: Scalable) -> None:
        """`transfer` begins, with one connection."""
        self._transfers.append(transfer)
        if self._timer is None:
            self._tick()

    def leave(self, transfer: Scalable) -> None:
        """It has ended."""
        self._transfers.remove(transfer)
        self._received_before += transfer.received
        if not self._transfers and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def refused(self) -> None:
        """The host has refused a connection that it was found good for."""
        self._refused += 1

    def _tick(self) -> None:
        decision = self._controller.decide(self._sample())
        for transfer, count in self._divide(decision):
            changed = decision is not None and count != transfer.wanted
            transfer.resize(count, decision.reason if changed and decision is not None else None)
        self._timer = self._loop.call_later(_TICK_S, self._tick)

    def _sample(self) -> Sample:
        transfers = self._transfers
        latencies = [seconds for transfer in transfers if (seconds := transfer.take_latency_s()) is not None]
        return Sample(
            # Not the loop's clock, which does not advance while received bytes are copied.
            at_s=time.monotonic(),
            received=self._received_before + sum(transfer.received for transfer in transfers),
            connections=sum(transfer.wanted for transfer in transfers),
            bringing=sum(transfer.bringing for transfer in transfers),
            least=len(transfers),
            most=max(len(transfers), sum(transfer.most for transfer in transfers)),
            left=sum(transfer.left for transfer in transfers),
            refused=self._refused,
            busy_s=self._busy_s(),
            # A list: each is asked.
            held=any([transfer.take_held() for transfer in transfers]),
            latency_s=max(latencies, default=None),
        )

    def _divide(self, decision: Decision | None) -> list[tuple[Scalable, int]]:
        """The connections of each transfer. They change by decisions; and where a transfer finds that it may have no
        more. Those that it could not use before are offered to it again."""
        transfers = self._transfers
        if decision is None:
            return [(transfer, min(transfer.wanted, transfer.most)) for transfer in transfers]
        wants = [(transfer.left, transfer.most) for transfer in transfers]
        return list(zip(transfers, shares(decision.connections, wants, MIN_SHARE_BYTES), strict=True))


class HostLoads:
    """Those of an engine, by host, and that of its thread."""

    def __init__(self) -> None:
        self._loads: dict[str, HostLoad] = {}
        # Open from the first look on; -1 where there is no such file.
        self._scheduled: int | None = None

    def close(self) -> None:
        """Nothing is measured any more."""
        if self._scheduled is not None and self._scheduled >= 0:
            os.close(self._scheduled)
        self._scheduled = -1

    def busy_s(self) -> float:
        """Seconds in which this thread, that of the engine, has had a processor, or has waited for one: what others
        take from it, further connections cannot get either."""
        if self._scheduled is None:
            try:
                self._scheduled = os.open(_SCHEDULED, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                # Not Linux, or without these statistics.
                self._scheduled = -1
        if self._scheduled >= 0:
            # Nanoseconds of both, since the thread's start (Documentation/scheduler/sched-stats of Linux).
            had, waited, _ = os.pread(self._scheduled, _SCHEDULED_BYTES, 0).split()
            return (int(had) + int(waited)) / 1e9
        return time.thread_time()

    def of(self, host: str) -> HostLoad:
        load = self._loads.pop(host, None) or HostLoad(self.busy_s)
        # The last one used comes last.
        self._loads[host] = load
        for name in [name for name, other in self._loads.items() if other.idle and other is not load]:
            if len(self._loads) <= _MAX_HOSTS:
                break
            del self._loads[name]
        return load
