"""S3, as moto imitates it and boto3 fills and signs it: what verifies an object, and what cannot."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.signers import CloudFrontSigner

import getm
from getm.core.signed_url import Signature, find_signature
from getm.testing import FaultServer, Reply, Request, failure
from tests.support.command import getm as getm_command
from tests.support.s3_server import CREDENTIALS, REGION, S3Server, presign, s3_client

MIB = 1024 * 1024
MODES = (1, 4, None)
SMALL = random.Random(1).randbytes(300_001)
LARGE = random.Random(2).randbytes(19 * MIB + 3)
ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="module")
def keys(s3: S3Server) -> dict[str, bytes]:
    """Everything that is uploaded, and its content."""
    content = {s3.put("plain", SMALL): SMALL, s3.put("empty", b""): b""}
    for algorithm in ALGORITHMS:
        content[s3.put(f"single/{algorithm}", SMALL, ChecksumAlgorithm=algorithm)] = SMALL
    for part_bytes in (5 * MIB, 8 * MIB, 5 * MIB + 777):
        content[s3.upload(f"parts/{part_bytes}", LARGE, part_bytes)] = LARGE
    for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256"):
        content[s3.upload(f"composite/{algorithm}", LARGE, 8 * MIB, algorithm, "COMPOSITE")] = LARGE
    for algorithm in ("CRC32", "CRC32C", "CRC64NVME"):
        content[s3.upload(f"full/{algorithm}", LARGE, 5 * MIB + 777, algorithm, "FULL_OBJECT")] = LARGE
    return content


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


def read(session: getm.Session, url: str, concurrency: int | None, **call: Any) -> tuple[bytes, getm.Verdict]:
    with session.urlopen(url, concurrency=concurrency, **call) as fh:
        return bytes(fh.read()), fh.checksum


def told(verdict: getm.Verdict) -> tuple[str | None, str | None]:
    """By which algorithm the bytes were verified, and who had declared it."""
    assert verdict.verified
    return (verdict.checksum.algorithm if verdict.checksum else None), verdict.source


@pytest.mark.parametrize("concurrency", MODES)
def test_a_single_put_is_verified_by_its_etag(
    s3: S3Server, keys: dict[str, bytes], session: getm.Session, concurrency: int | None
) -> None:
    for key in ("plain", "empty"):
        got, verdict = read(session, s3.presigned(key, checksum_mode=False), concurrency, strict=True)
        assert got == keys[key]
        assert told(verdict) == ("md5", "ETag")


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_additional_checksums_of_a_single_put(
    s3: S3Server, keys: dict[str, bytes], session: getm.Session, algorithm: str, concurrency: int | None
) -> None:
    """Sent only where the signature covers the asking for it, and only for a request without Range; a CRC is weaker
    than the MD5 that the ETag is."""
    key = f"single/{algorithm}"
    got, verdict = read(session, s3.presigned(key, checksum_mode=True), concurrency)
    assert got == keys[key]
    declared = ("md5", "ETag")
    if algorithm.startswith("SHA") and concurrency != 4:
        declared = (algorithm.lower(), f"x-amz-checksum-{algorithm.lower()}")
    assert told(verdict) == declared
    assert told(read(session, s3.presigned(key, checksum_mode=False), concurrency)[1]) == ("md5", "ETag")


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("part_bytes", [5 * MIB, 8 * MIB])
def test_the_etag_of_a_multipart_upload(
    s3: S3Server, keys: dict[str, bytes], session: getm.Session, part_bytes: int, concurrency: int | None
) -> None:
    key = f"parts/{part_bytes}"
    got, verdict = read(session, s3.presigned(key, checksum_mode=False), concurrency, strict=True)
    assert got == keys[key]
    assert told(verdict) == ("s3-etag", "ETag")
    assert verdict.checksum is not None and verdict.checksum.parts == -(-len(LARGE) // part_bytes)


@pytest.mark.parametrize("concurrency", MODES)
def test_row_35_an_odd_part_size_is_unverified_and_not_corrupt(
    s3: S3Server, keys: dict[str, bytes], session: getm.Session, concurrency: int | None
) -> None:
    """Faults row 35."""
    key = f"parts/{5 * MIB + 777}"
    url = s3.presigned(key, checksum_mode=True)
    got, verdict = read(session, url, concurrency)
    assert got == keys[key]
    assert not verdict.verified and verdict.checksum is None
    assert verdict.reason is not None and "part size" in verdict.reason
    with pytest.raises(getm.errors.Unverified, match="part size"):
        read(session, url, concurrency, strict=True)


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
def test_row_36_a_composite_checksum_is_not_taken_for_one_of_the_object(
    s3: S3Server, keys: dict[str, bytes], session: getm.Session, algorithm: str, concurrency: int | None
) -> None:
    key = f"composite/{algorithm}"
    got, verdict = read(session, s3.presigned(key, checksum_mode=True), concurrency)
    assert got == keys[key]
    assert told(verdict) == ("s3-etag", "ETag")


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_a_full_object_checksum_verifies_what_the_etag_cannot(
    s3: S3Server, keys: dict[str, bytes], session: getm.Session, algorithm: str, concurrency: int | None
) -> None:
    """The part size is an odd one. On a ranged reply the header may be a part's (faults row 36)."""
    key = f"full/{algorithm}"
    got, verdict = read(session, s3.presigned(key, checksum_mode=True), concurrency)
    assert got == keys[key]
    if concurrency == 4:
        assert not verdict.verified and "part size" in str(verdict.reason)
    else:
        assert told(verdict) == (algorithm.lower(), f"x-amz-checksum-{algorithm.lower()}")


