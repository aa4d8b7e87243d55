"""Reads what a folder's index page lists."""

from __future__ import annotations

import asyncio
from typing import Any

from getm import Session, errors
from getm.integrations.fsspec.failures import as_os_error
from getm.resolve.index_pages import IndexEntry, NoIndexPage, media_type_of, parse_index

_MAX_INDEX_BYTES = 256 * 1024 * 1024


async def read_index(session: Session, folder: str, common: dict[str, Any]) -> list[IndexEntry]:
    """What is in `folder`, a URL that ends with a slash. `common`: arguments of every request. Raises
    `NotADirectoryError` where no index page comes, and as open() does."""
    try:
        async with session.aiter_content(folder, None, **common) as parts:
            content_type, content = parts.headers.get("content-type", ""), bytearray()
            media_type_of(content_type)
            async for part in parts:
                content += part
                if len(content) > _MAX_INDEX_BYTES:
                    raise NoIndexPage(f"it has more than {_MAX_INDEX_BYTES} bytes")
            url = parts.url
        # In a thread: a large page takes seconds.
        return await asyncio.to_thread(parse_index, bytes(content), content_type, url)
    except errors.HTTPStatusError as error:
        raise as_os_error(error, folder) from error
    except NoIndexPage as error:
        raise NotADirectoryError(f"{folder} is no index page: {error}") from None
