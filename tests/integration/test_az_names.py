"""az:// names: signatures by an account's key, tokens of a managed identity, objects from a server that answers like
Azure Blob Storage."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from azure.storage.blob import generate_container_sas

import getm
from getm import errors
from getm.clouds import azure
from getm.resolve import az
from getm.testing import FaultServer, Reply
from tests.support.azure_storage import ACCOUNT, CONTAINER, KEY, AzureStorage
from tests.support.command import getm as run_getm
from tests.support.command import refused
from tests.support.identity import IdentityServer

BODY = random.Random(6).randbytes(3_000_000)
ODD_BLOB = "a b/ü?x#y+z%20&=.bam"
HOST = f"{ACCOUNT}.blob.core.windows.net"
NO_CREDENTIALS = r"none of Azure's were found: run az login"


@pytest.fixture(scope="module")
def identity() -> Iterator[IdentityServer]:
    with IdentityServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own account, and no tools of Azure's that could have one."""
    monkeypatch.setattr(azure, "_tokens", {})
    for name in ("CONNECTION_STRING", "ACCOUNT", "ACCOUNT_NAME", "KEY", "ACCOUNT_KEY", "SAS_TOKEN", "ANON"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


@pytest.fixture
def storage(fault_server: FaultServer, identity: IdentityServer, monkeypatch: pytest.MonkeyPatch) -> AzureStorage:
    storage = AzureStorage(fault_server, identity)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_SERVICE_ENDPOINT", f"{storage.endpoint}/")
    return storage


@pytest.fixture
def logged_in(identity: IdentityServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an App Service, which has an identity."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://{identity.place}/msi")
    monkeypatch.setenv("IDENTITY_HEADER", "SECRET-header")


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=getm.Retries(3, base_s=0.001, cap_s=0.01))


# Objects ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4, None, "auto"])
def test_tokens_that_expire(
    concurrency: int | None, storage: AzureStorage, logged_in: None, session: getm.Session
) -> None:
    """Each is good for two answers, which break off: the transfer goes on with the next one where it was."""
    storage.uses, storage.cut_at = 2, 400_000
    with session.urlopen(storage.put(ODD_BLOB, BODY), concurrency=concurrency, strict=True) as fh:
        assert fh.read() == BODY
        assert fh.checksum.source in ("Content-MD5", "x-ms-blob-content-md5")
    assert len(storage.used) >= 3


