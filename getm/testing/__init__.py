"""A server for tests, which answers requests by script, and misbehaves where it is told to.

It is for tests of programs that download: by getm or by anything else, since it speaks plain HTTP/1.1. Nothing here is
imported by `import getm`.

Example:
    >>> import getm
    >>> from getm.testing import FaultServer, Reply, failure
    >>> with FaultServer() as server:
    ...     url = server.serve("/reads.bam", failure(503, retry_after="0"), Reply(body=b"BAM\\1"))
    ...     bytes(getm.read(url)), len(server.requests)
    (b'BAM\\x01', 2)

With pytest, `pytest_plugins = ["getm.testing.plugin"]` in `conftest.py` gives tests the fixture `fault_server`.
"""

from __future__ import annotations

from getm.testing.script import (
    Ending,
    Framing,
    Gate,
    HeaderValues,
    Outcome,
    Pace,
    Reply,
    Request,
    Script,
    failure,
    no_reply,
    redirect,
)
from getm.testing.server import Excess, FaultServer

__all__ = [
    "Ending",
    "Excess",
    "FaultServer",
    "Framing",
    "Gate",
    "HeaderValues",
    "Outcome",
    "Pace",
    "Reply",
    "Request",
    "Script",
    "failure",
    "no_reply",
    "redirect",
]
