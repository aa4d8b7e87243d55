"""Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Iterator

from getm.core.head import ResponseHead
from getm.integrity.declared.types import Finding, quoted, read_value

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
    stored_length = head.get("x-goog-stored-content-length")
    if stored_length is not None and size_bytes is not None and stored_length != str(size_bytes):
        yield (
            f"x-goog-hash was skipped: x-goog-stored-content-length is {quoted(stored_length)}, "
            f"but the response has {size_bytes} bytes"
        )
        return
    for member in field.split(","):
        name, equals, value = (part.strip() for part in member.partition("="))
        if not name:
            continue
        if name.lower() in _ALGORITHMS:
            yield read_value("x-goog-hash", name.lower(), value)
        elif equals:
            yield f"x-goog-hash names {quoted(name)}, which getm does not know, and was skipped"
        else:
            yield f"x-goog-hash is malformed and was skipped: expected name=base64, got {quoted(name)}"
