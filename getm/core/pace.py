"""How fast, and how often at once, a host may be asked: learned from what it refuses, without I/O or a clock.

Nothing is limited until a host refuses a request as one too many (429, 503). If it serves more requests at that moment
than it was ever seen to serve at once, that number may be what it allows; one more is tried from time to time.
Otherwise requests come too fast, and the rate is measured: the host is asked closely, so that it grants all that it
allows, from one moment at which it grants nothing more to a later one. From then on requests are spread evenly, a
little slower than that. A refusal makes them slower; long silence, faster again.

Some refuse for reasons of their own: one object, or an outage. These show as well: few requests are refused, or all of
them are, or slower ones are refused as often. Nothing is limited then.

A host that states its limit is believed; see `core/rate_limit.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from getm.core.rate_limit import StatedLimit

# While a rate is measured, and nothing was granted for t seconds, the next request comes after t / 20, and then t / 40:
# so the moment at which something is granted again is known to some percent, whatever the rate is.
_CLOSENESS = 1 / 20
_CLOSEST_S = 0.0005
# From the second time on, so much of the time that the first one took surely passes.
_SURELY = 0.5
_MEASURE_S = 0.3
_SETTLED_S = 0.01
# Of so many requests one more or less makes no difference.
_MANY = 20
# Where for such a share of its time nobody asks, it begins again.
_UNASKED = 0.2
# Longer than this nothing is granted during an outage, which is a matter of retries.
_OUTAGE_S = 3.0
# A measurement ends without a result where many were granted, and none was refused for so long; where fewer than one in
# so many was refused; and where the rate is none that anybody means.
_CALM_S = 1.0
_FEW_REFUSED = 10
_LONGEST_INTERVAL_S = 10.0
# Requests that are spread evenly here arrive a little less evenly.
_MARGIN = 1.05
# Who comes late may be followed the sooner: timers have milliseconds.
_CATCH_UP_S = 0.001
# A refusal makes the interval longer by that factor; so many in a row, and it is measured again.
_SLOWER = 1.08
_MAX_SLOWER = 4
# Without a refusal for so long it becomes shorter; again after less, and by more each time.
_EASE_AFTER_S, _EASE_AGAIN_S = 60.0, 10.0
_EASE = 0.05
# How soon one request more at once is tried, at first and at last, and how often it is checked whether one has ended.
_TRY_S, _MAX_TRY_S = 0.25, 60.0
_LOOK_S = 0.02
# What was learned is forgotten where nothing has confirmed it for so long.
_FORGET_S = 600.0
# A host's word counts up to this: it may be wrong, and whoever waits cannot see why.
_MAX_HOLD_S = 120.0
_SHORT_RESET_S = 2.0


class HostPace(Struct):
    """What is known of one host's limits. All times are seconds by one monotonic clock; 0: never, or none.

    `interval_s`: between two requests. `next_s`: when the next one may be made. `held_until_s`: by the host's word,
    none before. `at_once`: how many may be under way. `most`: so many were under way at once. `stated`: whether the
    host itself gave the interval, and `window_s`: for how long what it states holds.

    `refused_s`: the last refusal, or statement. `slower`: how often the interval became longer since the last calm.
    `eased_s`, `eased`: when it last became shorter, and how often. `try_s`, `try_after_s`: when one more than `at_once`
    is tried, and how long after a refusal. `answers`: how many requests were granted.

    Of a measurement: `measured_from_s`: when it began. `edge_s`: after a request that was granted then, the host first
    granted nothing more. `granted`: requests since then. `in_a_row`: since the last refusal. `granted_s`: the last one.
    `all_granted`, `all_refused`: since it began.
    """

    interval_s: float = 0.0
    next_s: float = 0.0
    held_until_s: float = 0.0
    at_once: int = 0
    most: int = 0
    stated: bool = False
    window_s: float = 0.0
    refused_s: float = 0.0
    slower: int = 0
    eased_s: float = 0.0
    eased: int = 0
    try_s: float = 0.0
    try_after_s: float = 0.0
    answers: int = 0
    measured_from_s: float = 0.0
    edge_s: float = 0.0
    granted: int = 0
    in_a_row: int = 0
    granted_s: float = 0.0
    all_granted: int = 0
    all_refused: int = 0

    def is_limited(self, now_s: float) -> bool:
        """Whether a request must ask for its turn."""
        if self.held_until_s > now_s:
            return True
        learned = self.interval_s > 0 or self.measured_from_s > 0 or self.at_once > 0
        return learned and now_s < max(self.refused_s, self.eased_s) + _FORGET_S

    def explains_refusal(self, now_s: float, answers: int | None) -> bool:
        """Whether a refusal just now was to be expected, of a host that grants others what they ask for: while its rate
        is measured, or is known, or it serves few at once. `answers`: how many it had granted when it refused the same
        request before; None: it had not."""
        granted = answers not in (None, self.answers)
        if self.measured_from_s > 0:
            # Otherwise it may refuse one object.
            often = 2 * self.all_refused > self.all_granted
            return often and (granted or now_s < self.granted_s + _OUTAGE_S)
        return granted or (self.interval_s > 0 and now_s < self.next_s)

    def wait_s(self, now_s: float, under_way: int) -> float:
        """Seconds until a request may be made, or until that should be asked again; 0.0: now. `under_way`: how many
        requests and responses are."""
        wait_s = max(self.next_s, self.held_until_s) - now_s
        if wait_s > 0:
            return wait_s
        if 0 < self.at_once <= under_way:
            # The longer the host has granted nothing, the more a try tells; it does not wait for that for ever.
            due_s = max(self.try_s, min(self.granted_s, self.try_s) + self.try_after_s)
            return max(0.0, min(due_s - now_s, _LOOK_S))
        return 0.0

    def take_turn(self, now_s: float, under_way: int) -> float:
        """`wait_s`; where that is 0.0 the turn is taken."""
        wait_s = self.wait_s(now_s, under_way)
        if not wait_s:
            unasked_s = now_s - max(self.next_s, self.refused_s)
            if self.measured_from_s and self.edge_s and unasked_s > max(_MEASURE_S, _UNASKED * (now_s - self.edge_s)):
                # Nobody has asked for what the host may have granted.
                self._measure(now_s)
            if 0 < self.at_once <= under_way:
                self.try_after_s = min(2 * self.try_after_s, _MAX_TRY_S)
                self.try_s = now_s + self.try_after_s
            self.next_s = max(self.next_s, now_s - _CATCH_UP_S) + self._spacing_s(now_s)
        return wait_s

    def _spacing_s(self, now_s: float) -> float:
        if self.measured_from_s == 0:
            return self.interval_s
        since_s = now_s - max(self.measured_from_s, self.granted_s)
        if since_s > _OUTAGE_S:
            return 0.0
        closeness_s = _CLOSENESS * since_s
        if self.in_a_row and self.refused_s > self.granted_s:
            closeness_s = _SETTLED_S - since_s
        elif self.edge_s and not self.in_a_row:
            usual_s = self.edge_s - self.measured_from_s
            closeness_s = max(_SURELY * usual_s - since_s, _CLOSENESS / 2 * max(usual_s, since_s))
        return max(_CLOSEST_S, closeness_s)

    # What the host does ----------------------------------------------------------------------------------------------

    def refused(self, now_s: float, under_way: int, hold_s: float = 0.0) -> None:
        """The host has refused a request as one too many. `hold_s`: by its word, none before so long. `under_way`:
        how many responses are."""
        self.held_until_s = max(self.held_until_s, now_s + min(hold_s, _MAX_HOLD_S))
        if self.measured_from_s > 0:
            self._exhausted(now_s)
        elif self.interval_s > 0:
            self._refused_again(now_s)
        elif self.at_once and now_s < self.try_s - self.try_after_s + _TRY_S:
            # It was asked before that was known, or to try one more.
            pass
        elif under_way >= max(1, self.most):
            self.at_once = under_way
            self.try_after_s = max(self.try_after_s, _TRY_S)
            self.try_s = now_s + self.try_after_s
        else:
            self._measure(now_s)
            self.all_refused = 1
        self.refused_s = self.eased_s = now_s
        self.eased = 0

    def _refused_again(self, now_s: float) -> None:
        """It was asked at the rate that was found."""
        if now_s <= self.refused_s + self.interval_s:
            # One refusal, though several requests may have met it.
            return
        self.slower = 1 if now_s > self.refused_s + _EASE_AGAIN_S else self.slower + 1
        if self.slower > _MAX_SLOWER:
            self._measure(now_s)
        else:
            self.interval_s *= _SLOWER
            self.next_s = now_s + self.interval_s

    def _measure(self, now_s: float) -> None:
        self.measured_from_s, self.edge_s = now_s, 0.0
        self.granted_s = 0.0
        self.granted = self.in_a_row = self.all_granted = self.all_refused = 0
        self.interval_s, self.stated = 0.0, False
        self.at_once, self.try_after_s = 0, 0.0
        self.next_s = now_s + _CLOSEST_S

    def _exhausted(self, now_s: float) -> None:
        """Nothing more is granted for the moment: between two such moments the host has granted all that it allows."""
        self.all_refused += 1
        if now_s < self.granted_s + _SETTLED_S and self.granted < _MANY:
            # It may have been asked before the last ones that it has granted.
            return
        in_a_row, self.in_a_row = self.in_a_row, 0
        if not in_a_row:
            return
        if not self.edge_s:
            self.edge_s, self.granted = self.granted_s, 0
            return
        seconds = self.granted_s - self.edge_s
        if seconds < _MEASURE_S or not self.granted:
            return
        self.measured_from_s = 0.0
        interval_s = _MARGIN * seconds / self.granted
        if self.all_refused * _FEW_REFUSED < self.all_granted or interval_s > _LONGEST_INTERVAL_S:
            return
        self.interval_s, self.slower = interval_s, 0
        # What was granted in a row counts in the host's window for a while.
        self.next_s = self.granted_s + interval_s * in_a_row

    def answered(self, now_s: float, under_way: int) -> None:
        """The host has granted a request, so that so many responses are under way."""
        self.answers = (self.answers + 1) & 0xFFFF_FFFF
        self.most = max(self.most, under_way)
        if 0 < self.at_once < under_way:
            # It allows more at once: what it limits is something else.
            self._measure(now_s)
            self.eased_s = now_s
        self.granted_s = now_s
        if self.measured_from_s > 0:
            self.granted += 1
            self.all_granted += 1
            self.in_a_row += 1
            self.next_s = min(self.next_s, now_s + self._spacing_s(now_s))
            if self.in_a_row >= _MANY and now_s > self.refused_s + _CALM_S:
                self.measured_from_s = 0.0
        elif self.interval_s > 0 and now_s > self.eased_s + (_EASE_AGAIN_S if self.eased else _EASE_AFTER_S):
            self.interval_s *= 1 - min(0.5, _EASE * 2**self.eased)
            self.eased_s = now_s
            self.eased = min(self.eased + 1, 16)
            if self.interval_s < _CLOSEST_S:
                self.interval_s = 0.0

    def told(self, now_s: float, limit: StatedLimit) -> None:
        """The host has stated its limit."""
        if not limit.is_near:
            if self.stated:
                self.interval_s, self.stated = 0.0, False
            return
        self.measured_from_s = 0.0
        self.refused_s = self.eased_s = now_s
        # Most round the reset up to whole seconds. Who asks evenly anyway need not wait for all of a short one.
        surely_s = max(0.0, limit.reset_s - 1)
        if not limit.remaining:
            hold_s = surely_s if self.stated and limit.reset_s <= _SHORT_RESET_S else limit.reset_s
            self.held_until_s = max(self.held_until_s, now_s + min(hold_s, _MAX_HOLD_S))
        self.stated = True
        if limit.quota:
            # Where it does not say how long its window is: at least as long as it ever was until the reset.
            self.window_s = limit.window_s or max(self.window_s, limit.reset_s)
            left_s = surely_s / (limit.remaining or limit.quota)
            self.interval_s = _MARGIN * max(self.window_s / limit.quota, left_s)
        elif limit.remaining:
            self.interval_s = limit.spacing_s
        self.interval_s = min(self.interval_s, _MAX_HOLD_S)
        self.next_s = min(self.next_s, now_s + self.interval_s)

    def describe(self, now_s: float) -> str:
        """What the host allows, for people; empty where that is not known."""
        if self.held_until_s > now_s:
            return "the host wants a pause"
        if self.interval_s >= 1:
            return f"the host allows a request every {self.interval_s:.1f} s"
        if self.interval_s > 0:
            return f"the host allows {1 / self.interval_s:.3g} requests a second"
        if self.measured_from_s > 0:
            return "how many requests a second the host allows is being found out"
        return f"the host allows {self.at_once} requests at once" if self.at_once else ""
