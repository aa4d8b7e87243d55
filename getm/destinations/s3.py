"""Objects in S3, and in what speaks its protocol, by botocore's clients (`clouds/aws.py`).

An object of one part is put at once, and any other by a multipart upload, which shows nothing before it is completed.
Every request carries the CRC of what it brings, so that S3 refuses bytes that were damaged on their way; the last one
that of the whole object, which S3 keeps and declares from then on.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from getm.clouds.aws import S3Clients
from getm.core.log import get_logger
from getm.core.units import MIB
from getm.destinations import parts
from getm.destinations.parts import PartSums
from getm.destinations.store import Origin, StoredObject, refused
from getm.destinations.urls import require, s3_place, shown
from getm.errors import Cancelled, TargetError
from getm.integrity.values import DIGEST_BYTES, Checksum

_log = get_logger()

_READ_BYTES = MIB
_NAMES = {"crc32": "CRC32", "crc32c": "CRC32C", "crc64nvme": "CRC64NVME", "sha1": "SHA1", "sha256": "SHA256"}
_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')
# How a store that knows no additional checksums of whole objects answers to them.
_UNKNOWN = frozenset({"NotImplemented", "InvalidRequest", "InvalidArgument", "MalformedXML", "400", "501"})
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
# What to do about the answers that are met most.
_ADVICE = {
    "AccessDenied": "check the credentials, and what they allow (s3:PutObject)",
    "403": "check the credentials, and what they allow (s3:GetObject, s3:PutObject)",
    "NoSuchBucket": "make the bucket, or check AWS_ENDPOINT_URL and the region",
    "InvalidAccessKeyId": "check the credentials, or AWS_ENDPOINT_URL where the store is not Amazon's",
    "SignatureDoesNotMatch": "check the secret key",
    "ExpiredToken": "log in again (aws sso login)",
}


class S3Store:
    """See `Store`. `url`: of anything in it."""

    def __init__(self, url: str) -> None:
        require(url)
        self._clients = S3Clients(
            sign=True, prepare=lambda client: client.meta.events.register("before-send.s3", _begin_to_send)
        )
        self.client(url)

    def client(self, url: str) -> Any:
        """botocore's client for the bucket of `url`."""
        try:
            return self._clients.of(s3_place(url)[0])
        except Exception as error:
            raise refused(url, "opening", _why(error)) from error

    def parts_at_once(self, part_bytes: int) -> int:
        return parts.parts_at_once(part_bytes)

    def find(self, url: str) -> StoredObject | None:
        client, (bucket, key) = self.client(url), s3_place(url)
        try:
            reply = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        except Exception as error:
            if code_of(error) in _MISSING:
                return None
            raise refused(url, "looking for", _why(error)) from error
        return StoredObject(reply["ContentLength"], tuple(_checksums(reply)), reply["LastModified"].timestamp())

    def read(self, url: str) -> Iterator[bytes]:
        client, (bucket, key) = self.client(url), s3_place(url)
        try:
            with contextlib.closing(client.get_object(Bucket=bucket, Key=key)["Body"]) as body:
                while data := body.read(_READ_BYTES):
                    yield data
        except Exception as error:
            raise refused(url, "reading", _why(error)) from error

    def upload(self, url: str, origin: Origin) -> S3Upload:
        return S3Upload(self, url, origin)

    def close(self) -> None:
        self._clients.close()


