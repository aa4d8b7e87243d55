"""HTTP's own digest fields: Repr-Digest, Content-Digest, and the older Digest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from getm.core.head import ResponseHead
from getm.integrity.declared.types import Declared, Finding, quoted, read_value
from getm.integrity.values import DIGEST_BYTES, Checksum

# IANA, "Hash Algorithms for HTTP Digest Fields" and "HTTP Digest Algorithm Values", and what servers write.
# The checksums of unix(1) and Adler say too little to be worth code.
_ALGORITHMS = {f"sha-{bits}": f"sha{bits}" for bits in (1, 224, 256, 384, 512)}
_ALGORITHMS |= {"sha": "sha1", "md5": "md5", "crc32c": "crc32c"}
_UNHELPFUL = ("unixsum", "unixcksum", "adler")

_MAX_FIELD_CHARACTERS = 16 * 1024
"""All known digests take 400. Parsing takes 0.3 µs for each character, during which the engine does nothing else."""


def digest(head: ResponseHead) -> Iterator[Finding]:
    """Digest (RFC 3230; replaced by RFC 9530): "SHA-256=<base64>", comma-separated, of the whole instance.

    The "id-" forms cover the bytes without content coding (RFC 5843), so they fit only a response that has none.
    """
    field = head.get("digest")
    if field is None:
        return
    coding = head.content_coding()
    for member in field.split(","):
        name, _, value = member.strip().partition("=")
        name = name.strip().lower()
        if name.startswith("id-"):
            if coding is not None:
                yield f"Digest {quoted(name)} was skipped: it covers the bytes without their coding {quoted(coding)}"
                continue
            name = name.removeprefix("id-")
        algorithm = _ALGORITHMS.get(name)
        if algorithm is not None:
            yield read_value("Digest", algorithm, value)
        elif name and name not in _UNHELPFUL:
            yield f"Digest names {quoted(name)}, which getm does not know, and was skipped"


def structured_digest(head: ResponseHead, source: str) -> Iterator[Finding]:
    """Repr-Digest or Content-Digest (RFC 9530): a Dictionary of Byte Sequences (RFC 9651)."""
    field = head.get(source.lower())
    if field is None:
        return
    if len(field) > _MAX_FIELD_CHARACTERS:
        yield f"{source} was skipped: it is {len(field)} characters long"
        return
    from http_sf import parse  # here, because few servers send these fields and start-up should not pay for them

    try:
        members = cast("dict[str, tuple[object, object]]", parse(field.encode("ascii", "replace"), tltype="dictionary"))
    except ValueError:
        yield f"{source} is malformed and was skipped: {quoted(field)} is no dictionary of byte sequences"
        return
    for name, member in members.items():
        algorithm = _ALGORITHMS.get(name)
        value = member[0]
        if algorithm is None:
            if name not in _UNHELPFUL:
                yield f"{source} names {quoted(name)}, which getm does not know, and was skipped"
        elif not isinstance(value, bytes) or len(value) != DIGEST_BYTES[algorithm]:
            size_bytes = DIGEST_BYTES[algorithm]
            yield f"{source} is malformed and was skipped: expected {name} as a byte sequence of {size_bytes} bytes"
        else:
            yield Declared(Checksum(algorithm, value), source)
