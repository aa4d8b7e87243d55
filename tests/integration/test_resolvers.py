"""Names: the resolver that docs/how-to/names.md has as its example, installed as its package would be."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest

import getm
from getm import errors
from getm.resolve import names
from getm.testing import FaultServer, Reply, Request, failure
from tests.support.command import getm as run_getm
from tests.support.command import refused
from tests.support.documentation import files_of
from tests.support.signing import SignedObject, cut

BODY = hashlib.shake_256(b"resolvers").digest(2_000_000)
NAME = "lims://S1/reads.bam"
DOCUMENTED = files_of("how-to/names.md")


def install(folder: Path, pyproject: str, **modules: str) -> None:
    """What an installer makes of a package: its modules, and its metadata with the entry points."""
    project = tomllib.loads(pyproject)["project"]
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code)
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def packages(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which packages are installed, for this process and those that it starts."""
    folder = tmp_path_factory.mktemp("packages")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    names._entry_for.cache_clear()
    yield folder
    names._entry_for.cache_clear()
    sys.modules.pop("getm_lims", None)


@pytest.fixture
def lims(packages: Path, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> SignedObject:
    """The documented package, and what it asks; its signatures are good for two requests."""
    install(packages, DOCUMENTED["pyproject.toml"], getm_lims=DOCUMENTED["getm_lims.py"])
    signed = SignedObject(fault_server, cut(BODY, 300_000), uses=2)

    def describe(request: Request) -> Reply:
        if request.header("Authorization") != "Bearer SECRET":
            return failure(401)
        file = {
            "signed_url": signed.sign(),
            "size": len(BODY),
            "md5": hashlib.md5(BODY).hexdigest(),
            "expires_at": time.time() + 3600,
        }
        return Reply(body=json.dumps(file).encode())

    fault_server.serve("/files/S1/reads.bam", describe)
    monkeypatch.setenv("LIMS_URL", fault_server.url("").rstrip("/"))
    monkeypatch.setenv("LIMS_TOKEN", "SECRET")
    return signed


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=getm.Retries(3, base_s=0.001, cap_s=0.01))


def test_its_files_are_listed(
    lims: SignedObject, fault_server: FaultServer, session: getm.Session, tmp_path: Path
) -> None:
    """The documented lister knows no folders and no prefixes below a sample: getm does."""

    def page(*names: str, following: str | None = None) -> Callable[[Request], Reply]:
        facts = {"size": len(BODY), "md5": hashlib.md5(BODY).hexdigest()}
        listed = {"files": [{"path": name, **facts} for name in names], "next": following}

        def answer(request: Request) -> Reply:
            return Reply(body=json.dumps(listed).encode()) if request.header("Authorization") else failure(401)

        return answer

    second = fault_server.serve("/second", page("qc/a.txt", "reads.bam"))
    fault_server.serve("/samples/S1", page("qc/b.txt", following=second))
    assert [each.name for each in session.list_objects("lims://S1/")] == ["lims://S1/qc/", NAME]
    assert [each.name for each in session.list_objects("lims://S1/r*")] == [NAME]
    (listed,) = session.list_objects("lims://S1/re*", recursive=True)
    assert listed.size == len(BODY) and listed.texts() == (f"md5:{hashlib.md5(BODY).hexdigest()}",)
    (result,) = session.download_all(["lims://S1/*.bam"], directory=tmp_path)
    assert isinstance(result, getm.DownloadResult) and result.path == tmp_path / "reads.bam" and result.verified
    # Another one has none.
    with pytest.raises(errors.ResolveFailed, match="cannot be listed: JSONDecodeError"):
        fault_server.serve("/samples/S2", Reply(body=b"no JSON"))
        list(session.list_objects("lims://S2/"))


def test_a_stream_of_a_name(lims: SignedObject, session: getm.Session) -> None:
    with session.urlopen(NAME, concurrency=4) as fh:
        assert fh.read() == BODY
        assert fh.checksum.verified and str(fh.checksum.checksum).startswith("md5:")
    assert lims.one_for_each_expiry and len(lims.used) > 2


