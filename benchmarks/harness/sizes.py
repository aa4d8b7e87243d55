"""Sizes as text."""

from __future__ import annotations


def size_argument(text: str) -> int:
    """Bytes, as a number with or without K, M or G (powers of ten)."""
    units = {"K": 10**3, "M": 10**6, "G": 10**9}
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in units else (text, "")
    return int(float(number) * units.get(unit, 1))
