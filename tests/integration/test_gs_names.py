"""gs:// names: tokens from a token server, objects from one that answers like Google's XML API."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.clouds import google
from getm.resolve import gs
from getm.testing import FaultServer, Reply
from tests.support.command import failure as told_by
from tests.support.command import getm as run_getm
from tests.support.command import refused
from tests.support.google_storage import GoogleStorage
from tests.support.identity import IdentityServer

BODY = random.Random(5).randbytes(3_000_000)
ODD_KEY = "a b/ü?x#y+z%20&=.bam"


@pytest.fixture(scope="module")
def identity() -> Iterator[IdentityServer]:
    with IdentityServer() as server:
        yield server


@pytest.fixture(scope="module")
def account(identity: IdentityServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return identity.service_account(tmp_path_factory.mktemp("account") / "SECRET.json")


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own account."""
    monkeypatch.setattr(google, "_found", {})
    monkeypatch.setattr(google, "_absent_until_s", {})
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_QUOTA_PROJECT", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CLOUDSDK_AUTH_DISABLE_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
def storage(fault_server: FaultServer, identity: IdentityServer, monkeypatch: pytest.MonkeyPatch) -> GoogleStorage:
    storage = GoogleStorage(fault_server, identity)
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", f"{storage.endpoint}/")
    return storage


@pytest.fixture
def logged_in(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=getm.Retries(3, base_s=0.001, cap_s=0.01))


# Objects ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4, None, "auto"])
def test_tokens_that_expire(
    concurrency: int | None, storage: GoogleStorage, logged_in: None, identity: IdentityServer, session: getm.Session
) -> None:
    """Each is good for two answers, which break off: the transfer goes on with the next one where it was."""
    storage.uses, storage.cut_at = 2, 400_000
    name = storage.put(ODD_KEY, BODY)
    with session.urlopen(name, concurrency=concurrency, strict=True) as fh:
        assert fh.read() == BODY
        assert fh.checksum.source == "x-goog-hash"
    assert len(storage.used) >= 3


def test_a_token_that_expires_in_a_download(
    storage: GoogleStorage, logged_in: None, session: getm.Session, tmp_path: Path
) -> None:
    storage.uses, storage.cut_at = 2, 400_000
    session.download(storage.put("reads.bam", BODY), tmp_path / "x", strict=True)
    assert (tmp_path / "x").read_bytes() == BODY
    assert len(storage.used) >= 3


def test_one_token_for_many_objects(
    storage: GoogleStorage,
    logged_in: None,
    identity: IdentityServer,
    session: getm.Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identity, "lifetime_s", 3600)
    entries = [getm.Entry(storage.put(f"{number}.bam", BODY[:1000])) for number in range(20)]
    results = list(session.download_all(entries, directory=tmp_path))
    assert len(results) == 20 and len(storage.used) == 1


def test_the_command(storage: GoogleStorage, account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"GOOGLE_APPLICATION_CREDENTIALS": str(account)}
    name = storage.put("in/reads.bam", BODY)
    run = run_getm(name, "--strict", "-vv", "--receipt", "receipt", cwd=tmp_path, variables=variables)
    assert run.returncode == 0 and (tmp_path / "reads.bam").read_bytes() == BODY
    receipt = (tmp_path / "receipt").read_text()
    assert name in receipt and "SECRET" not in receipt
    rows = [{"url": f"{name}#2", "filepath": "a/x"}, {"url": f"{name}?generation=1"}]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
    run = refused("-m", "list.json", "-d", "out", cwd=tmp_path)
    assert run.returncode == 0 and (tmp_path / "out" / "a" / "x").read_bytes() == BODY
    assert (tmp_path / "out" / "reads.bam").read_bytes() == b""


# Who asks, and who pays -----------------------------------------------------------------------------------------------


def test_public_objects(storage: GoogleStorage, session: getm.Session) -> None:
    assert session.read(storage.put("public", BODY, public=True)) == BODY
    assert not gs.resolve("gs://bucket/public").headers
    with pytest.raises(errors.HTTPStatusError, match=r"401 .*AccessDenied.*none of Google's were found: run gcloud"):
        session.read(storage.put("private", BODY))