def test_a_file_gets_its_name_from_the_name(lims: SignedObject, session: getm.Session, tmp_path: Path) -> None:
    result = session.download(NAME, tmp_path)
    assert result.path == tmp_path / "reads.bam" and result.path.read_bytes() == BODY
    assert result.url == NAME and result.verified
    (listed,) = session.download_all([getm.Entry(NAME)], directory=tmp_path / "list")
    assert isinstance(listed, getm.DownloadResult) and listed.path == tmp_path / "list" / "reads.bam"


def test_the_command_and_lists(lims: SignedObject, tmp_path: Path) -> None:
    run = run_getm(NAME, "--retries=3", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "reads.bam").read_bytes() == BODY
    (tmp_path / "list.json").write_text(json.dumps([{"url": NAME, "filepath": "from-json"}]))
    (tmp_path / "list.txt").write_text(f"{NAME}\n")
    for given in (["-m", "list.json", "--json"], ["-i", "list.txt", "-d", "from-text"]):
        run = run_getm(*given, "--receipt", "receipt.jsonl", cwd=tmp_path)
        assert (run.returncode, run.stderr) == (0, b"")
        assert b"SECRET" not in run.stdout
    assert (tmp_path / "from-json").read_bytes() == (tmp_path / "from-text" / "reads.bam").read_bytes() == BODY
    receipt = (tmp_path / "receipt.jsonl").read_text()
    assert NAME in receipt and "SECRET" not in receipt


def test_a_resolver_that_fails(lims: SignedObject, session: getm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        errors.ResolveFailed, match="no URL could be had from lims://S1/missing: HTTPError: HTTP Error"
    ) as caught:
        session.read("lims://S1/missing?SECRET")
    assert isinstance(caught.value.__cause__, HTTPError)
    caught.value.__cause__.close()
    monkeypatch.delenv("LIMS_TOKEN")
    with pytest.raises(errors.ResolveFailed, match="KeyError: 'LIMS_TOKEN'") as caught:
        session.read(NAME)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_resolver_that_cannot_be_imported(packages: Path, session: getm.Session) -> None:
    install(packages, DOCUMENTED["pyproject.toml"], getm_lims="import no_such_package\n")
    with pytest.raises(errors.ResolveFailed, match="No module named 'no_such_package'"):
        session.read(NAME)


def test_the_list_of_schemes(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(packages, DOCUMENTED["pyproject.toml"], getm_lims=DOCUMENTED["getm_lims.py"])
    lines = refused("sources", cwd=packages).stdout.decode().splitlines()
    assert lines[0] == "https://  URLs" and lines[-1] == (
        "lims://   Files of the LIMS at LIMS_URL, for the token in LIMS_TOKEN. (getm-lims 1.0)"
    )
    (packages / "getm_lims.py").write_text("import no_such_package\n")
    monkeypatch.delitem(sys.modules, "getm_lims")
    monkeypatch.setattr(names, "find_spec", lambda name: None)
    facts = [json.loads(line) for line in refused("sources", "--json", cwd=packages).stdout.splitlines()]
    needs = {fact["scheme"]: fact["needs"] for fact in facts}
    available = {fact["scheme"]: fact["available"] for fact in facts}
    assert needs["gs"] == 'what is not public needs google-auth: pip install "getm[gs]"'
    assert needs["abfss"] == 'what is not public needs azure-identity: pip install "getm[az]"'
    assert available["gs"] and available["az"] and not available["s3"] and not available["lims"]
    lists = {fact["scheme"]: fact["lists"] for fact in facts}
    assert lists["s3"] and lists["https"] and lists["lims"]
    assert needs["s3"] == 'it needs botocore: pip install "getm[s3]"' and needs["hf"] is None
    assert needs["lims"] == "it cannot be imported (ModuleNotFoundError: No module named 'no_such_package')"


def test_a_scheme_without_a_resolver(packages: Path, session: getm.Session) -> None:
    for call in (lambda: session.read("nothere://x/y"), lambda: getm.Entry("nothere://x/y")):
        with pytest.raises(errors.InvalidInput, match="for which no resolver is installed"):
            call()


def test_a_mirror_is_a_url(lims: SignedObject) -> None:
    with pytest.raises(errors.InvalidInput, match="scheme 'lims'"):
        getm.Entry(["https://host/x", NAME])
    assert urlsplit(getm.Entry([NAME, "https://host/x"]).urls[0]).scheme == "lims"
