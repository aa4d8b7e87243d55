"""The fixture for pytest: `pytest_plugins = ["getm.testing.plugin"]` in the `conftest.py` at the top of the tests.

It has no entry point, by which pytest would load it in the tests of everything that has getm installed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from getm.testing.server import FaultServer


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """A server that answers requests by script, and misbehaves where it is told to: for one test."""
    with FaultServer() as server:
        yield server
