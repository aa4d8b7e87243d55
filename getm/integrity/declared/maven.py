"""Maven repositories: Artifactory, Nexus, Maven Central."""

from __future__ import annotations

from collections.abc import Iterator

from getm.core.head import ResponseHead
from getm.integrity.declared.types import Finding, read_single

_ALGORITHMS = ("sha512", "sha256", "sha1", "md5")


def repository_checksums(head: ResponseHead) -> Iterator[Finding]:
    """x-checksum-sha1 and the like: hex, of the stored artifact."""
    for algorithm in _ALGORITHMS:
        yield from read_single(head, f"x-checksum-{algorithm}", algorithm)
