"""Where the tree is, and the environment variables of what is measured."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """The variables for what is measured: modules are found in the root of this tree, and their compiled form is kept,
    as it is where a package was installed. Without that every start of a process would compile them."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT)}
