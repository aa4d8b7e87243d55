"""Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Iterator

from getm.core.head import ResponseHead
from getm.integrity.declared.types import Finding, other_size, quoted, read_value

_ALGORITHMS = frozenset({"crc32c", "md5"})


def goog_hash(head: ResponseHead, size_bytes: int | None) -> Iterator[Finding]:
    """x-goog-hash: "crc32c=<base64>,md5=<base64>", in one field or several.

    It covers the object as stored, also in ranged responses. A composite object has no md5. Where the server decodes a
    stored gzip on the way out ("decompressive transcoding"), the bytes that come are not the stored ones, and nothing
    is declared for them. (Cloud Storage documentation, "x-goog-hash" and "Transcoding of gzip-compressed files".)
    """
    field = head.get("x-goog-hash")
    if field is None:
        return
    stored_coding = (head.get("x-goog-stored-content-encoding") or "identity").lower()
    sent_coding = head.content_coding() or "identity"
    if stored_coding != sent_coding:
        yield (
            f"x-goog-hash was skipped: it covers the stored bytes (coding {quoted(stored_coding)}), "
            f"but they were transcoded (to {quoted(sent_coding)})"
        )
        return
    wrong_size = other_size(head, "x-goog-stored-content-length", size_bytes)
    if wrong_size is not None:
        yield f"x-goog-hash was skipped: {wrong_size}"
        return
    for member in field.split(","):
        name, equals, value = (part.strip() for part in member.partition("="))
        if name.lower() in _ALGORITHMS:
            yield read_value("x-goog-hash", name.lower(), value)
        elif equals:
            yield f"x-goog-hash names {quoted(name)}, which getm does not know, and was skipped"
        elif name:
            yield f"x-goog-hash is malformed and was skipped: expected name=base64, got {quoted(name)}"
