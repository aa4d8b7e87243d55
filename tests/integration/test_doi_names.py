"""doi: names, at a registry and at repositories of ours that answer like doi.org, Zenodo, figshare and Dataverse."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.resolve import doi
from getm.testing import Reply, failure
from tests.support import deposits
from tests.support.certificates import Authority
from tests.support.command import getm as run_getm
from tests.support.named_hosts import NamedHosts, named_hosts

DATA = b"1 2 3\n" * 50_000
FILES = {"data.csv": DATA, "a b.txt": b"text"}


@pytest.fixture(scope="module")
def socket_path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield f"{folder}/s"


@pytest.fixture
def hosts(authority: Authority, socket_path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[NamedHosts]:
    monkeypatch.setattr(doi, "_deposits", {})
    with named_hosts(authority, socket_path, *deposits.HOSTS, "pages.test") as hosts:
        yield hosts


@pytest.fixture
def session(hosts: NamedHosts, shared_session: Callable[..., getm.Session]) -> getm.Session:
    retries = getm.Retries(3, base_s=0.001, cap_s=0.01)
    return shared_session(**hosts.session, retries=retries, headers={"X-Mine": "of the session"})


@pytest.mark.parametrize("form", ["usual", "2023"])
def test_zenodo(form: str, hosts: NamedHosts, session: getm.Session) -> None:
    name = deposits.zenodo(hosts, 123, FILES, form=form)
    with session.urlopen(f"doi:{name}/data.csv", strict=True) as fh:
        assert fh.read() == DATA and fh.checksum.checksum is not None
        assert fh.checksum.checksum.algorithm == "md5"
    assert bytes(session.read(f"DOI:{name.upper()}/a b.txt", strict=True)) == b"text"
    # Asked once, and nobody was sent what is the session's.
    assert len(hosts.requests("doi.org")) == 1
    assert {request.header("X-Mine") for request in hosts.server.requests} == {None}


def test_figshare(hosts: NamedHosts, session: getm.Session) -> None:
    name = deposits.figshare(hosts, 77, FILES)
    assert session.read(f"doi:{name}/data.csv", strict=True) == DATA
    many = {f"{number}.txt": b"%d" % number for number in range(1001)}
    name = deposits.figshare(hosts, 78, many)
    assert bytes(session.read(f"doi:{name}/1000.txt", strict=True)) == b"1000"
    # Of an earlier version there is no list of all files.
    name = deposits.figshare(hosts, 79, many, version=2, last=3)
    with pytest.raises(errors.ResolveFailed, match="figshare names 10 files of an earlier version"):
        session.read(f"doi:{name}/1.txt")
    name = deposits.figshare(hosts, 80, FILES, version=2, last=3)
    assert session.read(f"doi:{name}/data.csv", strict=True) == DATA


def test_dataverse(hosts: NamedHosts, session: getm.Session) -> None:
    """Its DOIs have a slash; files are in folders; a table is the file that was deposited, which has a checksum."""
    files = {"in/data.bin": DATA, "table.tab": b"1\t2\n"}
    name = deposits.dataverse(hosts, files, tables={"table.tab": ("table.csv", b"1,2\n")})
    assert name.count("/") == 2
    assert session.read(f"doi:{name}/in/data.bin", strict=True) == DATA
    assert bytes(session.read(f"doi:{name}/table.csv", strict=True)) == b"1,2\n"


def test_a_deposit_of_one_file_and_of_several(hosts: NamedHosts, session: getm.Session) -> None:
    one, two = deposits.zenodo(hosts, 1, {"x": b"x"}), deposits.zenodo(hosts, 2, FILES)
    assert bytes(session.read(f"doi:{one}")) == b"x"
    with pytest.raises(errors.InvalidInput, match=rf"it has 2 files; for all of them: doi:{two}/"):
        session.read(f"doi:{two}")
    with pytest.raises(errors.InvalidInput, match=r"has no file 'c'; it has data\.csv, a b\.txt"):
        session.read(f"doi:{two}/c")


@pytest.mark.parametrize("given", ["{}", "{}/", "{}/*"])
def test_all_of_a_deposit(given: str, hosts: NamedHosts, session: getm.Session, tmp_path: Path) -> None:
    name = f"doi:{deposits.zenodo(hosts, 2, FILES)}"
    listed = list(session.list_objects(given.format(name)))
    assert [each.name for each in listed] == [f"{name}/data.csv", f"{name}/a b.txt"]
    assert [each.size for each in listed] == [len(DATA), 4] and all(each.checksums for each in listed)
    list(session.download_all([given.format(name)], directory=tmp_path, strict=True))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == FILES
    # Nobody is sent what is the session's.
    assert {request.header("X-Mine") for request in hosts.server.requests} == {None}


def test_some_of_a_deposit(hosts: NamedHosts, tmp_path: Path) -> None:
    name = f"doi:{deposits.dataverse(hosts, {'in/x.bin': DATA, 'in/y.txt': b'y', 'z.txt': b'z'})}"
    run = run_getm("ls", f"{name}/", "-r", "-l", *hosts.options, cwd=tmp_path)
    assert run.returncode == 0 and run.stdout.decode().split()[2::3] == [
        f"{name}/{path}" for path in ("in/x.bin", "in/y.txt", "z.txt")
    ]
    run = run_getm(f"{name}/**/*.txt", "-d", "out", *hosts.options, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.txt")) == [
        "in/y.txt",
        "z.txt",
    ]
    one = f"doi:{deposits.zenodo(hosts, 4, {'x': b'x'})}"
    assert run_getm(one, "file", "--no-glob", *hosts.options, cwd=tmp_path).returncode == 0
    assert (tmp_path / "file").read_bytes() == b"x"


def test_what_cannot_be_had(hosts: NamedHosts, session: getm.Session) -> None:
    with pytest.raises(errors.InvalidInput, match=r"there is no DOI 10\.5281/zenodo\.9/x, nor one that begins it"):
        session.read("doi:10.5281/zenodo.9/x")
    deposits.register(hosts, "10.1/page", "https://pages.test/page")
    with pytest.raises(errors.InvalidInput, match=r"leads to pages\.test, which is neither Zenodo nor figshare"):
        session.read("doi:10.1/page")
    deposits.register(hosts, "10.5281/zenodo.7", "https://zenodo.org/records/7")
    hosts.server.serve("/api/records/7", failure(403))
    with pytest.raises(errors.ResolveFailed, match=r"403 Forbidden.*zenodo\.org/api/records/7"):
        session.read("doi:10.5281/zenodo.7/x")
    hosts.server.serve("/api/records/7", Reply(body=b"<html>"))
    with pytest.raises(errors.ResolveFailed, match="not what was expected"):
        session.read("doi:10.5281/zenodo.7/x")
    hosts.serve_json("/api/records/7", {"id": 7, "files": [{"key": "x", "checksum": "md5:0", "links": {}}]})
    with pytest.raises(errors.ResolveFailed, match="malformed checksum"):
        session.read("doi:10.5281/zenodo.7/x")
    hosts.serve_json("/api/records/7", {"id": 7, "files": [{"key": "x", "links": {"self": "file:///etc/passwd"}}]})
    with pytest.raises(errors.ResolveFailed, match="no URL that can be used"):
        session.read("doi:10.5281/zenodo.7/x")
    name = deposits.zenodo(hosts, 8, {"x": b"x"})
    hosts.server.serve("/api/records/8/files/x/content", Reply(body=b"y"))
    with pytest.raises(errors.ChecksumMismatch):
        session.read(f"doi:{name}")


@pytest.mark.parametrize("name", ["doi:", "doi:10.5281", "doi:10.5281/", "doi:11.1/x", "doi:/10.1/x", "doi:10.1//x"])
def test_names_that_are_none(name: str, session: getm.Session) -> None:
    with pytest.raises(errors.InvalidInput, match="expected doi:10"):
        session.read(name)


def test_the_command_and_lists(hosts: NamedHosts, tmp_path: Path) -> None:
    name = deposits.zenodo(hosts, 123, FILES)
    (tmp_path / "list").write_text(f"doi:{name}/data.csv\n# comment\ndoi:{name}/a b.txt\n")
    (tmp_path / "list.json").write_text(f'[{{"url": "doi:{name}/data.csv", "filepath": "x"}}]')
    arguments: list[list[str]] = [
        [f"doi:{name}/data.csv"],
        ["-i", "list", "-d", "of-list"],
        ["-m", "list.json", "-d", "of-json"],
    ]
    for each in arguments:
        run = run_getm(*each, "--strict", "--receipt", "receipt", *hosts.options, cwd=tmp_path)
        assert (run.returncode, run.stderr) == (0, b"")
    for path in ("data.csv", "of-list/data.csv", "of-json/x"):
        assert (tmp_path / path).read_bytes() == DATA
    assert (tmp_path / "of-list" / "a b.txt").read_bytes() == b"text"
    assert f'"doi:{name}/data.csv"' in (tmp_path / "receipt").read_text()
    assert run_getm("doi:10.1", *hosts.options, cwd=tmp_path).returncode == 2
