"""The URL of an object where other results have the path of a file."""

from __future__ import annotations

import functools
import re
from pathlib import Path, PosixPath
from typing import Any, Self

# fsspec chains protocols: "simplecache::s3://bucket/key".
_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]*::)*[A-Za-z][A-Za-z0-9+.\-]*://")


def is_url(path: str) -> bool:
    """Whether `path` is a URL, and no path of this machine."""
    return "://" in path and _URL.match(path) is not None


class URLPath(PosixPath):
    """A path that is the URL of an object: text, and what programs open by it, are that URL."""

    _url: str

    def __new__(cls, url: str) -> Self:
        path = super().__new__(cls, url)
        path._url = url
        return path

    def __str__(self) -> str:
        # Python 3.11 makes parents of the same class, without their text.
        return getattr(self, "_url", None) or super().__str__()

    def __fspath__(self) -> str:
        return str(self)

    # Of Python 3.12: what is made of it, a parent, is no URL of an object.
    def with_segments(self, *segments: Any) -> Path:
        return PosixPath(*segments)

    def __reduce__(self) -> tuple[Any, ...]:
        return URLPath, (str(self),)


@functools.lru_cache(maxsize=1024)
def as_path(text: str) -> Path:
    """The path that `text` names, or the URL."""
    return URLPath(text) if is_url(text) else Path(text)
