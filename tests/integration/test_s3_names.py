"""s3:// names: presigned by botocore, and served by moto."""

from __future__ import annotations

import datetime
import json
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import botocore.crt.auth
import pytest
from botocore.stub import Stubber

import getm
from getm import errors
from getm.clouds.aws import S3Clients
from getm.resolve import s3
from getm.testing import FaultServer, Reply, Request
from tests.support.command import failure as told_by
from tests.support.command import getm as run_getm
from tests.support.s3_server import S3Server
from tests.support.signing import cut

MIB = 1024 * 1024
BODY = random.Random(3).randbytes(MIB)
LARGE = random.Random(4).randbytes(11 * MIB)
ODD_KEY = "a b/ü?x#y+z%20&=.bam"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("moto")) as server:
        server.put("reads.bam", BODY, ChecksumAlgorithm="SHA256")
        server.put(ODD_KEY, BODY)
        server.put("public", BODY, ACL="public-read")
        server.upload("large", LARGE, 5 * MIB)
        yield server


@pytest.fixture(autouse=True)
def _configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own account, and secrets that tests look for."""
    monkeypatch.setattr(s3, "_clients", S3Clients())
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SECRETID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def endpoint(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
    return server.endpoint


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=getm.Retries(3, base_s=0.001, cap_s=0.01))


def query(resource: getm.Resource) -> dict[str, list[str]]:
    return parse_qs(urlsplit(resource.url).query)


# Objects ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4, None, "auto"])
def test_objects(endpoint: str, session: getm.Session, concurrency: int | None) -> None:
    for key, body, source in (
        ("reads.bam", BODY, "x-amz-checksum-sha256" if concurrency != 4 else "ETag"),
        (ODD_KEY, BODY, "ETag"),
        ("large", LARGE, "ETag"),
    ):
        with session.urlopen(f"s3://bucket/{key}", concurrency=concurrency, strict=True) as fh:
            assert fh.read() == body
            assert fh.checksum.source == source


def test_the_command_and_lists(endpoint: str, tmp_path: Path) -> None:
    run = run_getm("s3://bucket/reads.bam", "-vv", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    # What botocore logs may have signatures.
    assert b"getm" in run.stdout and b"botocore" not in run.stdout
    assert (tmp_path / "reads.bam").read_bytes() == BODY
    # With a size, it is no pattern.
    odd = {"url": f"s3://bucket/{ODD_KEY}", "filepath": "odd", "size": len(BODY)}
    rows = [{"url": "s3://bucket/large", "filepath": "a/large"}, odd]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    run = run_getm("-m", "list.json", "-vv", "--json", "--receipt", "receipt", cwd=tmp_path)
    assert (tmp_path / "a" / "large").read_bytes() == LARGE and (tmp_path / "odd").read_bytes() == BODY
    receipt = (tmp_path / "receipt").read_text()
    assert "s3://bucket/large" in receipt and "SECRET" not in receipt


def test_a_program_that_only_knows_urls(endpoint: str, tmp_path: Path) -> None:
    run = run_getm("run", "--", "curl", "-sS", "s3://bucket/reads.bam", f"s3://bucket/{ODD_KEY}", cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, BODY + BODY, b"")


def test_from_one_key_to_another(endpoint: str, server: S3Server, tmp_path: Path) -> None:
    run = run_getm("s3://bucket/reads.bam", "s3://bucket/copy", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    run = run_getm("s3://bucket/copy", "s3://bucket/reads.bam", "-d", "both", cwd=tmp_path)
    assert run.returncode == 0
    assert (tmp_path / "both" / "copy").read_bytes() == BODY == (tmp_path / "both" / "reads.bam").read_bytes()


def test_what_is_not_there(endpoint: str, session: getm.Session, tmp_path: Path) -> None:
    with pytest.raises(errors.HTTPStatusError, match=r"404 (?i:not found): NoSuchKey") as caught:
        session.read("s3://bucket/missing")
    assert "SECRET" not in str(caught.value)
    for name in ("s3://bucket", "s3://bucket/", "s3:///key", "s3:bucket/key"):
        with pytest.raises(errors.InvalidInput, match="expected s3://BUCKET/KEY") as refused:
            session.read(name)
        assert refused.value.url == name
    assert run_getm("s3:///key", "-d", "out", cwd=tmp_path).returncode == 2
    with pytest.raises(errors.ResolveFailed, match="expected s3://BUCKET/KEY"):
        session.read(partial(s3.resolve, "s3://bucket"))


def test_a_signature_that_expires(
    session: getm.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Signatures tell seconds: the clock by which they are made goes on by one each time."""
    now = datetime.datetime.now(datetime.UTC)

    def tick(remove_tzinfo: bool = True) -> datetime.datetime:
        nonlocal now
        now += datetime.timedelta(seconds=1)
        return now.replace(tzinfo=None) if remove_tzinfo else now

    for module in (botocore.auth, botocore.crt.auth):
        monkeypatch.setattr(module, "get_current_datetime", tick)
    signatures: dict[bytes, int] = {}
    broken = cut(LARGE, 2 * MIB)

    def reply(request: Request) -> Reply:
        signature = request.target.partition(b"X-Amz-Signature=")[2]
        signatures[signature] = signatures.get(signature, 0) + 1
        expired = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
        refusal = Reply(status=403, body=expired, etag=None, last_modified=None)
        return broken(request) if signatures[signature] <= 2 else refusal

    fault_server.serve("/bucket/key", reply)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fault_server.url("").rstrip("/"))
    assert session.read("s3://bucket/key") == LARGE
    session.download("s3://bucket/key", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == LARGE
    assert len(signatures) >= 6


# How it is signed ---------------------------------------------------------------------------------------------------


def test_versions_and_who_pays(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = s3.resolve("s3://bucket/a?b?versionId=v1")
    assert urlsplit(resource.url).path == "/bucket/a%3Fb" and query(resource)["versionId"] == ["v1"]
    assert not resource.headers
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    for paid in (s3.resolve("s3://bucket/key"), s3.resolve("s3://bucket/key", requester_pays=True)):
        assert dict(paid.headers) == {"x-amz-request-payer": "requester"}
        assert "x-amz-request-payer" in query(paid)["X-Amz-SignedHeaders"][0]
    assert not s3.resolve("s3://bucket/key", requester_pays=False).headers


def test_anonymous(endpoint: str, session: getm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = f"{endpoint}/bucket/reads.bam"
    assert s3.resolve("s3://bucket/reads.bam", anonymous=True).url == plain
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    assert s3.resolve("s3://bucket/reads.bam").url == plain
    monkeypatch.delenv("AWS_NO_SIGN_REQUEST")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert s3.resolve("s3://bucket/reads.bam").url == plain
    assert session.read("s3://bucket/public") == BODY


def test_profiles(server: S3Server, session: getm.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "AWS_CONFIG_FILE").write_text(
        f"[profile lab]\nregion = eu-central-1\naws_access_key_id = LAB\naws_secret_access_key = SECRET\n"
        f"services = here\n[services here]\ns3 =\n  endpoint_url = {server.endpoint}\n"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    resource = s3.resolve("s3://bucket/reads.bam", profile="lab")
    assert resource.url.startswith(server.endpoint)
    assert query(resource)["X-Amz-Credential"][0].startswith("LAB/")
    assert query(resource)["X-Amz-Credential"][0].endswith("/eu-central-1/s3/aws4_request")
    assert session.read(partial(s3.resolve, "s3://bucket/reads.bam", profile="lab")) == BODY
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert session.read("s3://bucket/reads.bam") == BODY
    with pytest.raises(errors.ResolveFailed, match="ProfileNotFound"):
        session.read(partial(s3.resolve, "s3://bucket/reads.bam", profile="none"))


@pytest.mark.parametrize(("bucket", "host"), [("bucket", "bucket.s3.eu-west-1"), ("a.bucket", "s3.eu-west-1")])
def test_a_bucket_in_another_region(bucket: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stubber = Stubber(s3._clients._client(None, None, False, None))
    headers = {"HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}}
    stubber.add_client_error("head_bucket", "301", http_status_code=301, response_meta=headers)
    with stubber:
        for _ in range(2):
            resource = s3.resolve(f"s3://{bucket}/key")
    # Asked once.
    stubber.assert_no_pending_responses()
    assert urlsplit(resource.url).hostname == f"{host}.amazonaws.com"
    assert query(resource)["X-Amz-Credential"][0].endswith("/eu-west-1/s3/aws4_request")


def test_an_access_point() -> None:
    resource = s3.resolve("s3://arn:aws:s3:us-west-2:123456789012:accesspoint/point/a/b")
    parts = urlsplit(resource.url)
    assert parts.hostname == "point-123456789012.s3-accesspoint.us-west-2.amazonaws.com" and parts.path == "/a/b"


# What is missing ----------------------------------------------------------------------------------------------------


def test_without_the_extra(session: getm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(errors.MissingExtra, match=r's3:// needs botocore: pip install "getm\[s3\]"'):
        session.read("s3://bucket/key")


def test_a_url_command_comes_before_it(server: S3Server, tmp_path: Path) -> None:
    command = tmp_path / "sign"
    command.write_text(f"#!/bin/sh\necho {server.endpoint}/${{1#s3://}}\n")
    command.chmod(0o755)
    run = run_getm("s3://bucket/public", "--url-command", command, cwd=tmp_path)
    assert run.returncode == 0 and (tmp_path / "public").read_bytes() == BODY
    command.write_text("#!/bin/sh\nexit 1\n")
    run = run_getm("s3://bucket/reads.bam", "x", "--url-command", command, cwd=tmp_path)
    assert run.returncode == 4 and told_by(run)["url"] == "s3://bucket/reads.bam"
