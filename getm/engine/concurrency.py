"""How many connections to a host are worth having: decided from what they bring, without I/O or a clock.

It starts with what there is, mostly one connection, and tries more where the bytes that are left would take a while.
What a trial brings decides:

- nearly in proportion: the connections limit it, so that many more are tried at once;
- more, but not in proportion: as many are kept as that takes;
- no more than noise: something that they share is the limit (the link, the server, this machine), and it returns to
  what it had, for longer each time.

A gain is believed soon, and that there is none only after a longer while, unless the processor is the limit: new
connections start slowly, and some servers send in bursts. Nothing is tried while the consumer, the processor or a rate
limit is what everything waits for. A host that refuses connections (429, 503, none at all) gets no more than those that
bring something, and the next trial comes much later. Where responses begin to take far longer than before, or the
processor has become the limit, fewer are tried in the same way: they are kept if nothing is lost by it.
"""

from __future__ import annotations

import math

from msgspec import Struct
from msgspec.structs import replace

# What less time than this brings says more about buffers than about the network. A trial is judged by a longer time
# where there seems to be no gain: a server may send in bursts of a second.
_MIN_WINDOW_S = 0.05
_MAX_WINDOW_S = 1.25
# Where the processor has become the limit, that is no question of patience.
_BUSY_WINDOW_S = 0.25
# New connections that have brought nothing after so long are not waited for.
_GRACE_S = 2.0
# Another connection is worth its start where what is left takes that long; the first one more than the others.
_MIN_FIRST_S = 1.0
_MIN_LEFT_S = 0.4
# Which share of a proportional gain counts as one, and what is noise.
_PROPORTION = 0.5
_NOISE = 0.12
# The next trial after one that failed, and after a refusal; the pause doubles each time.
_PAUSE_S = 10.0
_REFUSED_PAUSE_S = 60.0
# From this share of a core on the engine's thread is the limit.
_BUSY = 0.9
# A response that takes so many times as long as the fastest, and that much longer, shows an overloaded server.
_TIMES_SLOWER = 4
_SLOWER_S = 0.25


class Sample(Struct, frozen=True):
    """What the connections to one host have brought, at one moment.

    `at_s`: the time. `received`: bytes since any time. `connections`: how many there are, or are being opened, and
    `bringing` how many of them have brought something. `least`, `most`: how many there may be. `left`: bytes that are
    still to come, as far as is known. `refused`: how often the host refused one since any time. `busy_s`: seconds in
    which the engine's thread had a processor, or waited for one, since any time. `held`: whether a consumer or a rate
    limit was waited for since the last sample. `latency_s`: how long the last response took to begin; None: there was
    none since the last sample.
    """

    at_s: float
    received: int
    connections: int
    bringing: int
    least: int
    most: int
    left: int
    refused: int = 0
    busy_s: float = 0.0
    held: bool = False
    latency_s: float | None = None


class Decision(Struct, frozen=True):
    """So many connections from now on, and why."""

    connections: int
    reason: str


class _Trial(Struct, frozen=True):
    """`count` connections are tried in place of `before`, which brought `rate` bytes a second."""

    count: int
    before: int
    rate: float


