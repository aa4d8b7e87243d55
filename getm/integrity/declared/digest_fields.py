"""HTTP's own digest fields: Repr-Digest, Content-Digest, the older Digest, and Content-MD5."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from getm.integrity.declared.types import Declared, Finding, Reply, read_single, read_value
from getm.integrity.values import DIGEST_BYTES, Checksum

# IANA, "Hash Algorithms for HTTP Digest Fields". The checksums of unix(1) and Adler say too little to be worth code.
_RFC9530_ALGORITHMS = {"sha-512": "sha512", "sha-256": "sha256", "md5": "md5", "sha": "sha1", "crc32c": "crc32c"}
_RFC3230_ALGORITHMS = _RFC9530_ALGORITHMS | {"sha-384": "sha384", "sha-224": "sha224", "sha-1": "sha1"}
_UNHELPFUL = ("unixsum", "unixcksum", "adler")


def repr_digest(reply: Reply) -> Iterator[Finding]:
    """Repr-Digest (RFC 9530, section 3): covers the whole representation, also in a 206, content coding included."""
    yield from _structured(reply, "Repr-Digest")


def content_digest(reply: Reply) -> Iterator[Finding]:
    """Content-Digest (RFC 9530, section 2): covers this message's content, so it is of use on a full reply only."""
    if "content-digest" not in reply:
        return
    if reply.ranged:
        yield "Content-Digest was skipped: on a ranged reply it covers the range, not the whole object"
        return
    yield from _structured(reply, "Content-Digest")


def digest(reply: Reply) -> Iterator[Finding]:
    """Digest (RFC 3230; replaced by RFC 9530): "SHA-256=<base64>", comma-separated, of the whole instance.

    The "id-" forms cover the bytes without content coding (RFC 5843), so they fit only a reply that has none.
    """
    field = reply.joined("digest")
    for member in (field or "").split(","):
        name, _, value = member.strip().partition("=")
        name = name.strip().lower()
        if name.startswith("id-"):
            if reply.content_coding:
                yield f"Digest {name} was skipped: it covers the bytes without their {reply.content_coding} coding"
                continue
            name = name.removeprefix("id-")
        algorithm = _RFC3230_ALGORITHMS.get(name)
        if algorithm is not None:
            yield read_value("Digest", algorithm, value)
        elif name and name not in _UNHELPFUL:
            yield f"Digest names {name[:40]!r}, which getm does not know, and was skipped"


def content_md5(reply: Reply) -> Iterator[Finding]:
    """Content-MD5 (RFC 1864: base64; some servers send hex): covers the message body, so only a full reply counts."""
    if "content-md5" not in reply:
        return
    if reply.ranged:
        yield "Content-MD5 was skipped: on a ranged reply it may cover the range, not the whole object"
        return
    yield from read_single(reply, "Content-MD5", "md5")


def _structured(reply: Reply, source: str) -> Iterator[Finding]:
    """A digest field as a Dictionary of Byte Sequences (RFC 9651)."""
    field = reply.joined(source.lower())
    if field is None:
        return
    from http_sf import parse  # here, because few servers send these fields and start-up should not pay for them

    try:
        members = cast(
            "dict[str, tuple[object, object]]", parse(field.encode("latin-1", "replace"), tltype="dictionary")
        )
    except ValueError as error:
        yield f"{source} is malformed and was skipped: {error}"
        return
    for name, member in members.items():
        algorithm = _RFC9530_ALGORITHMS.get(name)
        value = member[0]
        if algorithm is None:
            if name not in _UNHELPFUL:
                yield f"{source} names {name[:40]!r}, which getm does not know, and was skipped"
        elif not isinstance(value, bytes) or len(value) != DIGEST_BYTES[algorithm]:
            yield (
                f"{source} is malformed and was skipped: expected {name} as a byte sequence of "
                f"{DIGEST_BYTES[algorithm]} bytes"
            )
        else:
            yield Declared(Checksum(algorithm, value), source)
