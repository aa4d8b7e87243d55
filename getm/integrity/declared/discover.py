"""Every checksum that a chain of responses declares, the strongest first, and why others are skipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

from msgspec import Struct

from getm.core.head import ResponseHead
from getm.errors import MissingExtra
from getm.integrity.algorithms import require_algorithm
from getm.integrity.declared.digest_fields import digest, structured_digest
from getm.integrity.declared.gcs import goog_hash
from getm.integrity.declared.huggingface import blob_id, linked_etag
from getm.integrity.declared.s3 import AMZ_CHECKSUMS, S3_ETAG, amz_checksums, s3_etag
from getm.integrity.declared.single_fields import single_fields
from getm.integrity.declared.types import Declared, Finding, read_field
from getm.integrity.values import STRENGTH

_STANDARD_FIELDS = frozenset({"repr-digest", "digest", "content-digest", "content-md5"})

# They cover the content of one message: the whole object in a full response only. (Content-Digest: RFC 9530, section 2;
# Content-MD5: RFC 1864; Amazon's may be those of an upload's part.)
_OF_MESSAGE = ("Content-Digest", "Content-MD5", *AMZ_CHECKSUMS)

_MAX_FINDINGS = 1000
_MAX_NOTES = 8
"""The most that a server can make the engine examine and report."""


class Discovery(Struct, frozen=True):
    """Declared checksums of the whole representation, strongest first, and notes: what was skipped and why."""

    declared: tuple[Declared, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why nothing can be verified, in words; for use when `declared` is empty."""
        notes = "; ".join(self.notes)
        return f"the server declared no usable checksum: {notes}" if notes else "the server declared no checksum"


_NOTHING = Discovery()


def discover(heads: Sequence[ResponseHead], *, size: int | None) -> Discovery:
    """The checksums that a chain of responses (redirects first, the final one last) declares for the representation.

    `size` is the representation's length in bytes, None where it is not known. Only what covers the whole
    representation is given, strongest first; one `Declared` for each algorithm. Everything else becomes a note: fields
    that are malformed, composite, of a range, of other bytes than those sent, or that contradict each other. Never
    raises for what a server sent; the notes are a few short lines of ASCII, whatever that was.
    """
    findings = list(islice(_findings(heads, size), _MAX_FINDINGS))
    return _weigh(findings) if findings else _NOTHING  # the usual case: small objects should not pay for more


def _findings(heads: Sequence[ResponseHead], size: int | None) -> Iterator[Finding]:
    linked = False
    for redirect in heads[:-1]:
        for finding in linked_etag(redirect, size):
            linked = linked or isinstance(finding, Declared)
            yield finding
    for final in heads[-1:]:
        if not _may_declare(final):
            return
        yield from structured_digest(final, "Repr-Digest")  # also in a 206, content coding included (RFC 9530)
        yield from digest(final)
        yield from goog_hash(final, size)
        yield from single_fields(final)
        if final.ranged or final.status == 206:
            for source in _OF_MESSAGE:
                if source.lower() in final.fields:
                    yield f"{source} was skipped: in a ranged response it may cover the range, not the whole object"
        else:
            yield from structured_digest(final, "Content-Digest")
            yield from amz_checksums(final)
            # In base64; some servers send hex.
            yield from read_field(final, "Content-MD5", "md5")
        # A linked ETag is about the file; the ETag of the CDN behind it is about the CDN's copy and its upload.
        if not linked:
            yield from blob_id(final, size)
            yield from s3_etag(final, size)


def _may_declare(head: ResponseHead) -> bool:
    """Whether any field could hold a checksum. Most web servers send none: small objects should not pay for it.

    Every store's own fields begin with "x-"; an ETag counts where it has the form that S3's have.
    """
    return _any_may_declare(tuple(head.fields)) or any([S3_ETAG.fullmatch(etag) for etag in head.get_all("etag")])


@lru_cache(maxsize=64)
def _any_may_declare(names: tuple[str, ...]) -> bool:
    # Remembered: all heads of a server have the same fields.
    return any(name.startswith("x-") or name in _STANDARD_FIELDS for name in names)


def _weigh(findings: Iterable[Finding]) -> Discovery:
    notes: list[str] = []
    by_algorithm: dict[str, list[Declared]] = {}
    for finding in findings:
        if isinstance(finding, str):
            notes.append(finding)
        else:
            by_algorithm.setdefault(finding.checksum.algorithm, []).append(finding)
    usable: list[Declared] = []
    for algorithm in sorted(by_algorithm, key=STRENGTH.index):
        chosen = _agreed(by_algorithm[algorithm], notes)
        if chosen is None:
            continue
        try:
            require_algorithm(algorithm)
        except MissingExtra as error:
            notes.append(f"{chosen.source} was skipped: {error}")
            continue
        usable.append(chosen)
    notes = list(dict.fromkeys(notes))
    if len(notes) > _MAX_NOTES:
        notes[_MAX_NOTES:] = [f"and {len(notes) - _MAX_NOTES} more"]
    return Discovery(tuple(usable), tuple(notes))


def _agreed(declared: Sequence[Declared], notes: list[str]) -> Declared | None:
    """The one value that all sources of one algorithm declare.

    An ETag is a checksum by custom only, so it yields to fields that say so. Where fields contradict each other, it is
    not known which is right: neither is used, and a note says so.
    """
    stated = [each for each in declared if each.source != "ETag"] or list(declared)
    if len({each.checksum for each in stated}) > 1:
        sources = " and ".join(dict.fromkeys(each.source for each in stated))
        notes.append(f"{sources} declare different {stated[0].checksum.algorithm} values; neither was used")
        return None
    chosen = stated[0]
    for each in declared:
        if each.checksum != chosen.checksum:
            notes.append(f"{each.source} was skipped: it contradicts {chosen.source}")
    return chosen