class Controller:
    """Decides for the connections to one host, by samples that come every few hundredths of a second."""

    def __init__(self) -> None:
        self._trial: _Trial | None = None
        # What the current window began with; None: the next sample begins one. And the last sample of it in which
        # nothing had come by the connections of a trial.
        self._since: Sample | None = None
        self._before_them: Sample | None = None
        self._refused = 0
        # When more may be tried, or fewer, and how long the pause after the next failure is.
        self._more_from_s = self._fewer_from_s = -math.inf
        self._pause_s = self._fewer_pause_s = _PAUSE_S
        # How long responses took to begin: the fastest, and the last.
        self._fastest_s: float | None = None
        self._latency_s: float | None = None

    def decide(self, sample: Sample) -> Decision | None:
        """The number of connections from now on; None: as it is."""
        self._learn_latency(sample)
        if sample.refused > self._refused:
            return self._on_refusal(sample)
        since = self._since
        if since is None or sample.connections != since.connections:
            self._begin(sample)
            return None
        if sample.held:
            self._since = sample
            return None
        seconds, trial = sample.at_s - since.at_s, self._trial
        if trial is not None and since.bringing < min(since.connections, trial.count):
            # The new ones are being opened: what comes until they bring something is the latest measure of the others.
            if sample.bringing <= since.bringing:
                self._before_them = sample
            if sample.bringing < sample.connections and seconds < _GRACE_S:
                return None
            self._begin_judging(trial, since, sample)
            return None
        if seconds < _MIN_WINDOW_S:
            return None
        rate = (sample.received - since.received) / seconds
        busy = (sample.busy_s - since.busy_s) / seconds >= _BUSY
        if trial is not None:
            return self._judge(trial, sample, rate, seconds, busy)
        return self._look(sample, rate, seconds, busy)

    def _begin(self, sample: Sample) -> None:
        """Begin a window: after a decision, or where transfers have begun or ended."""
        trial, decided = self._trial, self._since is None
        if trial is not None:
            # There may be less to divide among them than was decided. What came before says nothing of other transfers.
            count = sample.connections
            kept = decided and (trial.before < count <= trial.count or trial.count <= count < trial.before)
            self._trial = replace(trial, count=count) if kept else None
        self._since, self._before_them = sample, None

    def _begin_judging(self, trial: _Trial, since: Sample, sample: Sample) -> None:
        before = self._before_them
        if before is not None and (seconds := before.at_s - since.at_s) >= _MIN_WINDOW_S:
            self._trial = replace(trial, rate=max(trial.rate, (before.received - since.received) / seconds))
        # From now on all of them bring something, or are not waited for.
        self._since = replace(sample, bringing=sample.connections)

    def _learn_latency(self, sample: Sample) -> None:
        if sample.latency_s is not None:
            self._latency_s = sample.latency_s
            self._fastest_s = min(self._fastest_s or math.inf, sample.latency_s)

    def _on_refusal(self, sample: Sample) -> Decision | None:
        self._refused = sample.refused
        self._trial, self._since = None, None
        self._pause_s = max(_REFUSED_PAUSE_S, self._pause_s)
        self._pause_more(sample)
        fewer = max(sample.least, min(sample.bringing, sample.connections - 1))
        return self._to(sample, fewer, "the host refused more")

    # A trial ----------------------------------------------------------------------------------------------------------

    def _judge(self, trial: _Trial, sample: Sample, rate: float, seconds: float, busy: bool) -> Decision | None:
        gain = rate / trial.rate if trial.rate else math.inf
        if trial.count < trial.before:
            return self._judge_fewer(trial, sample, gain, seconds)
        if gain >= 1 + _PROPORTION * (trial.count / trial.before - 1):
            self._trial = None
            return self._more(sample, rate, busy)
        if seconds < (_BUSY_WINDOW_S if busy else _MAX_WINDOW_S):
            return None
        self._trial, self._since = None, sample
        if gain < 1 + _NOISE:
            self._pause_more(sample)
            brought = f"{trial.count} brought no more than {trial.before}"
            return self._to(sample, trial.before, brought)
        self._pause_more(sample)
        enough = min(trial.count, math.ceil(trial.before * gain) + 1)
        brought = f"{trial.count} brought {gain:.1f} times as much as {trial.before}"
        return self._to(sample, enough, brought)

    def _judge_fewer(self, trial: _Trial, sample: Sample, gain: float, seconds: float) -> Decision | None:
        if seconds < _MAX_WINDOW_S:
            return None
        self._trial, self._since = None, sample
        if gain >= 1 - _NOISE:
            return None
        self._fewer_pause_s *= 2
        self._fewer_from_s = sample.at_s + self._fewer_pause_s
        return self._to(sample, trial.before, f"{trial.count} brought less than {trial.before}")

    def _pause_more(self, sample: Sample) -> None:
        self._more_from_s = sample.at_s + self._pause_s
        self._pause_s *= 2

    # Between trials -----------------------------------------------------------------------------------------------

    def _look(self, sample: Sample, rate: float, seconds: float, busy: bool) -> Decision | None:
        if seconds >= _MAX_WINDOW_S:
            self._since = sample
            overloaded = self._overloaded()
            if (busy or overloaded) and sample.connections > sample.least and sample.at_s >= self._fewer_from_s:
                self._fewer_from_s = sample.at_s + self._fewer_pause_s
                why = "responses take far longer than before" if overloaded else "the processor is busy"
                fewer = max(sample.least, sample.connections * 3 // 4)
                self._trial = _Trial(fewer, sample.connections, rate)
                self._latency_s = self._fastest_s
                return self._to(sample, fewer, why)
        return self._more(sample, rate, busy)

    def _overloaded(self) -> bool:
        latency_s, fastest_s = self._latency_s, self._fastest_s
        if latency_s is None or fastest_s is None:
            return False
        return latency_s > _TIMES_SLOWER * fastest_s and latency_s > fastest_s + _SLOWER_S

    def _more(self, sample: Sample, rate: float, busy: bool) -> Decision | None:
        """Try more connections, where what is left is worth it."""
        now = sample.connections
        pays_s = _MIN_FIRST_S if now <= sample.least else max(_MIN_LEFT_S, 3 * (self._latency_s or 0.0))
        if (
            busy
            or now >= sample.most
            or sample.at_s < self._more_from_s
            or sample.left < rate * pays_s
            or self._overloaded()
        ):
            return None
        # After a trial that failed only one more: nobody is to be burdened again and again.
        tried_before = self._pause_s > _PAUSE_S
        count = min(sample.most, now + (max(1, now // 4) if tried_before else _step(now)))
        self._trial = _Trial(count, now, rate)
        self._since = None
        return self._to(sample, count, f"{now} brought {rate / 1e6:.1f} MB/s")

    def _to(self, sample: Sample, connections: int, reason: str) -> Decision | None:
        self._since = None
        return None if connections == sample.connections else Decision(connections, reason)


def _step(now: int) -> int:
    return max(5, 5 * now)


def shares(connections: int, transfers: list[tuple[int, int]], enough: int) -> list[int]:
    """Divide connections between transfers, each given as the bytes that it has left, and the most that it may have:
    one for each at least, the others where the most is left for each of those that it has, while that is at least
    `enough` bytes."""
    counts = [1] * len(transfers)
    for _ in range(connections - len(counts)):
        best, best_left = -1, float(enough)
        for index, ((left, most), count) in enumerate(zip(transfers, counts, strict=True)):
            if count < most and left / (count + 1) >= best_left:
                best, best_left = index, left / (count + 1)
        if best < 0:
            break
        counts[best] += 1
    return counts
