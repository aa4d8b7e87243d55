"""Uploads to S3, with a client of the test's own: stores that know less, answers that do not fit, lost answers."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError, NoCredentialsError

from getm.core.units import MIB
from getm.destinations.s3 import S3Store, S3Upload
from getm.destinations.store import Origin
from getm.errors import Cancelled, TargetError
from getm.integrity.files import checksum

URL = "s3://bucket/in/x"
PARTS = [bytearray(os.urandom(6 * MIB)), bytearray(os.urandom(6 * MIB)), bytearray(b"rest")]
WHOLE = checksum(b"".join(PARTS), "crc32c")


def refusal(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


class Client:
    """Answers each operation by a function that a test may replace; `calls` has operations and their arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "create_multipart_upload": lambda _: {"UploadId": "id"},
            "upload_part": self._echo,
            "put_object": self._echo,
            "complete_multipart_upload": lambda given: {"ChecksumCRC32C": given.get("ChecksumCRC32C")},
            "abort_multipart_upload": lambda _: {},
            "delete_object": lambda _: {},
        }

    def _echo(self, given: dict[str, Any]) -> dict[str, Any]:
        body = given["Body"]
        data = b"".join(iter(lambda: bytes(body.read(1000_000)), b""))
        if "ContentMD5" in given:
            assert given["ContentMD5"] == base64.b64encode(hashlib.md5(data).digest()).decode()
        else:
            assert given["ChecksumCRC32C"] == checksum(data, "crc32c").base64
        return {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "ChecksumCRC32C": given.get("ChecksumCRC32C")}

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**given: Any) -> Any:
            assert (given["Bucket"], given["Key"]) == ("bucket", "in/x")
            self.calls.append((operation, given))
            answer = self.answers[operation](given)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def close(self) -> None:
        return

    @property
    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def upload(client: Client, monkeypatch: pytest.MonkeyPatch) -> S3Upload:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = S3Store(URL)
    store.close()
    monkeypatch.setattr(store, "client", lambda url: client)
    return store.upload(URL, Origin(None, "crc32c", "text/plain"))


def send_all(upload: S3Upload) -> None:
    for number in (1, 0, 2):
        upload.send(number, PARTS[number])


def test_parts_and_the_whole_have_checksums(client: Client, upload: S3Upload) -> None:
    send_all(upload)
    assert upload.commit(None, [WHOLE]) == WHOLE
    assert client.operations == ["create_multipart_upload", *["upload_part"] * 3, "complete_multipart_upload"]
    (_, created), *_, (_, completed) = client.calls
    assert (created["ChecksumType"], created["ContentType"]) == ("FULL_OBJECT", "text/plain")
    assert completed["ChecksumCRC32C"] == WHOLE.base64
    parts = completed["MultipartUpload"]["Parts"]
    assert [part["PartNumber"] for part in parts] == [1, 2, 3]
    assert [part["ChecksumCRC32C"] for part in parts] == [checksum(part, "crc32c").base64 for part in PARTS]
    # Nothing is left to be discarded.
    upload.discard()
    assert len(client.calls) == 5


def test_a_small_object_is_put(client: Client, upload: S3Upload) -> None:
    assert upload.commit(PARTS[2], []) == checksum(PARTS[2], "crc32c")
    upload.discard()
    assert client.operations == ["put_object"]


def test_a_store_without_checksums_of_whole_objects(client: Client, upload: S3Upload) -> None:
    client.answers["create_multipart_upload"] = lambda given: (
        refusal("NotImplemented") if "ChecksumType" in given else {"UploadId": "id"}
    )
    client.answers["complete_multipart_upload"] = lambda _: {"ETag": '"x-3"'}
    client.answers["head_object"] = lambda _: {"ContentLength": sum(map(len, PARTS)), "LastModified": _Now()}
    send_all(upload)
    assert upload.commit(None, []) == WHOLE
    assert all("ContentMD5" in given for operation, given in client.calls if operation == "upload_part")
    assert client.operations[-1] == "head_object"


class _Now:
    def timestamp(self) -> float:
        return 0.0


def test_a_refusal_that_is_about_something_else(client: Client, upload: S3Upload) -> None:
    client.answers["create_multipart_upload"] = lambda _: refusal("AccessDenied", "Access Denied")
    with pytest.raises(TargetError, match=r"s3://bucket/in/x failed: AccessDenied: .*check the credentials"):
        upload.send(0, PARTS[0])
    assert client.operations == ["create_multipart_upload"]


