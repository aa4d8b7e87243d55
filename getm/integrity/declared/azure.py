"""Azure Blob Storage."""

from __future__ import annotations

from collections.abc import Iterator

from getm.core.head import ResponseHead
from getm.integrity.declared.types import Finding, read_single


def blob_md5(head: ResponseHead) -> Iterator[Finding]:
    """x-ms-blob-content-md5: the MD5 of the whole blob, sent in ranged responses, where Content-MD5 may be the range's
    (Azure Blob Storage REST reference, "Get Blob")."""
    yield from read_single(head, "x-ms-blob-content-md5", "md5")
