"""What a container of Azure Blob Storage has, by its List Blobs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from getm.clouds.azure import sign
from getm.errors import BadResponse, GetmError, InvalidInput
from getm.resolve.advice import advised
from getm.resolve.az import access, account_at
from getm.resolve.listing import EndOfPages, ListedObject, ListRequest

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_PREFIX = re.compile(r"((?:az|abfss?)://([^/@:]+)(?:@([^/@:]+))?/)(.*)", re.IGNORECASE | re.DOTALL)


def list_objects(
    request: ListRequest, *, endpoint_url: str | None = None, anonymous: bool | None = None
) -> Iterator[ListedObject]:
    """Blobs of a container, with their sizes, and the MD5 of those that were stored with one.

    Args:
        request: What is asked for.
        endpoint_url: See `getm.resolve.az.resolve`.
        anonymous: Likewise.

    Yields:
        Blobs by their names, and folders: what names have in common up to a slash.

    Raises:
        InvalidInput: The prefix names no container, or its account is not known.
        HTTPStatusError: The store refused.
        BadResponse: The answer is no listing.
        MissingExtra: See `getm.resolve.az.resolve`.
    """
    found = _PREFIX.fullmatch(request.prefix)
    if found is None:
        raise InvalidInput("expected az://CONTAINER/PREFIX, or az://CONTAINER@ACCOUNT.blob.core.windows.net/PREFIX")
    root, container, host, prefix = found.groups()
    account = account_at(host, endpoint_url)
    query = {"restype": "container", "comp": "list", "prefix": prefix} | (
        {} if request.recursive else {"delimiter": "/"}
    )
    end = EndOfPages()
    while True:
        # A token or a signature that has expired meanwhile is another one now.
        to = access(account, anonymous, lambda: sign(account, container))
        text = "&".join(filter(None, (urlencode(query), to.signature)))
        try:
            page = _parsed(request.get(f"{account.endpoint}/{quote(container, safe='$')}?{text}", to.headers).content)
        except GetmError as error:
            raise advised(error, to.advice) from error.__cause__
        blobs, folders = page.findall("Blobs/Blob"), page.findall("Blobs/BlobPrefix")
        for folder in folders:
            yield ListedObject(root + folder.findtext("Name", ""), is_folder=True)
        for blob in blobs:
            # Accounts with a hierarchy list folders among the blobs, too.
            if blob.findtext("Properties/ResourceType") != "directory":
                yield _listed(blob, root)
        marker = page.findtext("NextMarker")
        if not marker:
            return
        end.check(marker, is_empty=not (blobs or folders))
        query["marker"] = marker


def _parsed(content: bytes) -> Element:
    # Not before: programs that list nothing do without.
    from xml.etree import ElementTree

    try:
        if b"<!DOCTYPE" in content:
            # Listings have none, and every attack that XML knows needs one.
            raise ElementTree.ParseError("a document type declaration")
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise BadResponse(f"expected a listing of blobs in XML: {error}") from None


def _listed(blob: Element, root: str) -> ListedObject:
    properties = {each.tag: each.text or "" for each in blob.iterfind("Properties/*")}
    size, md5 = properties.get("Content-Length", ""), properties.get("Content-MD5")
    return ListedObject(
        root + blob.findtext("Name", ""),
        int(size) if size.isdecimal() else None,
        parsedate_to_datetime(properties["Last-Modified"]) if "Last-Modified" in properties else None,
        f"md5:{md5}" if md5 else (),
        properties.get("Etag") or None,
    )
