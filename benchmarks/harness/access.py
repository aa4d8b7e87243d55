"""Turns in which parts of objects are read, with what the server's log says of each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.harness.bench import Bench
from benchmarks.harness.question import Answer, Values
from benchmarks.harness.turns import Turn, Worker, take_turns
from tests.support.nginx import NginxServer


class Logged:
    """A worker whose turns have what the server's log says of them."""

    def __init__(self, worker: Worker, server: NginxServer) -> None:
        self._worker = worker
        self._server = server

    @property
    def why_not(self) -> str | None:
        return self._worker.why_not

    def turn(self, request: dict[str, Any]) -> Values | None:
        mark = self._server.log.mark()
        values = self._worker.turn(request)
        if values is None:
            return None
        log = self._server.log.since(mark)
        return {**values, "requests": len(log), "sent_bytes": sum(each.body_bytes for each in log)}


def take_logged_turns(
    bench: Bench,
    server: NginxServer,
    kind: str,
    tools: Iterable[str],
    cases: Mapping[str, Mapping[str, Any]],
    part_bytes: int,
    what: str,
) -> Answer:
    """Turns of all tools, workers of that `kind`, in all cases. A case is what is asked of the worker, "count" parts
    of `part_bytes`; its "tools", where it has them, are those that can do it."""
    turns = []
    with contextlib.ExitStack() as stack:
        for tool in filter(bench.asks, tools):
            worker = stack.enter_context(Worker({kind: tool}))
            for case, request in cases.items():
                if tool in request.get("tools", (tool,)):
                    amount = request.get("count", 1) * part_bytes / 1e9
                    turns.append(Turn(case, tool, amount, Logged(worker, server), dict(request)))
        return take_turns(sorted(turns, key=lambda turn: list(cases).index(turn.case)), bench.rounds, what)
