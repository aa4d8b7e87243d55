"""Fields that hold one checksum of the whole object, in any response: Azure Blob Storage, Maven repositories."""

from __future__ import annotations

from collections.abc import Iterator

from getm.core.head import ResponseHead
from getm.integrity.declared.types import Finding, read_field

_ALGORITHMS = {
    # Artifactory, Nexus, Maven Central: hex, of the stored artifact.
    "x-checksum-sha512": "sha512",
    "x-checksum-sha256": "sha256",
    "x-checksum-sha1": "sha1",
    "x-checksum-md5": "md5",
    # Azure Blob Storage REST reference, "Get Blob": also in ranged responses, where Content-MD5 may be the range's.
    "x-ms-blob-content-md5": "md5",
}


def single_fields(head: ResponseHead) -> Iterator[Finding]:
    """The checksums in these fields."""
    for name, algorithm in _ALGORITHMS.items():
        yield from read_field(head, name, algorithm)
