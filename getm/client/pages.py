"""Fetches a small document into memory, in any thread."""

from __future__ import annotations

from getm.client.opening import Opening, open_transfer
from getm.client.parts import ContentParts
from getm.client.pool import EnginePool
from getm.client.receiver import ResponseInfo
from getm.core.units import KIB, MIB
from getm.errors import BadResponse
from getm.protocol.messages import OpenRequest
from getm.resolve.pages import ListPage

# A listing of some hundred thousand objects; index pages are the largest.
_MAX_BYTES = 256 * MIB
# A ring of this size is nearly always there.
_CHUNK_BYTES = 64 * KIB


def fetch_page(pool: EnginePool, request: OpenRequest) -> ListPage:
    """The whole document of `request`, over a connection of `pool`. Raises `NetworkError`."""
    transfer = open_transfer(Opening(pool, pool, request, _CHUNK_BYTES, 1))
    try:
        parts, content = ContentParts(transfer, None), bytearray()
        while not parts.complete:
            if view := parts.next():
                content += view
            elif not parts.complete:
                transfer.pump(wait=True)
            del view
            if len(content) > _MAX_BYTES:
                raise BadResponse(f"the document has more than {_MAX_BYTES:,} bytes", url=transfer.url)
        info = ResponseInfo(transfer)
        return ListPage(bytes(content), info.headers, info.url)
    finally:
        transfer.close()
