"""Reads what a folder's index page lists."""

from __future__ import annotations

import asyncio
import codecs
import re
from typing import Any

from getm import Session, errors
from getm.integrations.fsspec.failures import as_os_error
from getm.integrations.fsspec.index_pages import IndexEntry, parse_html_index, parse_json_index

HTML: frozenset[str] = frozenset({"text/html", "application/xhtml+xml"})
_JSON = "application/json"
_MAX_INDEX_BYTES = 256 * 1024 * 1024


async def read_index(session: Session, folder: str, common: dict[str, Any]) -> list[IndexEntry]:
    """What is in `folder`, a URL that ends with a slash. `common`: arguments of every request. Raises
    `NotADirectoryError` where no index page comes, and as open() does."""
    try:
        async with session.aiter_content(folder, None, **common) as parts:
            media_type, _, parameters = parts.headers.get("content-type", "").lower().partition(";")
            is_html, content = media_type.strip() in HTML, bytearray()
            if not is_html and media_type.strip() != _JSON:
                raise NotADirectoryError(f"{folder} is no index page: its type is {media_type or 'not declared'}")
            async for part in parts:
                content += part
                if len(content) > _MAX_INDEX_BYTES:
                    raise NotADirectoryError(f"{folder} is no index page: it has more than {_MAX_INDEX_BYTES} bytes")
            url = parts.url
    except errors.HTTPStatusError as error:
        raise as_os_error(error, folder) from error
    # In a thread: a large page takes seconds.
    if is_html:
        text = content.decode(_charset(parameters), errors="replace")
        return await asyncio.to_thread(parse_html_index, text, url)
    listed = await asyncio.to_thread(parse_json_index, bytes(content))
    if listed is None:
        raise NotADirectoryError(f"{folder} is no index page: it is JSON, and no list of files")
    return listed


def _charset(parameters: str) -> str:
    """The charset that a Content-Type names, where Python knows it; UTF-8 otherwise."""
    found = re.search(r"charset=\"?([\w.:-]+)", parameters)
    try:
        return codecs.lookup(found[1]).name if found else "utf-8"
    except LookupError:
        return "utf-8"
