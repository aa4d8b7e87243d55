"""Hugging Face: the checksum that its redirects to a CDN declare."""

from __future__ import annotations

import re
from collections.abc import Iterator

from getm.core.head import ResponseHead
from getm.integrity.declared.types import Declared, Finding, other_size
from getm.integrity.values import Checksum

_SHA256 = re.compile(r'"?([0-9a-fA-F]{64})"?')


def linked_etag(redirect: ResponseHead, size_bytes: int | None) -> Iterator[Finding]:
    """X-Linked-Etag on the redirect to the CDN: the SHA-256 of a large file.

    40 hex digits instead are a git blob id, which covers a header too and so is not a checksum of the file. When
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
