"""Reading every declared checksum out of a chain of responses, and weighing them against each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from getm.core.head import Head
from getm.errors import MissingExtra
from getm.integrity.algorithms import require_algorithm
from getm.integrity.declared.digest_fields import content_digest, content_md5, digest, repr_digest
from getm.integrity.declared.s3 import S3_ETAG, amz_checksums, s3_etag
from getm.integrity.declared.stores import azure_blob_md5, goog_hash, linked_etag, repository_checksums
from getm.integrity.declared.types import Declared, Discovery, Finding, Reply
from getm.integrity.values import Checksum

_STANDARD_FIELDS = frozenset({"repr-digest", "digest", "content-digest", "content-md5"})

_NOTHING = Discovery((), ())

STRENGTH: tuple[str, ...] = (
    "sha512",
    "sha384",
    "sha256",
    "blake3",
    "sha224",
    "sha1",
    "md5",
    "xxh3-128",
    "xxh3-64",
    "xxh64",
    "crc64nvme",
    "crc32c",
    "crc32",
    "s3-etag",
)
"""Strongest first. A multipart S3 ETag comes last, below even a CRC: it costs several MD5 passes and may still turn out
unverifiable, when no known part size fits. (A single-part S3 ETag is an MD5 and ranks as one.)"""


def discover(heads: Sequence[Head], *, size: int | None) -> Discovery:
    """The checksums that a chain of responses (redirects first, the final one last) declares for the representation.

    `size` is the representation's length in bytes, None where it is not known. Only what covers the whole
    representation is given, strongest first; one `Declared` for each algorithm. Everything else becomes a note: fields
    that are malformed, composite, of a range, of other bytes than those sent, or that contradict each other. Never
    raises for what a server sent.
    """
    if not heads:
        return _NOTHING
    findings: list[Finding] = []
    for head in heads[:-1]:
        findings.extend(linked_etag(Reply(head), size))
    if not _may_declare(heads[-1]):
        return _weigh(findings) if findings else _NOTHING
    linked = any(isinstance(finding, Declared) for finding in findings)
    final = Reply(heads[-1])
    findings.extend(repr_digest(final))
    findings.extend(digest(final))
    findings.extend(content_digest(final))
    findings.extend(goog_hash(final, size))
    findings.extend(amz_checksums(final))
    findings.extend(repository_checksums(final))
    findings.extend(azure_blob_md5(final))
    findings.extend(content_md5(final))
    # A linked etag speaks for the file; the ETag of the CDN behind it is about the CDN's copy and its upload.
    if not linked:
        findings.extend(s3_etag(final, size))
    return _weigh(findings)


def _may_declare(head: Head) -> bool:
    """Whether any field could hold a checksum. Most web servers send none: small objects should not pay for the look.

    Every store's own fields begin with "x-"; an ETag counts where it has the form that S3's have.
    """
    if _names_may_declare(tuple(head.fields)):
        return True
    return any([S3_ETAG.fullmatch(etag) for etag in head.get_all("etag")])


@lru_cache(maxsize=64)
def _names_may_declare(names: tuple[str, ...]) -> bool:
    """Asked again and again with the same names: those that a server's responses have."""
    return not _STANDARD_FIELDS.isdisjoint(names) or any(name.startswith("x-") for name in names)


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
    return Discovery(tuple(usable), tuple(dict.fromkeys(notes)))


def _agreed(declared: Sequence[Declared], notes: list[str]) -> Declared | None:
    """The one value that all sources of one algorithm declare.

    An ETag is a checksum by custom only, so it yields to fields that say so. Fields that contradict each other leave
    no way to tell which is right: neither is used, and a note says so.
    """
    stated = [each for each in declared if each.source != "ETag"] or list(declared)
    values: dict[Checksum, Declared] = {}
    for each in stated:
        values.setdefault(each.checksum, each)
    if len(values) > 1:
        sources = " and ".join(dict.fromkeys(each.source for each in values.values()))
        notes.append(f"{sources} declare different {stated[0].checksum.algorithm} values; neither was used")
        return None
    chosen = stated[0]
    for each in declared:
        if each.checksum != chosen.checksum:
            notes.append(f"{each.source} was skipped: it contradicts {chosen.source}")
    return chosen
