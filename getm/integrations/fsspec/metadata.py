"""What a server says of an object, as fsspec has it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from getm import ObjectInfo
from getm.resolve.index_pages import HTML


def described(url: str, about: ObjectInfo) -> dict[str, Any]:
    """By the names that fsspec's own HTTP file system has, as far as it has any."""
    is_folder = about.media_type in HTML and (urlsplit(about.url).path or "/").endswith("/")
    return {
        "name": url,
        "size": about.size,
        "type": "directory" if is_folder else "file",
        "url": about.url,
        "mimetype": about.media_type,
        "partial": about.accepts_ranges is not False,
        "ETag": about.etag,
        "Last-Modified": about.headers.get("last-modified"),
        "last_modified": about.last_modified,
        "checksums": {each.algorithm: each.value.hex() for each in about.checksums},
    }
