"""Hugging Face: the checksum that its redirects to a CDN declare, and the git id of a file that git has."""

from __future__ import annotations

import re
from collections.abc import Iterator

from getm.core.head import ResponseHead
from getm.integrity.declared.types import Declared, Finding, other_size
from getm.integrity.values import Checksum

# Weak where a CDN may send it compressed.
_BLOB_ID = re.compile(r'(?:W/)?"([0-9a-f]{40})"')
_SHA256 = re.compile(r'"?([0-9a-fA-F]{64})"?')


def linked_etag(redirect: ResponseHead, size_bytes: int | None) -> Iterator[Finding]:
    """X-Linked-Etag on the redirect to the CDN: the SHA-256 of a large file.

    40 hex digits instead are a git blob id, which `blob_id` finds in the ETag of what the hub sends itself. When
    X-Linked-Size contradicts the size of what came, the redirect led to something else.
    """
    wrong_size = other_size(redirect, "X-Linked-Size", size_bytes)
    for text in dict.fromkeys(redirect.get_all("x-linked-etag")):
        match = _SHA256.fullmatch(text)
        if match is None:
            yield "X-Linked-Etag was skipped: it is not a SHA-256"
        elif wrong_size is not None:
            yield f"X-Linked-Etag was skipped: {wrong_size}"
        else:
            yield Declared(Checksum("sha256", bytes.fromhex(match[1])), "X-Linked-Etag")


def blob_id(head: ResponseHead, size_bytes: int | None) -> Iterator[Finding]:
    """The ETag of a file that the hub sends itself, which is its git blob id: where X-Repo-Commit says that it is one,
    and the size is known, which the id covers."""
    etags = head.get_all("etag")
    if len(etags) != 1 or head.get("x-repo-commit") is None:
        return
    match = _BLOB_ID.fullmatch(etags[0])
    if match is not None and size_bytes is not None:
        yield Declared(Checksum("git-blob", bytes.fromhex(match[1])), "ETag")
