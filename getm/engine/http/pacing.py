"""Requests take turns where a host limits them: among all getm processes of a user on this machine, which look like one
client to a server that limits requests by address."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from getm.core.head import ResponseHead, retry_after_s
from getm.core.lazy import importing
from getm.core.pace import HostPace
from getm.core.retry import TOO_MANY_STATUSES
from getm.engine.http.connections import Reply
from getm.engine.http.host_table import OFF, TABLE_VARIABLE, HostTable, key_of

if TYPE_CHECKING:
    from getm.core.rate_limit import StatedLimit

# Shorter waits are not worth a word, nor is another one to the same host so soon.
_LONG_S = 0.1
_TOLD_EVERY_S = 10.0
# How many servers are remembered.
_MAX_SERVERS = 512

Tell = Callable[[float, str], None]


class HostPaces:
    """The paces of all hosts. For those that limit nothing, `limits` takes a tenth of a microsecond, and nothing is
    written but how many responses are under way."""

    def __init__(self) -> None:
        self._table = None if os.environ.get(TABLE_VARIABLE) == OFF else HostTable()
        # Without a table nothing ever changes.
        self._words = memoryview(bytes(4)).cast("I") if self._table is None else self._table.words
        # Servers that had no limits when the first word was this.
        self._seen = 0
        self._free: set[str] = set()
        self._keys: dict[str, bytes] = {}
        self._queues: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._told_s: dict[str, float] = {}

    def close(self) -> None:
        """To be called once, at the end."""
        if self._table is not None:
            self._words = memoryview(bytes(4)).cast("I")
            self._table.close()
            self._table = None

    def limits(self, server: str) -> bool:
        """Whether requests to `server`, which is a scheme, a name and a port, must wait for their turns."""
        if self._words[0] != self._seen:
            self._seen = self._words[0]
            self._free.clear()
        return server not in self._free and self._limits(server)

    def _limits(self, server: str) -> bool:
        pace = None if self._table is None else self._table.find(self._key(server))
        if pace is not None and pace.is_limited(time.monotonic()):
            return True
        if len(self._free) >= _MAX_SERVERS:
            self._free.clear()
        self._free.add(server)
        return False

    def _key(self, server: str) -> bytes:
        key = self._keys.get(server)
        if key is None:
            if len(self._keys) >= _MAX_SERVERS:
                self._keys.clear()
            key = self._keys[server] = key_of(server)
        return key

    async def turn(self, server: str, tell: Tell | None) -> None:
        """Wait until a request may be made to `server`; it counts until `asked`. `tell` hears how long that takes, and
        why."""
        # One of this process looks at the table, and the others wait for it.
        async with self._queues[server]:
            while self._table is not None:
                wait_s = self._take(server, tell)
                if not wait_s:
                    return
                await asyncio.sleep(wait_s)

    def _take(self, server: str, tell: Tell | None) -> float:
        """0.0 where a turn was taken; otherwise seconds until there may be one."""
        if self._table is None:
            return 0.0
        table, key, now_s = self._table, self._key(server), time.monotonic()
        known = table.find(key)
        # Most find without the lock that another one was faster.
        wait_s = 0.0 if known is None else known.wait_s(now_s, sum(table.under_way(key)))
        if not wait_s:
            # It has its row before the lock is taken.
            table.count(key)
            with table.change(key) as known:
                wait_s = known.take_turn(now_s, sum(table.under_way(key)))
                if not wait_s:
                    table.count(key, requests=1)
                    return 0.0
        due = now_s >= self._told_s.get(server, 0.0) + _TOLD_EVERY_S
        if tell is not None and known is not None and wait_s >= _LONG_S and due:
            self._told_s[server] = now_s
            tell(wait_s, known.describe(now_s))
        return wait_s

    def asked(self, server: str) -> None:
        """A request that has waited for its turn was answered, or has failed."""
        if self._table is not None:
            self._table.count(self._key(server), requests=-1)

    def heard(self, server: str, head: ResponseHead, reply: Reply, most_hold_s: float) -> None:
        """A response of `server` has come; `most_hold_s`: its Retry-After counts up to this."""
        table = self._table
        if table is None:
            return
        key, now_s = self._key(server), time.monotonic()
        refused = head.status in TOO_MANY_STATUSES
        if not refused and reply.connection is not None:
            table.count(key, responses=1)
            reply.on_end = partial(self._ended, key)
        limit = _stated(head) if "ratelimit" in head.lines.lower() else None
        if not (refused or (limit is not None and limit.is_near) or self.limits(server)):
            return
        _, responses = table.under_way(key)
        with table.change(key) as pace:
            if refused:
                # A 503 may be about one object.
                hold_s = retry_after_s(head, time.time()) if head.status == 429 else None
                pace.refused(now_s, responses, min(hold_s or 0.0, most_hold_s))
            else:
                pace.answered(now_s, responses + (reply.connection is None))
            if limit is not None:
                pace.told(now_s, limit)

    def _ended(self, key: bytes) -> None:
        if self._table is not None:
            self._table.count(key, responses=-1)

    def explain(self, url: str, answers: int | None) -> tuple[int, bool]:
        """The host of `url` has refused a request: how many requests of anybody here it has granted, and whether the
        refusal was to be expected. `answers`: what this returned when it refused the same request before."""
        pace = self._found(url)
        return (0, False) if pace is None else (pace.answers, pace.explains_refusal(time.monotonic(), answers))

    def describe(self, url: str) -> str:
        """What the host of `url` allows, for people; empty where that is not known."""
        pace = self._found(url)
        return "" if pace is None else pace.describe(time.monotonic())

    def _found(self, url: str) -> HostPace | None:
        return None if self._table is None else self._table.find(self._key(server_of(url)))


def _stated(head: ResponseHead) -> StatedLimit | None:
    # Few servers state anything.
    with importing:
        from getm.core.rate_limit import stated_limit
    return stated_limit(head.get, time.time())


def server_of(url: str) -> str:
    """The scheme, name and port; as `split_url` and `split_authority` have them, in a third of the time."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0].rpartition('@')[2]}"
