"""Checksum headers of Google Cloud Storage, Azure, Hugging Face, and Maven repositories."""

from __future__ import annotations

import re
from collections.abc import Iterator

from getm.integrity.declared.types import Declared, Finding, Reply, read_single, read_value
from getm.integrity.values import Checksum

_GOOG_ALGORITHMS = {"crc32c": "crc32c", "md5": "md5"}
_REPOSITORY_ALGORITHMS = ("sha512", "sha256", "sha1", "md5")


def goog_hash(reply: Reply, size_bytes: int | None) -> Iterator[Finding]:
    """x-goog-hash of Cloud Storage: "crc32c=<base64>,md5=<base64>", in one field or several.

    It covers the object as stored, also on ranged replies. A composite object has no md5. Where the server decodes a
    stored gzip on the way out ("decompressive transcoding"), the bytes that come are not the stored ones, and nothing
    is declared for them. (Cloud Storage documentation, "x-goog-hash" and "Transcoding of gzip-compressed files".)
    """
    field = reply.joined("x-goog-hash")
    if field is None:
        return
    stored_coding = (reply.joined("x-goog-stored-content-encoding") or "identity").lower()
    if stored_coding == "identity":
        stored_coding = ""
    if stored_coding != reply.content_coding:
        yield (
            "x-goog-hash was skipped: it covers the stored bytes "
            f"({stored_coding[:40] or 'no'} coding), but the reply came with "
            f"{reply.content_coding[:40] or 'no'} coding (transcoded on the way)"
        )
        return
    stored_length = reply.joined("x-goog-stored-content-length")
    if stored_length is not None and size_bytes is not None and stored_length != str(size_bytes):
        yield (
            f"x-goog-hash was skipped: it covers {stored_length[:20]} stored bytes, "
            f"but the reply has {size_bytes} bytes"
        )
        return
    for member in field.split(","):
        name, equals, value = member.strip().partition("=")
        algorithm = _GOOG_ALGORITHMS.get(name.strip().lower())
        if algorithm is not None:
            yield read_value("x-goog-hash", algorithm, value)
        elif name and not equals:
            yield f"x-goog-hash is malformed and was skipped: expected name=base64, got {member[:40]!r}"
        elif name:
            yield f"x-goog-hash names {name[:40]!r}, which getm does not know, and was skipped"


def azure_blob_md5(reply: Reply) -> Iterator[Finding]:
    """x-ms-blob-content-md5 of Azure: the whole blob's MD5, sent on ranged replies, where Content-MD5 may be the
    range's (Azure Blob Storage REST reference, "Get Blob")."""
    yield from read_single(reply, "x-ms-blob-content-md5", "md5")


def repository_checksums(reply: Reply) -> Iterator[Finding]:
    """x-checksum-sha1 and its kin, as Artifactory, Nexus and Maven Central send them: hex, of the stored artifact."""
    for algorithm in _REPOSITORY_ALGORITHMS:
        yield from read_single(reply, f"x-checksum-{algorithm}", algorithm)


def linked_etag(reply: Reply, size_bytes: int | None) -> Iterator[Finding]:
    """X-Linked-Etag of Hugging Face, on the redirect to its CDN: the SHA-256 of a large file.

    40 hex digits instead are a git blob id, which covers a header too and so is not a checksum of the file. When
    X-Linked-Size contradicts the size of what came, the redirect led to something else.
    """
    for text in dict.fromkeys(reply.all("x-linked-etag")):
        match = re.fullmatch(r'"?([0-9a-fA-F]{64})"?', text)
        if match is None:
            yield "X-Linked-Etag was skipped: it is not a SHA-256"
            continue
        linked_size = reply.joined("x-linked-size")
        if linked_size is not None and size_bytes is not None and linked_size != str(size_bytes):
            yield (
                f"X-Linked-Etag was skipped: it covers {linked_size[:20]} bytes, but the reply has {size_bytes} bytes"
            )
            continue
        yield Declared(Checksum("sha256", bytes.fromhex(match[1])), "X-Linked-Etag")