class S3Upload:
    """See `Upload`."""

    def __init__(self, store: S3Store, url: str, origin: Origin) -> None:
        self._store = store
        self._url = url
        self._place = dict(zip(("Bucket", "Key"), s3_place(url), strict=True))
        self._sums = PartSums(origin.algorithm)
        self._field = f"Checksum{_NAMES[origin.algorithm]}"
        self._properties = {
            name: value
            for name, value in (("ContentType", origin.media_type), ("ContentEncoding", origin.content_coding))
            if value
        }
        self._cancelled = threading.Event()
        # Held while the upload is begun: parts that are sent at once belong to one.
        self._lock = threading.Lock()
        self._id: str | None = None
        # Whether the store has no checksums of whole objects: then parts have an MD5.
        self._is_plain = False
        self._sent: dict[int, dict[str, Any]] = {}

    def cancel(self) -> None:
        self._cancelled.set()

    def send(self, number: int, data: bytearray) -> None:
        upload_id = self._begin()
        checksum = self._sums.add(number, data)
        reply = self._send("upload_part", data, checksum, UploadId=upload_id, PartNumber=number + 1)
        self._check(reply, data, checksum)
        part = {"PartNumber": number + 1, "ETag": reply["ETag"]}
        self._sent[number] = part if self._is_plain else part | {self._field: checksum.base64}

    def commit(self, whole: bytearray | None, received: Sequence[Checksum]) -> Checksum:
        if whole is not None:
            checksum = self._sums.add(0, whole)
            self._sums.check(received, shown(self._url))
            self._check(self._send("put_object", whole, checksum, **self._properties), whole, checksum)
            return checksum
        self._sums.check(received, shown(self._url))
        reply = self._complete()
        checksum, there = self._sums.whole(), self._checksum_in(reply)
        if there is None:
            # Each part was checked: what can still be wrong is their number.
            found = self._store.find(self._url)
            if found is None or found.size != self._sums.size:
                actual = "nothing" if found is None else f"{found.size:,} bytes"
                self._remove(reply, f"{self._sums.size:,} bytes", actual)
        elif there != checksum:
            self._remove(reply, str(checksum), str(there))
        return checksum

    def discard(self) -> None:
        if self._id is not None:
            upload_id, self._id = self._id, None
            self._call("abort_multipart_upload", "discarding the parts of", UploadId=upload_id)

    # Requests ---------------------------------------------------------------------------------------------------------

    def _begin(self) -> str:
        """The multipart upload, begun where it is not yet."""
        with self._lock:
            if self._id is None:
                kind = {"ChecksumAlgorithm": _NAMES[self._sums.algorithm], "ChecksumType": "FULL_OBJECT"}
                what = "beginning the upload to"
                try:
                    reply = self._call("create_multipart_upload", what, **self._properties, **kind)
                except TargetError as error:
                    if code_of(error.__cause__) not in _UNKNOWN:
                        raise
                    _log.info("%s: no checksums of whole objects there (%s)", shown(self._url), error.message)
                    self._is_plain = True
                    reply = self._call("create_multipart_upload", what, **self._properties)
                self._id = str(reply["UploadId"])
            return self._id

    def _send(self, operation: str, data: bytearray, checksum: Checksum, **arguments: Any) -> dict[str, Any]:
        if self._is_plain:
            arguments["ContentMD5"] = base64.b64encode(_md5(data)).decode("ascii")
        else:
            arguments[self._field] = checksum.base64
        return self._call(operation, "sending to", Body=_Body(data, self._cancelled), **arguments)

    def _complete(self) -> dict[str, Any]:
        numbers = sorted(self._sent)
        known = {} if self._is_plain else {"ChecksumType": "FULL_OBJECT", self._field: self._sums.whole().base64}
        arguments = known | {"UploadId": self._id, "MultipartUpload": {"Parts": [self._sent[each] for each in numbers]}}
        try:
            reply = self._call("complete_multipart_upload", "completing", **arguments)
        except TargetError as error:
            # A first answer may have been lost: then it is complete, and S3 knows the upload no more.
            found = self._store.find(self._url) if code_of(error.__cause__) == "NoSuchUpload" else None
            if found is None or found.size != self._sums.size or self._sums.whole() not in found.checksums:
                raise
            reply = {self._field: self._sums.whole().base64}
        self._id = None
        return reply

    def _call(self, operation: str, what: str, **arguments: Any) -> dict[str, Any]:
        if operation != "abort_multipart_upload":
            self._refuse_cancelled()
        client = self._store.client(self._url)
        try:
            reply: dict[str, Any] = getattr(client, operation)(**self._place, **arguments)
        except Exception as error:
            # botocore's own errors, and those of what signs and sends for it.
            if operation != "abort_multipart_upload":
                self._refuse_cancelled()
            raise refused(self._url, what, _why(error)) from error
        return reply

    def _refuse_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled(f"the upload to {shown(self._url)} was cancelled")

    # What the store says of the bytes ---------------------------------------------------------------------------------

    def _checksum_in(self, reply: dict[str, Any]) -> Checksum | None:
        value = reply.get(self._field)
        try:
            return None if value is None else Checksum(self._sums.algorithm, base64.b64decode(value))
        except ValueError:
            # Of parts ("...-3").
            return None

    def _check(self, reply: dict[str, Any], data: bytearray, checksum: Checksum) -> None:
        """Raises `TargetError` where the store has other bytes, as far as it says."""
        there = self._checksum_in(reply)
        if there is None:
            found = _MD5_ETAG.fullmatch(reply.get("ETag", ""))
            # With keys of the caller's own, or of KMS, it is no MD5.
            encrypted = reply.get("SSECustomerAlgorithm") or reply.get("ServerSideEncryption") not in (None, "AES256")
            if found is None or encrypted:
                return
            checksum, there = Checksum("md5", _md5(data)), Checksum("md5", bytes.fromhex(found[1]))
        if there != checksum:
            raise refused(self._url, "sending to", f"{checksum} was sent, and the store has {there}; try again")

    def _remove(self, reply: dict[str, Any], expected: str, actual: str) -> None:
        """What the store has is not what was sent: remove it, and raise `TargetError`."""
        version = {"VersionId": reply["VersionId"]} if "VersionId" in reply else {}
        self._call("delete_object", "removing", **version)
        raise refused(self._url, "completing", f"expected {expected}, the store has {actual}, and it was removed")


