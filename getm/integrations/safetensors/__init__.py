"""Tensors of safetensors files, from URLs: see `load`."""

from __future__ import annotations

from getm.integrations.safetensors.loading import load

__all__ = ["load"]
