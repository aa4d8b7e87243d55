"""An fsspec file system over HTTP, by getm: `getm+http://` and `getm+https://`, or, after `register()`, `http://` and
`https://`.

    pandas.read_csv("getm+https://data.example.org/table.csv")
    fsspec.filesystem("getm+https").get("https://data.example.org/data/", "data/", recursive=True)
"""

from __future__ import annotations

from getm.errors import MissingExtra

try:
    import fsspec
except ImportError as _missing:
    raise MissingExtra(
        'getm.integrations.fsspec needs the package "fsspec", which is not installed: pip install "getm[fsspec]"'
    ) from _missing

from getm.integrations.fsspec.filesystem import GetmFileSystem

__all__ = ["GetmFileSystem", "register"]


def register() -> None:
    """Take over `http://` and `https://` in fsspec, for this process: what opens such URLs by fsspec uses getm then.

    Example:
        >>> import getm.integrations.fsspec
        >>> getm.integrations.fsspec.register()
    """
    for protocol in ("http", "https"):
        fsspec.register_implementation(protocol, GetmFileSystem, clobber=True)