class _Body:
    """The bytes of a request as a file, the sending of which ends where the upload is cancelled: no library can cancel
    a request by itself."""

    def __init__(self, data: bytearray, cancelled: threading.Event) -> None:
        # Otherwise it is read for its signature.
        self._sending = False
        self._view = memoryview(data)
        self._cancelled = cancelled
        self._position = 0

    def __len__(self) -> int:
        return len(self._view)

    def begin_to_send(self) -> None:
        """Raises `Cancelled`."""
        self._refuse_cancelled()
        self._sending = True

    def _refuse_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled("the upload was cancelled")

    def read(self, count: int | None = None) -> memoryview:
        if self._sending:
            self._refuse_cancelled()
        start = self._position
        self._position = len(self._view) if count is None or count < 0 else min(len(self._view), start + count)
        return self._view[start : self._position]

    def seek(self, offset: int, whence: int = 0) -> int:
        # Before it is signed, and signed again.
        self._sending = False
        self._position = offset + (0, self._position, len(self._view))[whence]
        return self._position

    def tell(self) -> int:
        return self._position


def _begin_to_send(request: Any, **_: object) -> None:
    """Called before each request, and before it is sent again. What it raises ends that."""
    if isinstance(request.body, _Body):
        request.body.begin_to_send()


def _md5(data: bytearray) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _checksums(reply: dict[str, Any]) -> Iterator[Checksum]:
    """Those of the whole object that a response has."""
    if reply.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
        for algorithm, name in _NAMES.items():
            with contextlib.suppress(ValueError):
                value = base64.b64decode(reply.get(f"Checksum{name}", ""), validate=True)
                if len(value) == DIGEST_BYTES[algorithm]:
                    yield Checksum(algorithm, value)
    found = _MD5_ETAG.fullmatch(reply.get("ETag", ""))
    if found is not None and reply.get("ServerSideEncryption") in (None, "AES256"):
        yield Checksum("md5", bytes.fromhex(found[1]))


def code_of(error: BaseException | None) -> str:
    """The code of an error that S3 answered with; empty for any other."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _why(error: Exception) -> str:
    """In a few words, with what to do."""
    code = code_of(error)
    if not code:
        name = type(error).__name__
        if name in ("NoCredentialsError", "PartialCredentialsError"):
            return f"{error}: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run aws configure"
        return str(error)
    message = getattr(error, "response", {})["Error"].get("Message", "")
    advice = f"; {_ADVICE[code]}" if code in _ADVICE else ""
    return f"{code}: {message}{advice}"
