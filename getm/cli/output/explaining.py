"""Where the time of downloads went, in words: for `--explain`, and for the log."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from getm.core.bottleneck import find_bottleneck, seconds_text
from getm.core.stats import Stats
from getm.events import Event, Finished

_WORDS = {
    "lookup": "name lookup",
    "connect": "connecting",
    "tls": "TLS handshakes",
    "first byte": "time to the first byte",
    "consumer": "your consumer",
    "store": "the store that they go to",
    "retries": "pauses before retries",
}
# A smaller part of the time is left out.
_LEAST_SHARE = 0.005


class Explanation:
    """Adds up where the time of downloads went, from their events. `busy`: says how busy the busiest thread of all was,
    as a share of the time."""

    def __init__(self, busy: Callable[[], float]) -> None:
        self._busy = busy
        self._stats = Stats()
        self._files = 0

    def on_event(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._stats += event.result.stats
            self._files += 1

    def lines(self) -> list[str]:
        """What limits all of them, and the stages, those that took longest first; nothing where none was downloaded."""
        stats, times = self._stats, self._stats.times
        stages = times.stages()
        total_s = sum(stages.values())
        one = self._files == 1
        if not one:
            # Each of them had the engine's thread to itself for a part of the time only.
            times = replace(times, cpu_s=self._busy() * total_s)
        counts = {"received_bytes": stats.received_bytes, "requests": stats.requests, "connections": stats.connections}
        found = find_bottleneck(times, **counts)
        if found is None:
            return []
        parts = [
            f"{_WORDS.get(stage, stage)} {seconds / total_s:.0%}".replace("%", " %")
            + (f" ({seconds_text(seconds)})" if one else "")
            for stage, seconds in sorted(stages.items(), key=lambda item: -item[1])
            if seconds >= _LEAST_SHARE * total_s
        ]
        if one:
            return [str(found), f"  {', '.join(parts)}"]
        return [f"{self._files:,} files: {found}", f"  of the time of each, in the mean: {', '.join(parts)}"]
