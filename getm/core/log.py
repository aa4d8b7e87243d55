"""Loggers under the name `getm`: silent unless the program configures logging (Python's logging HOWTO)."""

from __future__ import annotations

import logging

logging.getLogger("getm").addHandler(logging.NullHandler())


def get_logger(part: str = "") -> logging.Logger:
    """The logger of a part of getm, as programs know it: `getm`, or `getm.PART`."""
    return logging.getLogger(f"getm.{part}" if part else "getm")
