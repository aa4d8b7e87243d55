"""How many engine processes a session uses: as many as it was told to, or as many as keep a core busy each."""

from __future__ import annotations

from collections.abc import Mapping

# What TLS, hashing and many small objects fill is a core; a plain stream over HTTP needs a fifth of one.
_BUSY = 0.8
# Shorter, and the clock of a busy machine would decide; longer, and much of a short batch would be over.
_WINDOW_S = 0.25
# The caller's own process becomes the limit.
_MOST = 4


class ProcessCount:
    """The number of engines to use, from samples of the CPU time that they have used. No clock, no processes.

    Args:
        given: As many, whatever they do; None: find out.
        cores: How many this process may use.
    """

    def __init__(self, given: int | None, cores: int) -> None:
        self.most: int = given or max(1, min(cores, _MOST))
        self.now: int = given or 1
        # One core for the caller's process and for hashing, one for an engine: a helper needs another one.
        self._over_tls = 2 if given is None and cores > 2 else self.now
        self._sampled_at_s = 0.0
        self._used_s: Mapping[int, float] = {}

    @property
    def over_tls(self) -> int:
        """The number for several connections of one object over TLS, which can fill a core."""
        return max(self.now, self._over_tls)

    def is_due(self, now_s: float) -> bool:
        """Whether a sample may change the number."""
        return self.now < self.most and now_s - self._sampled_at_s >= _WINDOW_S

    def sample(self, now_s: float, used_s: Mapping[int, float]) -> None:
        """`used_s`: the CPU seconds of each engine so far, by its process. Where all have kept a core busy since the
        last sample, one more is used."""
        window_s = now_s - self._sampled_at_s
        before, self._used_s, self._sampled_at_s = self._used_s, used_s, now_s
        if len(used_s) < self.now or window_s <= 0:
            # One that was allowed is not needed yet.
            return
        if all(each in before and used_s[each] - before[each] >= _BUSY * window_s for each in used_s):
            self.now = min(self.most, len(used_s) + 1)