def test_signatures_that_expire(
    storage: AzureStorage, session: getm.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Signatures tell seconds: the clock by which they are made goes on by one each time."""
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    storage.uses, storage.cut_at = 2, 400_000
    now = datetime.now(UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # for one time zone
            nonlocal now
            now += timedelta(seconds=1)
            return now

    monkeypatch.setattr(azure, "datetime", Clock)
    assert session.read(storage.put(ODD_BLOB, BODY)) == BODY
    session.download(storage.put("reads.bam", BODY), tmp_path / "x", strict=True)
    assert (tmp_path / "x").read_bytes() == BODY
    assert len(storage.used) >= 6


def test_one_token_for_many_objects(
    storage: AzureStorage,
    logged_in: None,
    identity: IdentityServer,
    session: getm.Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identity, "lifetime_s", 3600)
    entries = [getm.Entry(storage.put(f"{number}.bam", BODY[:1000])) for number in range(20)]
    assert len(list(session.download_all(entries, directory=tmp_path))) == 20
    assert len(storage.used) == 1


@pytest.mark.parametrize("form", ["key", "signature"])
def test_connection_strings(
    form: str, storage: AzureStorage, session: getm.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = storage.connection_string
    if form == "signature":
        text = f"BlobEndpoint={storage.endpoint};SharedAccessSignature={signature('rl')}"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    name = storage.put(ODD_BLOB, BODY)
    assert session.read(name) == BODY
    assert not session.read(f"{name}?versionid=2025-01-01T00:00:00.0000000Z")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "SECRET")
    with pytest.raises(errors.InvalidInput, match=r"AZURE_STORAGE_CONNECTION_STRING: .* malformed") as caught:
        session.read(name)
    assert "SECRET" not in str(caught.value)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=lab;AccountKey=SECRET!")
    with pytest.raises(errors.InvalidInput, match="is not base64"):
        session.read(name)


def test_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "UseDevelopmentStorage=true")
    assert az.resolve("az://container/x").url.startswith("http://127.0.0.1:10000/devstoreaccount1/container/x?")


def test_the_command(storage: AzureStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", f"?{signature('r')}")
    name = storage.put("in/reads.bam", BODY)
    run = run_getm(name, "--strict", "-vv", "--receipt", "receipt", cwd=tmp_path)
    assert run.returncode == 0 and (tmp_path / "reads.bam").read_bytes() == BODY
    receipt = (tmp_path / "receipt").read_text()
    assert name in receipt and "sig=" not in receipt and "sig=" not in run.stdout.decode()
    run = refused(f"az://{CONTAINER}/other", cwd=tmp_path)
    assert run.returncode == 8 and b"404" in run.stderr


# Who asks -------------------------------------------------------------------------------------------------------------


def test_public_objects(storage: AzureStorage, session: getm.Session) -> None:
    """With the version, by which there are ranges, and an ETag that pins them."""
    storage.cut_at = 2_000_000
    assert session.read(storage.put("public", BODY, public=True)) == BODY
    storage.cut_at = None
    with pytest.raises(errors.HTTPStatusError, match=f"401 .*NoAuthenticationInformation.*{NO_CREDENTIALS}"):
        session.read(storage.put("private", BODY))


def test_a_plain_url_of_a_public_blob(storage: AzureStorage, fault_server: FaultServer) -> None:
    storage.put("public", BODY, public=True)
    path, port = f"/{ACCOUNT}/{CONTAINER}/public", urlsplit(fault_server.url("")).port
    with getm.Session(resolve={f"{HOST}:{port}": "127.0.0.1"}) as session:
        assert session.info(f"http://{HOST}:{port}{path}").etag == '"0x8D0001"'
        assert session.info(fault_server.url(path)).etag == "0x8D0001"


def test_without_the_extra(storage: AzureStorage, session: getm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    monkeypatch.setitem(sys.modules, "azure.storage.blob", None)
    assert session.read(storage.put("public", BODY, public=True)) == BODY
    with pytest.raises(errors.HTTPStatusError, match=r'401 .*need azure-identity: pip install "getm\[az\]"'):
        session.read(storage.put("private", BODY))
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    with pytest.raises(errors.MissingExtra, match=r'an account\'s key.*azure-storage-blob: pip install "getm\[az\]"'):
        session.read("az://container/private")


def test_no_credentials_where_none_are_wanted(
    storage: AzureStorage, logged_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Authorization" in dict(az.resolve("az://container/x").headers)
    assert set(dict(az.resolve("az://container/x", anonymous=True).headers)) == {"x-ms-version"}
    monkeypatch.setenv("AZURE_STORAGE_ANON", "true")
    assert set(dict(az.resolve("az://container/x").headers)) == {"x-ms-version"}
    assert "Authorization" in dict(az.resolve("az://container/x", anonymous=False).headers)


def test_credentials_that_fail(
    storage: AzureStorage, logged_in: None, session: getm.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "SECRET-other")
    with pytest.raises(errors.ResolveFailed, match=r"ClientAuthenticationError: .*Credential") as caught:
        session.read(storage.put("public", BODY, public=True))
    assert "SECRET" not in str(caught.value)


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "url"),
    [
        (f"az://c@{HOST}/x//y z", f"https://{HOST}/c/x//y%20z"),
        (f"abfss://c@{ACCOUNT}.dfs.core.windows.net/x", f"https://{HOST}/c/x"),
        (f"ABFS://c@{ACCOUNT}.z01.dfs.storage.azure.net/x", f"https://{ACCOUNT}.z01.blob.storage.azure.net/c/x"),
        (
            f"az://$root@{HOST}/x?snapshot=2025-01-01T00:00:00.0Z",
            f"https://{HOST}/$root/x?snapshot=2025-01-01T00:00:00.0Z",
        ),
        (
            f"https://{HOST}/c/x%20y?versionid=2025-01-01T00%3A00%3A00Z",
            f"https://{HOST}/c/x%20y?versionid=2025-01-01T00:00:00Z",
        ),
    ],
)
def test_urls(name: str, url: str) -> None:
    assert az.resolve(name, anonymous=True).url == url


def test_keys_and_signatures_are_for_one_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", signature("r"))
    assert "sig=" in az.resolve(f"az://c@{HOST}/x").url
    assert "sig=" not in az.resolve("az://c@other.blob.core.windows.net/x").url


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("az://container", "expected az://CONTAINER/BLOB"),
        ("az://container/", "expected az://CONTAINER/BLOB"),
        ("az:///x", "expected az://CONTAINER/BLOB"),
        ("az://container/x", "the name has no account: set AZURE_STORAGE_ACCOUNT"),
        ("az://c@data.example.org/x", "data.example.org is no host of Azure Storage"),
        ("abfss://c@labaccount.dfs.core.windows.net.example.org/x", "is no host of Azure Storage"),
    ],
)
def test_what_is_no_name(name: str, message: str, session: getm.Session) -> None:
    with pytest.raises(errors.InvalidInput, match=message):
        session.read(name)


# Listing --------------------------------------------------------------------------------------------------------------

BLOBS = ("reads/1.cram", "reads/2.cram", "reads/HLA[1].cram", f"reads/{ODD_BLOB}<", "reads/qc/1.txt", "top")


@pytest.fixture
def listed(storage: AzureStorage) -> AzureStorage:
    for blob in BLOBS:
        storage.put(blob, blob.encode())
    storage.put("folder", b"")
    return storage


def names(session: getm.Session, name: str, recursive: bool = False) -> list[str]:
    return [each.name.removeprefix("az://container/") for each in session.list_objects(name, recursive=recursive)]


def test_what_a_container_has(listed: AzureStorage, logged_in: None, session: getm.Session) -> None:
    assert names(session, "az://container") == ["reads/", "top"]
    assert names(session, "az://container/reads/*.cram") == ["reads/1.cram", "reads/2.cram", "reads/HLA[1].cram"]
    assert names(session, "az://container/reads/none/") == []
    (each,) = session.list_objects("az://container/reads/1.cram")
    assert (each.size, each.source, each.version) == (12, "az://container/reads/1.cram", "0x8D0001") and each.modified
    assert each.texts()[0].startswith("md5:")


def test_pages_whose_token_expires(listed: AzureStorage, logged_in: None, session: getm.Session) -> None:
    listed.most_listed, listed.uses = 1, 1
    assert sorted(names(session, "az://container/", recursive=True)) == sorted(BLOBS)
    assert len(listed.used) == len(BLOBS) + 1


def test_a_prefix_is_downloaded(listed: AzureStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    run = refused("az://container/reads/", "-d", "out", "--strict", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {blob.removeprefix("reads/") for blob in BLOBS if blob.startswith("reads/")}
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    run = refused("ls", "az://container/reads", cwd=tmp_path)
    assert run.returncode == 8 and "none of Azure's were found" in run.stderr.decode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<EnumerationResults><NextMarker>again</NextMarker></EnumerationResults>", "does not end"),
        (b"<EnumerationResults>", "expected a listing of blobs in XML"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><EnumerationResults/>', "a document type declaration"),
    ],
)
def test_what_is_no_listing(
    content: bytes, message: str, storage: AzureStorage, fault_server: FaultServer, session: getm.Session
) -> None:
    fault_server.serve(f"/{ACCOUNT}/{CONTAINER}", Reply(body=content))
    with pytest.raises(errors.BadResponse, match=message):
        list(session.list_objects("az://container/"))


def signature(permissions: str) -> str:
    expiry = datetime.now(UTC) + timedelta(hours=1)
    text: str = generate_container_sas(ACCOUNT, CONTAINER, account_key=KEY, permission=permissions, expiry=expiry)
    return text
