"""Folders of web servers, by their index pages: those of nginx, and of servers that mean harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Reply, redirect
from tests.support.command import refused
from tests.support.nginx import NginxServer

FILES = {
    "reads.bam": b"BAM\1" * 1000,
    "a b/ü.txt": b"umlaut",
    "a b/deep/er/x.txt": b"deep",
    "HLA-A*02.txt": b"star",
    "qc/1.txt": b"1",
    "qc/2.csv": b"2,2",
}


@pytest.fixture(scope="module")
def tree(nginx: NginxServer) -> Path:
    folder = nginx.objects.make(1).path.parents[1] / "listed"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(params=["html", "json"])
def root(request: pytest.FixtureRequest, nginx: NginxServer, tree: Path) -> str:
    return nginx.url(f"/index{'-json' if request.param == 'json' else ''}/listed/")


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=getm.Retries(2, base_s=0.001, cap_s=0.01))


def names(session: getm.Session, name: str, root: str, **options: Any) -> set[str]:
    found = [each.name for each in session.list_objects(name, **options)]
    assert all(each.startswith(root) for each in found) and len(set(found)) == len(found)
    return {each.removeprefix(root) for each in found}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folders(root: str, session: getm.Session) -> None:
    assert names(session, root, root) == {"reads.bam", "a%20b/", "HLA-A%2A02.txt", "qc/"}
    assert names(session, f"{root}qc", root) == names(session, f"{root}qc/", root) == {"qc/1.txt", "qc/2.csv"}
    assert names(session, root, root, recursive=True, include=["*.txt"], exclude=["er/"]) == {
        *("a%20b/%C3%BC.txt", "HLA-A%2A02.txt", "qc/1.txt"),
    }
    assert names(session, f"{root}reads.bam", root) == {"reads.bam"}
    assert names(session, f"{root}none*", root) == set()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*/*.txt", {"a%20b/%C3%BC.txt", "qc/1.txt"}),
        ("a%20b/ü*", {"a%20b/%C3%BC.txt"}),
        ("**/x.txt", {"a%20b/deep/er/x.txt"}),
        ("[qr]*", {"qc/", "reads.bam"}),
        ("HLA-A*02.txt", {"HLA-A%2A02.txt"}),
    ],
)
def test_patterns(pattern: str, found: set[str], root: str, session: getm.Session) -> None:
    assert names(session, root + pattern, root) == found


def test_a_folder_is_downloaded(root: str, tmp_path: Path) -> None:
    run = refused("-r", root, "-d", "out", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert content(tmp_path / "out") == FILES
    run = refused("-r", f"{root}a*", f"{root}q*/*.csv", "-d", "some", cwd=tmp_path)
    assert set(content(tmp_path / "some")) == {"a b/ü.txt", "a b/deep/er/x.txt", "qc/2.csv"}


def test_sizes_that_a_page_lacks_are_asked_for(fault_server: FaultServer, tmp_path: Path) -> None:
    root = fault_server.serve("/pub/", page("x.txt", "y.txt"))
    for name in ("x", "y"):
        fault_server.serve(f"/pub/{name}.txt", Reply(body=name.encode() * 10))
    run = refused("-r", root, "-d", "out", "--dry-run", cwd=tmp_path)
    lines = [line.split() for line in run.stdout.decode().splitlines()]
    assert sorted(lines[:2]) == [["10", f"out/{name}.txt", f"{root}{name}.txt"] for name in ("x", "y")]
    assert lines[2] == ["20", "bytes", "in", "2", "files"] and not (tmp_path / "out").exists()


def test_a_url_is_one_object_unless_that_is_asked_for(
    nginx: NginxServer, session: getm.Session, tmp_path: Path
) -> None:
    """Whatever it ends with, and whatever characters it has."""
    objects = nginx.objects.make(1).path.parent
    (objects / "A*02.txt").write_bytes(b"star")
    mark = nginx.log.mark()
    (result,) = session.download_all([nginx.url("/objects/A*02.txt")], directory=tmp_path)
    assert isinstance(result, getm.DownloadResult) and result.path.name == "A*02.txt"
    list(session.download_all([nginx.url("/index/objects/")], directory=tmp_path / "page"))
    assert [each.target for each in nginx.log.since(mark)] == ["/objects/A*02.txt", "/index/objects/"]
    assert b"<html>" in (tmp_path / "page" / "objects").read_bytes()
    with pytest.raises(errors.HTTPStatusError, match=r"404 Not Found; in a URL \* is a wildcard only with -r"):
        list(session.download_all([nginx.url("/objects/none*.txt")], directory=tmp_path))


# Servers that mean harm ---------------------------------------------------------------------------------------------


def page(*links: str) -> Reply:
    html = "".join(f'<a href="{link}">x</a>' for link in links)
    return Reply(body=f"<html><body>{html}</body></html>".encode(), headers={"Content-Type": "text/html"})


def test_links_lead_nowhere_else(fault_server: FaultServer, session: getm.Session) -> None:
    links = ("../", "/", "/etc/passwd", "http://other.test/pub/x", "//other.test/pub/y", "%2e%2e/z", "..%2fz", "a/b")
    root = fault_server.serve("/pub/", page(*links, "x.txt", "?C=M;O=D", "#top", "x.txt", "/pub/y.txt", "mailto:a@b"))
    assert names(session, root, root, recursive=True) == {"x.txt", "y.txt"}


@pytest.mark.parametrize("place", ["/", "/other/", "/pub/sub/", "http://localhost:{port}/pub/"])
def test_redirects_lead_nowhere_else(place: str, fault_server: FaultServer, session: getm.Session) -> None:
    for path in ("/", "/other/", "/pub/sub/"):
        fault_server.serve(path, page("x.txt", "pub/"))
    root = fault_server.serve("/pub/", redirect(place.format(port=fault_server.port)), page("x.txt"))
    with pytest.raises(errors.BadResponse, match="leads out of the folder"):
        names(session, root, root, recursive=True)


def test_a_redirect_that_stays(fault_server: FaultServer, session: getm.Session) -> None:
    root = fault_server.serve("/pub/", redirect("/pub/index.html"))
    fault_server.serve("/pub/index.html", page("x.txt"))
    assert names(session, root, root) == {"x.txt"}


def test_a_folder_within_itself(
    fault_server: FaultServer, session: getm.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fault_server.url("/pub/")
    for depth in range(50):
        fault_server.serve("/pub/" + "again/" * depth, page("again/"))
    with pytest.raises(errors.BadResponse, match="the folders have no end"):
        names(session, root, root, recursive=True)
    assert len(fault_server.requests) == 41


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(body=b"data", headers={"Content-Type": None}), "its type is not declared"),
        (Reply(body=b"{}", headers={"Content-Type": "application/json"}), "it is JSON, and no list of files"),
        (Reply(body=b"\0" * 100, headers={"Content-Type": "image/png"}), "its type is image/png"),
    ],
)
def test_what_is_no_index_page(reply: Reply, why: str, fault_server: FaultServer, session: getm.Session) -> None:
    root = fault_server.serve("/pub/", reply)
    with pytest.raises(errors.BadResponse, match=f"it is no index page: {why}"):
        names(session, root, root)
    with pytest.raises(errors.InvalidInput, match="a URL with a query"):
        names(session, f"{root}?x=1", root)
    with pytest.raises(errors.HTTPStatusError):
        names(session, fault_server.url("/none/"), root)
