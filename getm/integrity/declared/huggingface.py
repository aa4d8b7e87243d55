"""Hugging Face."""

from __future__ import annotations

import re
from collections.abc import Iterator

from getm.core.head import ResponseHead
from getm.integrity.declared.types import Declared, Finding, quoted
from getm.integrity.values import Checksum

_SHA256 = re.compile(r'"?([0-9a-fA-F]{64})"?')


def linked_etag(redirect: ResponseHead, size_bytes: int | None) -> Iterator[Finding]:
    """X-Linked-Etag on the redirect to the CDN: the SHA-256 of a large file.

    40 hex digits instead are a git blob id, which covers a header too and so is not a checksum of the file. When
    X-Linked-Size contradicts the size of what came, the redirect led to something else.
    """
    linked_size = redirect.get("x-linked-size")
    for text in dict.fromkeys(redirect.get_all("x-linked-etag")):
        match = _SHA256.fullmatch(text)
        if match is None:
            yield "X-Linked-Etag was skipped: it is not a SHA-256"
        elif linked_size is not None and size_bytes is not None and linked_size != str(size_bytes):
            yield (
                f"X-Linked-Etag was skipped: X-Linked-Size is {quoted(linked_size)}, "
                f"but the response has {size_bytes} bytes"
            )
        else:
            yield Declared(Checksum("sha256", bytes.fromhex(match[1])), "X-Linked-Etag")
