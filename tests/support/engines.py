"""The engine processes of the test's own process, told from the servers that it runs."""

from __future__ import annotations

import psutil


def engines() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "getm.engine" in " ".join(child.cmdline())]
