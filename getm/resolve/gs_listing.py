"""What a bucket of Google Cloud Storage has, by the JSON API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from getm.errors import GetmError, InvalidInput
from getm.resolve.advice import advised
from getm.resolve.gs import access
from getm.resolve.listing import EndOfPages, ListedObject, ListRequest

_PREFIX = re.compile(r"(gs://([^/]+)/)(.*)", re.IGNORECASE | re.DOTALL)
# What is wanted of each object.
_FIELDS = "nextPageToken,prefixes,items(name,size,updated,generation,crc32c,contentEncoding)"


class _Object(Struct, rename="camel"):
    """An object as the API has it (Cloud Storage JSON API, "Objects")."""

    name: str
    size: str
    updated: datetime | None = None
    generation: str | None = None
    crc32c: str | None = None
    content_encoding: str | None = None


class _Page(Struct, rename="camel"):
    items: list[_Object] = []
    prefixes: list[str] = []
    next_page_token: str | None = None


def list_objects(
    request: ListRequest,
    *,
    endpoint_url: str | None = None,
    anonymous: bool | None = None,
    user_project: str | None = None,
) -> Iterator[ListedObject]:
    """Objects of a bucket, with their sizes and CRC32C.

    Neither is given of what is stored with gzip as its coding, which the server sends decoded.

    Args:
        request: What is asked for.
        endpoint_url: See `getm.resolve.gs.resolve`.
        anonymous: Likewise.
        user_project: Likewise.

    Yields:
        Objects by their keys, pinned to the generation that is listed, and folders: what keys have in common up to a
        slash.

    Raises:
        InvalidInput: The prefix names no bucket.
        HTTPStatusError: The store refused.
    """
    found = _PREFIX.fullmatch(request.prefix)
    if found is None:
        raise InvalidInput("expected gs://BUCKET/PREFIX")
    root, bucket, prefix = found.groups()
    query = {"prefix": prefix, "fields": _FIELDS} | ({} if request.recursive else {"delimiter": "/"})
    end = EndOfPages()
    while True:
        # A token that has expired meanwhile is another one now.
        to = access(endpoint_url, anonymous, user_project)
        url = f"{to.endpoint}/storage/v1/b/{quote(bucket, safe='')}/o?{urlencode(query)}"
        try:
            page = msgspec.json.decode(request.get(url, to.headers).content, type=_Page)
        except GetmError as error:
            raise advised(error, to.advice) from error.__cause__
        for folder in page.prefixes:
            yield ListedObject(root + folder, is_folder=True)
        for each in page.items:
            # What ends with a slash and is empty is what consoles make of a folder.
            if not (each.name.endswith("/") and each.size == "0"):
                yield _listed(each, root)
        if not page.next_page_token:
            return
        end.check(page.next_page_token, is_empty=not (page.items or page.prefixes))
        query["pageToken"] = page.next_page_token


def _listed(each: _Object, root: str) -> ListedObject:
    name, generation = root + each.name, each.generation
    pinned = f"{name}#{generation}" if generation else None
    if each.content_encoding == "gzip":
        return ListedObject(name, None, each.updated, (), generation, pinned)
    checksums = f"crc32c:{each.crc32c}" if each.crc32c else ()
    return ListedObject(name, int(each.size), each.updated, checksums, generation, pinned)
