"""Amazon S3 and servers that speak its protocol: additional checksums, ETags, and asking for checksums."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, urlsplit

from getm.core.head import ResponseHead
from getm.core.redact import host_of
from getm.integrity.declared.types import Declared, Finding, quoted, read_value
from getm.integrity.multipart_etag import candidate_part_bytes
from getm.integrity.values import canonical_algorithm

# Amazon S3 API, GetObject, response syntax.
_AMZ_NAMES = ("sha512", "sha256", "sha1", "md5", "xxhash128", "xxhash3", "xxhash64", "crc64nvme", "crc32c", "crc32")
AMZ_CHECKSUMS = {f"x-amz-checksum-{name}": canonical_algorithm(name) for name in _AMZ_NAMES}

# Headers that only an S3 object's response carries. Any of them, or Server: AmazonS3, makes the server one whose ETags
# follow S3's rules; nginx, Apache and CDNs over other origins send none. (moto has no request id of S3's form, but
# echoes the headers that the AWS SDKs upload with.)
_S3_MARKS = (
    "x-amz-request-id",
    "x-amz-id-2",
    "x-amz-version-id",
    "x-amz-storage-class",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-content-sha256",
)


def amz_checksums(head: ResponseHead) -> Iterator[Finding]:
    """x-amz-checksum-<algorithm>, base64 (Amazon S3 User Guide, "Checking object integrity").

    Skipped with a note: COMPOSITE values and those ending in "-N", a checksum of the parts' checksums.
    """
    composite = "COMPOSITE" in (head.get("x-amz-checksum-type") or "").upper()
    for source, algorithm in AMZ_CHECKSUMS.items():
        for text in dict.fromkeys(head.get_all(source)):
            if composite or re.search(r"-[0-9]+$", text):
                yield f"{source} was skipped: it is composite, a checksum of the upload parts' checksums"
            else:
                yield read_value(source, algorithm, text)


S3_ETAG = re.compile(r'"([0-9a-fA-F]{32})(?:-([0-9]{1,5}))?"')


def s3_etag(head: ResponseHead, size_bytes: int | None) -> Iterator[Finding]:
    """The ETag of an S3 object: its MD5 for a single PUT, "<hex>-N" for a multipart upload.

    It counts only where the response is marked as S3's and the ETag is strong. (Amazon S3 API, "Common response
    headers" and "Object": not an MD5 under SSE-KMS and SSE-C, nor in directory buckets.) SSE-S3 is trusted of Amazon
    alone: MinIO's ETag of an encrypted object is a random value (minio/minio issue 20520).
    """
    etags = head.get_all("etag")
    # The response itself says that an S3 object was served, by Amazon or a compatible server.
    if not etags or not (_is_amazon(head) or any(mark in head.fields for mark in _S3_MARKS)):
        return
    has_form = len(set(etags)) == 1 and S3_ETAG.fullmatch(etags[0])
    obstacle = _not_md5(head) if has_form else "it does not have the form of an S3 checksum"
    if obstacle is not None:
        yield f"ETag was skipped: {obstacle}"
        return
    finding = read_value("ETag", "s3-etag" if "-" in etags[0] else "md5", etags[0].strip('"'))
    parts = finding.checksum.parts if isinstance(finding, Declared) else None
    if parts is not None and size_bytes is None:
        yield "ETag was skipped: it is that of a multipart upload, whose part size cannot be found without the size"
    elif parts is not None and size_bytes is not None and not candidate_part_bytes(size_bytes, parts):
        yield f"ETag was skipped: {size_bytes} bytes cannot have been uploaded in {parts} parts of a known size"
    else:
        yield finding


def _host_of(url: str) -> str:
    """The host in lower case, without a port; empty where there is none."""
    return (host_of(url) or "").lower().partition(":")[0]


def _is_amazon(head: ResponseHead) -> bool:
    return (head.get("server") or "").lower() == "amazons3" or _is_amazon_host(_host_of(head.url))


def _is_amazon_host(host: str) -> bool:
    """Whether it is "s3.REGION.amazonaws.com", "BUCKET.s3-REGION.amazonaws.com" or the like. In linear time: redirects
    may name hosts of any length."""
    name, found, country = host.rpartition(".amazonaws.com")
    return bool(found) and country in ("", ".cn") and any(label.startswith("s3") for label in name.split("."))


def _not_md5(head: ResponseHead) -> str | None:
    """Why an ETag of MD5's form is no MD5 here; None where it is one."""
    encryption = (head.get("x-amz-server-side-encryption") or "").lower()
    host, coding = _host_of(head.url), head.content_coding()
    if any(name.startswith("x-amz-server-side-encryption-customer-") for name in head.fields):
        return "under SSE-C an S3 ETag is no MD5"
    if encryption not in ("", "aes256"):
        return f"under {quoted(encryption)} encryption an S3 ETag is no MD5"
    if (head.get("x-amz-storage-class") or "").upper() == "EXPRESS_ONEZONE" or "--x-s3" in host:
        return "in an S3 directory bucket an ETag is no MD5"
    if ".s3-object-lambda." in host:
        return "S3 Object Lambda may change the bytes and keep the ETag"
    if encryption and not _is_amazon(head):
        return "S3-compatible servers do not all keep the MD5 as the ETag of an encrypted object"
    if coding is not None and not _is_amazon(head):
        return f"the response has the coding {quoted(coding)}, perhaps added on the way"
    return None


def may_ask_checksums(url: str, headers: Iterable[tuple[str, str]] = ()) -> bool:
    """True where "x-amz-checksum-mode: ENABLED" may be added to a GET without breaking a signature.

    S3 answers 403 to x-amz-* headers that a signature does not cover. So: a presigned URL (Signature Version 4) must
    list the header in X-Amz-SignedHeaders; Version 2 signatures cover every x-amz-* header, so they never allow it;
    nor does a request that the caller signed in `headers`. An unsigned URL may be asked at Amazon's own hosts.
    """
    lowered = url.lower()
    if "amazonaws" not in lowered and "x-amz-" not in lowered:
        # Nothing of Amazon's: the usual case, decided without taking the URL apart.
        return False
    if any(name.lower() == "authorization" for name, _ in headers):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    query = {name.lower(): value for name, value in parse_qsl(parts.query, keep_blank_values=True)}
    if "x-amz-signature" in query:
        return "x-amz-checksum-mode" in query.get("x-amz-signedheaders", "").lower().split(";")
    host = _host_of(url)
    return "signature" not in query and _is_amazon_host(host) and "--x-s3" not in host