def test_who_logs_in_meanwhile(
    storage: GoogleStorage, account: Path, session: getm.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = storage.put("private", BODY)
    with pytest.raises(errors.HTTPStatusError, match="run gcloud auth"):
        session.read(name)
    (tmp_path / "gcloud").mkdir()
    shutil.copy(account, tmp_path / "gcloud" / "application_default_credentials.json")
    with pytest.raises(errors.HTTPStatusError, match="run gcloud auth"):
        session.read(name)
    monkeypatch.setattr(google, "_absent_until_s", {})
    assert session.read(name) == BODY


def test_without_the_extra(storage: GoogleStorage, session: getm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    assert session.read(storage.put("public", BODY, public=True)) == BODY
    with pytest.raises(errors.HTTPStatusError, match=r'401 .*need google-auth: pip install "getm\[gs\]"'):
        session.read(storage.put("private", BODY))


def test_no_token_where_none_is_wanted(
    storage: GoogleStorage, logged_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "authorization" in dict(gs.resolve("gs://bucket/key").headers)
    assert not gs.resolve("gs://bucket/key", anonymous=True).headers
    monkeypatch.setenv("CLOUDSDK_AUTH_DISABLE_CREDENTIALS", "True")
    assert not gs.resolve("gs://bucket/key").headers
    assert "authorization" in dict(gs.resolve("gs://bucket/key", anonymous=False).headers)


def test_requester_pays(
    storage: GoogleStorage, logged_in: None, session: getm.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = storage.put("paid", BODY, requester_pays=True)
    with pytest.raises(errors.HTTPStatusError, match=r"400 .*UserProjectMissing"):
        session.read(name)
    assert session.read(partial(gs.resolve, name, user_project="lab")) == BODY
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "other")
    assert session.read(name) == BODY
    assert [payer for payer in storage.payers if payer] == ["lab", "other"]


def test_the_metadata_server(storage: GoogleStorage, identity: IdentityServer, tmp_path: Path) -> None:
    """On a machine of Google's, which the library looks for when it is imported."""
    variables = {"GCE_METADATA_HOST": identity.place, "GCE_METADATA_IP": identity.place, "NO_GCE_CHECK": "false"}
    run = run_getm(storage.put("reads.bam", BODY), cwd=tmp_path, variables=variables)
    assert run.returncode == 0 and (tmp_path / "reads.bam").read_bytes() == BODY
    assert any(path.startswith("/computeMetadata/") for path, _ in identity.asked)


def test_credentials_that_are_wrong(
    storage: GoogleStorage, session: getm.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(errors.ResolveFailed, match=r"DefaultCredentialsError: .*missing\.json was not found"):
        session.read(storage.put("public", BODY, public=True))
    (tmp_path / "gcloud").mkdir()
    (tmp_path / "gcloud" / "application_default_credentials.json").write_text("{")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    with pytest.raises(errors.ResolveFailed, match="DefaultCredentialsError"):
        session.read("gs://bucket/public")


def test_a_token_that_is_refused(storage: GoogleStorage, logged_in: None, tmp_path: Path) -> None:
    storage.uses = 0
    run = refused(storage.put("x", BODY), cwd=tmp_path)
    assert run.returncode == 8 and "AuthenticationRequired" in str(told_by(run)["message"])


# Where it is asked ----------------------------------------------------------------------------------------------------


def test_urls(monkeypatch: pytest.MonkeyPatch, logged_in: None, identity: IdentityServer) -> None:
    url = gs.resolve("gs://a.bucket/x//y?z#7").url
    assert url == "https://storage.googleapis.com/a.bucket/x//y%3Fz?generation=7"
    assert gs.resolve("gs://b/x", endpoint_url="http://here:1").url == "http://here:1/b/x"
    asked = len(identity.asked)
    for host in ("localhost:9023", "http://localhost:9023/"):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
        resource = gs.resolve("gs://b/x")
        assert resource.url == "http://localhost:9023/b/x" and not resource.headers
    assert len(identity.asked) == asked


@pytest.mark.parametrize("name", ["gs://bucket", "gs://bucket/", "gs:///key", "gs:bucket/key"])
def test_what_is_no_name(name: str, session: getm.Session) -> None:
    with pytest.raises(errors.GetmError, match="expected gs://BUCKET/KEY"):
        session.read(name)


# Listing --------------------------------------------------------------------------------------------------------------

KEYS = ("reads/1.cram", "reads/2.cram", "reads/HLA[1].cram", f"reads/{ODD_KEY}", "reads/qc/1.txt", "top", "old.gz")


@pytest.fixture
def listed(storage: GoogleStorage) -> GoogleStorage:
    for key in KEYS:
        storage.put(key, key.encode())
    storage.put("reads/", b"")
    return storage


def names(session: getm.Session, name: str, recursive: bool = False) -> list[str]:
    return [each.name.removeprefix("gs://bucket/") for each in session.list_objects(name, recursive=recursive)]


def test_what_a_bucket_has(listed: GoogleStorage, logged_in: None, session: getm.Session) -> None:
    assert names(session, "gs://bucket") == ["reads/", "old.gz", "top"]
    assert names(session, "gs://bucket/reads/*.cram") == ["reads/1.cram", "reads/2.cram", "reads/HLA[1].cram"]
    assert names(session, "gs://bucket/reads/none/") == []
    first, coded = session.list_objects("gs://bucket/reads/1.cram"), session.list_objects("gs://bucket/old.gz")
    (each,) = first
    assert (each.size, each.source, each.version) == (12, "gs://bucket/reads/1.cram#2", "2") and each.modified
    assert each.texts()[0].startswith("crc32c:")
    (each,) = coded
    assert each.size is None and not each.texts()


def test_pages_whose_token_expires(listed: GoogleStorage, logged_in: None, session: getm.Session) -> None:
    listed.most_listed, listed.uses = 1, 1
    assert sorted(names(session, "gs://bucket/", recursive=True)) == sorted(KEYS)
    assert len(listed.used) == len(KEYS) + 1


def test_a_prefix_is_downloaded(
    listed: GoogleStorage, logged_in: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = refused("gs://bucket/reads/", "-d", "out", "--strict", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {key.removeprefix("reads/") for key in KEYS if key.startswith("reads/")}
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    run = refused("ls", "gs://bucket/reads", cwd=tmp_path)
    assert run.returncode == 8 and "none of Google's were found" in str(told_by(run)["message"])


def test_listings_that_do_not_end(storage: GoogleStorage, fault_server: FaultServer, session: getm.Session) -> None:
    fault_server.serve("/storage/v1/b/other/o", Reply(body=b'{"nextPageToken": "again"}'))
    with pytest.raises(errors.BadResponse, match="does not end"):
        list(session.list_objects("gs://other/"))
    fault_server.serve("/storage/v1/b/broken/o", Reply(body=b'{"items": 1}'))
    with pytest.raises(errors.ResolveFailed, match="cannot be listed"):
        list(session.list_objects("gs://broken/"))
