"""Without Ray, its extra is named."""

from __future__ import annotations

import importlib
import sys

import pytest

from getm.errors import MissingExtra


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "getm.integrations.ray", raising=False)
    with pytest.raises(MissingExtra, match=r'pip install "getm\[ray\]"'):
        importlib.import_module("getm.integrations.ray")