def test_a_download_says_what_verified_it(
    s3: S3Server, keys: dict[str, bytes], session: getm.Session, tmp_path: Any
) -> None:
    for concurrency in MODES:
        key = f"parts/{8 * MIB}"
        url = s3.presigned(key, checksum_mode=True)
        result = session.download(url, tmp_path / "out", concurrency=concurrency, strict=True)
        assert result.path.read_bytes() == keys[key]
        assert result.verified and told(result.checksum) == ("s3-etag", "ETag")


# Damage --------------------------------------------------------------------------------------------------------------


def as_stored(url: str) -> tuple[dict[str, str | list[str] | None], bytes]:
    """What moto answers: headers that declare and identify, and the body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}", headers={"x-amz-checksum-mode": "ENABLED"})
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    assert response.status == 200
    kept = {name: value for name, value in response.getheaders() if name.lower().startswith(("x-amz", "etag"))}
    return {**kept, "ETag": kept["ETag"]}, body


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("key", ["plain", "single/SHA256", "single/CRC64NVME", "full/CRC64NVME", "full/CRC32C"])
def test_row_34_one_flipped_bit(
    s3: S3Server,
    keys: dict[str, bytes],
    session: getm.Session,
    fault_server: FaultServer,
    key: str,
    concurrency: int | None,
) -> None:
    """The object as moto declares it, sent by a server that flips one bit (faults row 34)."""
    headers, body = as_stored(s3.presigned(key, checksum_mode=True))
    assert body == keys[key]
    etag = headers.pop("ETag")
    assert isinstance(etag, str)
    good = fault_server.serve("/good", Reply(body=body, etag=etag, headers=headers))
    wrong = fault_server.serve("/wrong", Reply(body=body, etag=etag, headers=headers, flip_bit=len(body) * 8 - 5))
    got, verdict = read(session, good, concurrency)
    assert got == body
    if not verdict.verified:
        assert (key.partition("/")[0], concurrency) == ("full", 4)  # nothing that covers it stands on a ranged reply
        return
    with pytest.raises(getm.ChecksumMismatch) as caught:
        read(session, wrong, concurrency)
    assert caught.value.expected == str(verdict.checksum) != caught.value.actual
    assert caught.value.source == verdict.source


@pytest.mark.parametrize("concurrency", MODES)
def test_row_35_a_flipped_bit_under_a_multipart_etag_is_not_verified(
    s3: S3Server, keys: dict[str, bytes], session: getm.Session, fault_server: FaultServer, concurrency: int | None
) -> None:
    """Damage and an unusual part size look the same: getm does not call it corrupt, and `strict` does not take it."""
    headers, body = as_stored(s3.presigned(f"parts/{8 * MIB}", checksum_mode=False))
    etag = headers.pop("ETag")
    assert isinstance(etag, str)
    wrong = fault_server.serve("/wrong", Reply(body=body, etag=etag, headers=headers, flip_bit=9 * MIB * 8))
    got, verdict = read(session, wrong, concurrency)
    assert got != body and not verdict.verified
    with pytest.raises(getm.errors.Unverified):
        read(session, wrong, concurrency, strict=True)


# Signatures ----------------------------------------------------------------------------------------------------------


def signature_holds(request: Request, host: str) -> bool:
    """Whether S3 would accept a request by a presigned URL: the signature is right for what was sent, and covers every
    x-amz-* header of it (Amazon S3 API, "Authenticating requests: using query parameters")."""
    url = f"http://{host}{request.target.decode('ascii')}"
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    signed = query["X-Amz-SignedHeaders"].split(";")
    if any(name.lower().startswith("x-amz-") and name.lower() not in signed for name, _ in request.headers):
        return False
    given = query.pop("X-Amz-Signature")
    target = url.replace(f"&X-Amz-Signature={given}", "")
    headers = {name: request.header(name) or "" for name in signed}
    rebuilt = AWSRequest(method=request.method, url=target, headers=headers)
    rebuilt.context["timestamp"] = query["X-Amz-Date"]
    assert datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    auth = S3SigV4QueryAuth(Credentials(*CREDENTIALS.values()), "s3", REGION)
    return bool(auth.signature(auth.string_to_sign(rebuilt, auth.canonical_request(rebuilt)), rebuilt) == given)


@pytest.mark.parametrize(
    ("checksum_mode", "concurrency"), [(mode, concurrency) for mode in (False, True) for concurrency in (1, 4, None)]
)
@pytest.mark.parametrize("key", ["a/b.bin", "with space+plus'quote%and~tilde*(1).bin"])
def test_row_27_a_presigned_url_keeps_its_signature(
    session: getm.Session, fault_server: FaultServer, key: str, checksum_mode: bool, concurrency: int | None
) -> None:
    """A server that answers 403 as S3 would."""
    host = f"127.0.0.1:{fault_server.port}"

    def like_s3(request: Request) -> Reply:
        return Reply(body=LARGE) if signature_holds(request, host) else failure(403)

    with s3_client(fault_server.url("")) as client:
        url = presign(client, key, checksum_mode=checksum_mode)
    fault_server.serve(urlsplit(url).path, like_s3)
    assert read(session, url, concurrency)[0] == LARGE
    asked = {request.header("x-amz-checksum-mode") for request in fault_server.requests}
    assert asked == ({"ENABLED"} if checksum_mode else {None})


def test_the_check_of_signatures_finds_what_breaks_them(session: getm.Session, fault_server: FaultServer) -> None:
    host = f"127.0.0.1:{fault_server.port}"
    with s3_client(fault_server.url("")) as client:
        url = presign(client, "key", checksum_mode=False)
    fault_server.serve("/bucket/key", Reply(body=SMALL))
    read(session, url, 1)
    read(session, url, 1, headers={"x-amz-checksum-mode": "ENABLED"})
    read(session, url.replace("X-Amz-Expires=600", "X-Amz-Expires=601"), 1)
    assert [signature_holds(request, host) for request in fault_server.requests] == [True, False, False]


def test_a_list_of_presigned_urls(s3: S3Server, keys: dict[str, bytes], tmp_path: Path) -> None:
    """As programs hand them to the command: each with its own signature, verified by what S3 declares of it."""
    wanted = {f"parts/{8 * MIB}": "s3-etag", "plain": "md5", "single/SHA256": "sha256"}
    rows = [{"url": s3.presigned(key, checksum_mode=True), "filepath": key} for key in wanted]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    run = getm_command("-m", "list.json", "-d", "out", "--strict", "--json", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    done = {event["path"]: event for event in map(json.loads, run.stdout.splitlines())}
    for key, algorithm in wanted.items():
        assert (tmp_path / "out" / key).read_bytes() == keys[key]
        assert done[f"out/{key}"]["checksum"].startswith(algorithm)
        assert done[f"out/{key}"]["url"] == f"{s3.endpoint}/bucket/{key}"


@pytest.mark.parametrize("version", ("s3v4", "s3"))
def test_when_what_boto3_signs_expires(version: str) -> None:
    config = Config(signature_version=version)
    with contextlib.closing(boto3.client("s3", region_name=REGION, config=config, **CREDENTIALS)) as client:
        before_s = int(time.time())
        url = client.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "a b+c"}, ExpiresIn=600)
        after_s = time.time()
    found = find_signature(url)
    assert found is not None and found.expires_s is not None
    assert before_s + 600 <= found.expires_s <= after_s + 601


def test_a_presigned_url_that_has_expired(s3: S3Server, keys: dict[str, bytes], session: getm.Session) -> None:
    """moto does not look at the time: what is refused here was not requested."""
    url = s3.presigned("plain", checksum_mode=True)
    signed_at = parse_qs(urlsplit(url).query)["X-Amz-Date"][0]
    now = datetime.now(UTC)
    just_expired = url.replace(signed_at, f"{now - timedelta(seconds=900):%Y%m%dT%H%M%SZ}")
    long_expired = url.replace(signed_at, f"{now - timedelta(days=2):%Y%m%dT%H%M%SZ}")
    assert session.read(just_expired) == keys["plain"]
    with pytest.raises(getm.URLExpired, match="get a new one") as caught:
        session.read(long_expired)
    assert caught.value.attempts == 0 and caught.value.url == f"{s3.endpoint}/bucket/plain"


def test_what_s3_says_of_a_missing_key(s3: S3Server, keys: dict[str, bytes], session: getm.Session) -> None:
    with pytest.raises(getm.HTTPStatusError) as caught:
        session.read(s3.presigned("missing", checksum_mode=False))
    assert caught.value.message.lower() == "404 not found: nosuchkey: the specified key does not exist"


@pytest.mark.parametrize("custom", [False, True])
def test_when_what_boto3_signs_for_cloudfront_expires(custom: bool) -> None:
    signer = CloudFrontSigner("K2JCJMDEHXQW5F", lambda message: b"a signature")
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    url = "https://d111111abcdef8.cloudfront.net/a%20b?x=1"
    if custom:
        policy = signer.build_policy(url, due, date_greater_than=due - timedelta(days=1), ip_address="192.0.2.0/24")
        signed = signer.generate_presigned_url(url, policy=policy)
    else:
        signed = signer.generate_presigned_url(url, date_less_than=due)
    assert ("Policy=" in signed) == custom
    assert find_signature(signed) == Signature(due.timestamp())