def test_who_signs(upload: S3Upload, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = S3Store(URL)
    assert store.client(URL).meta.config.signature_version == "s3v4"
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "1")
    assert store.client(URL).meta.config.signature_version is UNSIGNED
    store.close()


def test_no_credentials(client: Client, upload: S3Upload) -> None:
    client.answers["put_object"] = lambda _: NoCredentialsError()
    with pytest.raises(TargetError, match="AWS_PROFILE"):
        upload.commit(PARTS[2], [])


@pytest.mark.parametrize(
    "reply",
    [
        {"ETag": '"x"', "ChecksumCRC32C": checksum(b"other", "crc32c").base64},
        {"ETag": f'"{hashlib.md5(b"other").hexdigest()}"'},
        {"ETag": f'"{hashlib.md5(b"other").hexdigest()}"', "ServerSideEncryption": "AES256"},
    ],
)
def test_a_part_that_is_other_in_the_store(client: Client, upload: S3Upload, reply: dict[str, str]) -> None:
    client.answers["upload_part"] = client.answers["put_object"] = lambda _: reply
    with pytest.raises(TargetError, match="the store has"):
        upload.send(0, PARTS[0])
    with pytest.raises(TargetError, match="the store has"):
        upload.commit(PARTS[0], [])
    upload.discard()
    assert client.operations[-1] == "abort_multipart_upload"


@pytest.mark.parametrize(
    "reply",
    [
        {"ETag": '"x"'},
        {"ETag": f'"{hashlib.md5(b"other").hexdigest()}"', "ServerSideEncryption": "aws:kms"},
        {"ETag": f'"{hashlib.md5(b"other").hexdigest()}"', "SSECustomerAlgorithm": "AES256"},
    ],
)
def test_etags_that_are_no_md5(client: Client, upload: S3Upload, reply: dict[str, str]) -> None:
    client.answers["upload_part"] = lambda _: reply
    upload.send(0, PARTS[0])


def test_an_object_that_is_other_in_the_store_is_removed(client: Client, upload: S3Upload) -> None:
    other = checksum(b"other", "crc32c")
    client.answers["complete_multipart_upload"] = lambda _: {"ChecksumCRC32C": other.base64, "VersionId": "v2"}
    send_all(upload)
    with pytest.raises(TargetError, match=f"expected {WHOLE}, the store has {other}, and it was removed"):
        upload.commit(None, [])
    assert client.calls[-1][0] == "delete_object" and client.calls[-1][1]["VersionId"] == "v2"


def test_bytes_that_are_not_what_came_are_not_completed(client: Client, upload: S3Upload) -> None:
    send_all(upload)
    with pytest.raises(TargetError, match="damaged"):
        upload.commit(None, [checksum(b"other", "crc32c")])
    upload.discard()
    assert client.operations[-1] == "abort_multipart_upload"


@pytest.mark.parametrize("right", [True, False])
def test_an_answer_that_was_lost(client: Client, upload: S3Upload, right: bool) -> None:
    found = WHOLE if right else checksum(b"before", "crc32c")
    client.answers["complete_multipart_upload"] = lambda _: refusal("NoSuchUpload")
    client.answers["head_object"] = lambda _: {
        "ContentLength": sum(map(len, PARTS)),
        "LastModified": _Now(),
        "ChecksumCRC32C": found.base64,
        "ChecksumType": "FULL_OBJECT",
    }
    send_all(upload)
    if right:
        assert upload.commit(None, []) == WHOLE
    else:
        with pytest.raises(TargetError, match="NoSuchUpload"):
            upload.commit(None, [])


def test_a_cancelled_upload(client: Client, upload: S3Upload) -> None:
    upload.send(0, PARTS[0])

    def cancelled_within(given: dict[str, Any]) -> Any:
        given["Body"].begin_to_send()
        assert given["Body"].read(1) == PARTS[1][:1]
        upload.cancel()
        return given["Body"].read(1)

    client.answers["upload_part"] = cancelled_within
    with pytest.raises(Cancelled):
        upload.send(1, PARTS[1])
    with pytest.raises(Cancelled):
        upload.send(2, PARTS[2])
    with pytest.raises(Cancelled):
        upload.commit(PARTS[0], [])
    upload.discard()
    assert client.operations == ["create_multipart_upload", "upload_part", "upload_part", "abort_multipart_upload"]
