"""drs:// names, at a server of ours that answers as the GA4GH's specification has it (DRS 1.x)."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import getm
from getm import errors
from getm.resolve import compact_ids, drs
from getm.testing import Reply, failure, redirect
from tests.support.certificates import Authority
from tests.support.command import getm as run_getm
from tests.support.drs_server import OBJECTS, TOKEN, DRSServer
from tests.support.named_hosts import NamedHosts, as_json, named_hosts
from tests.support.signing import SignedObject, cut

BODY = hashlib.shake_256(b"drs").digest(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
REGISTRY = "registry.api.identifiers.org"


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GETM_DRS_ACCESS", raising=False)
    monkeypatch.setattr(compact_ids, "_known", {})


@pytest.fixture(scope="module")
def socket_path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield f"{folder}/s"


@pytest.fixture
def hosts(authority: Authority, socket_path: str) -> Iterator[NamedHosts]:
    with named_hosts(authority, socket_path, "drs.test", "store.test", "other.test", REGISTRY, "n2t.net") as hosts:
        yield hosts


@pytest.fixture
def session(hosts: NamedHosts, shared_session: Callable[..., getm.Session]) -> getm.Session:
    retries = getm.Retries(3, base_s=0.001, cap_s=0.01)
    return shared_session(**hosts.session, retries=retries, headers={"X-Mine": "of the session"})


def https(url: str, *headers: str) -> dict[str, Any]:
    return {"type": "https", "access_url": {"url": url, "headers": list(headers)}}


@pytest.mark.parametrize("concurrency", [1, 4, None, "auto"])
def test_a_blob(concurrency: Any, hosts: NamedHosts, session: getm.Session) -> None:
    """By the URL and the headers that the server gives; verified by the server's checksum, and of its size."""
    hosts.server.serve("/x", Reply(body=BODY))
    name = DRSServer(hosts).blob(
        "a/b", BODY, [https("https://store.test/x", "Authorization: Bearer SECRET", "X-A: b: c")]
    )
    assert name == "drs://drs.test/a%2Fb"
    with session.urlopen(name, concurrency=concurrency, strict=True) as fh:
        assert fh.read() == BODY
        assert (str(fh.checksum.checksum), fh.checksum.source) == (f"sha256:{SHA256}", "caller")
    (asked,), stored = hosts.requests("drs.test"), hosts.requests("store.test")
    assert asked.header("X-Mine") == "of the session"
    # Whom the server of the objects names gets what that says, and nothing of the session.
    assert {request.header("Authorization") for request in stored} == {"Bearer SECRET"}
    assert {(request.header("X-A"), request.header("X-Mine")) for request in stored} == {("b: c", None)}


def test_what_the_server_says_must_be_true(hosts: NamedHosts, session: getm.Session) -> None:
    hosts.server.serve("/x", Reply(body=BODY))
    server, methods = DRSServer(hosts), [https("https://store.test/x")]
    wrong = [{"type": "md5", "checksum": "00" * 16}]
    with pytest.raises(errors.ChecksumMismatch):
        session.read(server.blob("wrong", BODY, methods, checksums=wrong))
    with pytest.raises(errors.SizeMismatch):
        session.read(server.blob("long", BODY, methods, size=len(BODY) + 1))
    for checksums, said in (
        ([{"type": "md5", "checksum": "xyz"}], "malformed checksum"),
        ("none", "not what was expected"),
    ):
        with pytest.raises(errors.ResolveFailed, match=said):
            session.read(server.blob("malformed", BODY, methods, checksums=checksums))
    assert session.read(server.blob("unknown", BODY, methods, checksums=[{"type": "none", "checksum": "1"}])) == BODY


def test_a_token_for_the_host_that_the_name_has(hosts: NamedHosts, session: getm.Session) -> None:
    hosts.server.serve("/x", Reply(body=BODY))
    server = DRSServer(hosts, token=TOKEN)
    name = server.blob("1", BODY, [{"type": "s3", "access_url": {"url": "s3://bucket/key"}, "access_id": "a/b c"}])
    server.access("1", "a/b c", lambda: {"url": "https://store.test/x?signature=SECRET"})
    with pytest.raises(errors.ResolveFailed, match=r"401 Unauthorized.*https://drs\.test/ga4gh/drs/v1/objects/1"):
        session.read(name)
    assert session.read(name, headers={"Authorization": f"Bearer {TOKEN}"}) == BODY
    assert {request.header("Authorization") for request in hosts.requests("store.test")} == {None}
    # Where it leads to another host, that one gets none.
    hosts.server.serve(f"{OBJECTS}/moved", redirect(f"https://other.test{OBJECTS}/1"))
    with pytest.raises(errors.ResolveFailed, match="401"):
        session.read("drs://drs.test/moved", headers={"Authorization": f"Bearer {TOKEN}"})
    DRSServer(hosts).blob("2", BODY, [{"type": "https", "access_id": "x"}])
    hosts.server.serve(f"{OBJECTS}/gone", redirect(f"https://other.test{OBJECTS}/2"))
    server.access("2", "x", lambda: {"url": "https://store.test/x"})
    with pytest.raises(errors.ResolveFailed, match="401"):
        session.read("drs://drs.test/gone", headers={"Authorization": f"Bearer {TOKEN}"})
    assert {request.header("Authorization") for request in hosts.requests("other.test")} == {None}
    assert hosts.requests("other.test")[-1].path.endswith("/access/x")


def test_tokens_of_the_session(hosts: NamedHosts, shared_session: Callable[..., getm.Session]) -> None:
    """One for the hosts of URLs goes to the host in the name; one for a host also where a compact identifier leads to
    it."""
    hosts.server.serve("/x", Reply(body=BODY))
    name = DRSServer(hosts, token=TOKEN).blob("1", BODY, [https("https://store.test/x")])
    register(hosts, {"urlPattern": "https://drs.test/ga4gh/drs/v1/objects/{$id}"})
    session = shared_session(**hosts.session, retries=0, auth=TOKEN)
    assert session.read(name) == BODY
    with pytest.raises(errors.ResolveFailed, match="401"):
        session.read("drs://drs.42:1")
    session = shared_session(**hosts.session, retries=0, auth={"drs.test": TOKEN})
    for each in (name, "drs://drs.42:1"):
        assert session.read(each) == BODY
    others = [request for request in hosts.server.requests if request.header("Host") != "drs.test"]
    assert {request.header("Authorization") for request in others} == {None}


@pytest.mark.parametrize("concurrency", [1, 4, None])
def test_a_signature_that_expires(concurrency: int | None, hosts: NamedHosts, session: getm.Session) -> None:
    signed = SignedObject(hosts.server, cut(BODY, 70_000), uses=2, path="/signed")
    server = DRSServer(hosts)
    name = server.blob("1", BODY, [{"type": "https", "access_id": "us"}])
    server.access("1", "us", lambda: {"url": f"https://store.test/signed?{signed.sign().partition('?')[2]}"})
    assert session.read(name, concurrency=concurrency, strict=True) == BODY
    assert len(signed.used) >= 3 and signed.one_for_each_expiry


def test_which_method_is_used(hosts: NamedHosts, session: getm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    server = DRSServer(hosts)
    for path in ("one", "two", "three"):
        hosts.server.serve(f"/{path}", Reply(body=BODY))
    methods: list[dict[str, Any]] = [
        {"type": "ftp", "access_url": {"url": "ftp://store.test/x"}},
        {"type": "s3", "access_url": {"url": "https://store.test/one"}},
        {"type": "https", "access_url": {"url": "https://store.test/two"}, "available": False},
        {"type": "https", "access_id": "refused"},
        {"type": "https", "access_url": {"url": "https://store.test/three", "headers": {"X-A": "object"}}},
    ]
    server.access("1", "refused", failure(403))
    name = server.blob("1", BODY, methods)

    def used() -> list[str]:
        hosts.server.requests.clear()
        assert session.read(name) == BODY
        return [request.path for request in hosts.requests("store.test")]

    assert used() == ["/three"] and hosts.requests("store.test")[0].header("X-A") == "object"
    monkeypatch.setenv("GETM_DRS_ACCESS", "s3, https")
    assert used() == ["/one"]
    assert session.read(partial(drs.resolve, name, prefer=["gs", "https"])) == BODY
    monkeypatch.setenv("GETM_DRS_ACCESS", "gs")
    with pytest.raises(errors.ResolveFailed, match="can be had by ftp, s3, https, and getm knows gs"):
        session.read(name)
    monkeypatch.delenv("GETM_DRS_ACCESS")
    for method, said in (
        ({"type": "https"}, "neither a URL nor an id"),
        ({"type": "https", "access_id": "refused"}, "403 Forbidden"),
        ({"type": "s3", "access_url": {"url": "s3://bucket"}}, "a name that cannot be used: expected s3://BUCKET/KEY"),
        ({"type": "gs", "access_url": {"url": "file:///etc/passwd"}}, "a URL of the scheme 'file'"),
        ({"type": "https", "access_url": {"url": "https://"}}, "no URL that can be used"),
        ({"type": "https", "access_url": {"url": "https://store.test/one", "headers": ["none"]}}, "no URL that can be"),
    ):
        with pytest.raises(errors.ResolveFailed, match=said):
            session.read(server.blob("1", BODY, [method]))


def test_an_answer_that_takes_time(hosts: NamedHosts, session: getm.Session) -> None:
    """202 with Retry-After: it is being prepared."""
    hosts.server.serve("/x", Reply(body=BODY))
    wait = Reply(status=202, etag=None, last_modified=None, headers={"Retry-After": "0"})
    ready = as_json({"id": "1", "access_methods": [https("https://store.test/x")]})
    hosts.server.serve(f"{OBJECTS}/1", wait, wait, ready)
    assert session.read("drs://drs.test/1") == BODY


def test_a_bundle_is_no_blob(hosts: NamedHosts, session: getm.Session) -> None:
    name = DRSServer(hosts).bundle("b", [{"name": "x", "id": "1"}, {"name": "y", "id": "2"}])
    with pytest.raises(errors.InvalidInput, match=r"a bundle of 2 objects; for all of them: drs://drs\.test/b/"):
        session.read(name)


def test_what_is_in_a_bundle(hosts: NamedHosts, session: getm.Session, tmp_path: Path) -> None:
    """By the names that it gives its objects, also those of bundles within it."""
    hosts.server.serve("/x", Reply(body=BODY))
    server, method = DRSServer(hosts), https("https://store.test/x")
    for id in ("1", "a/b"):
        server.blob(id, BODY, [method])
    contents: list[dict[str, Any]] = [
        {"name": "one.bam", "id": "1"},
        {"name": "in", "id": "2", "contents": [{"name": "two.bam", "drs_uri": ["http://x", "drs://drs.test/a%2Fb"]}]},
    ]
    name = server.bundle("b", contents)
    assert [each.name for each in session.list_objects(f"{name}/", recursive=True)] == [
        "drs://drs.test/b/one.bam",
        "drs://drs.test/b/in/two.bam",
    ]
    assert [each.name for each in session.list_objects(name)] == ["drs://drs.test/b/one.bam", "drs://drs.test/b/in/"]
    (blob,) = session.list_objects("drs://drs.test/1")
    assert (blob.size, blob.texts()) == (len(BODY), (f"sha256:{SHA256}",))
    list(session.download_all([f"{name}/"], directory=tmp_path / "all", strict=True))
    found = {str(path.relative_to(tmp_path / "all")) for path in (tmp_path / "all").rglob("*.bam")}
    assert found == {"one.bam", "in/two.bam"}
    list(session.download_all([f"{name}/in/*.bam"], directory=tmp_path / "some"))
    assert (tmp_path / "some" / "two.bam").read_bytes() == BODY
    register(hosts, {"urlPattern": "https://drs.test/ga4gh/drs/v1/objects/{$id}"})
    run = run_getm("drs://drs.42:b/", "-d", "by-compact", *hosts.options, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "by-compact" / "in" / "two.bam").read_bytes() == BODY


@pytest.mark.parametrize("name", ["", "../x", "x/../../y", "/etc/x"])
def test_a_bundle_that_means_harm(name: str, hosts: NamedHosts, session: getm.Session, tmp_path: Path) -> None:
    hosts.server.serve("/x", Reply(body=BODY))
    server = DRSServer(hosts)
    server.blob("1", BODY, [https("https://store.test/x")])
    bundle = server.bundle("b", [{"name": name, "id": "1"}])
    (tmp_path / "in").mkdir()
    with pytest.raises(errors.GetmError):
        list(session.download_all([f"{bundle}/"], directory=tmp_path / "in"))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["drs://", "drs://host", "drs://host/", "drs:host/1", "drs://host/1?x=1", "drs://:1"])
def test_names_that_are_none(name: str, session: getm.Session) -> None:
    with pytest.raises(errors.InvalidInput, match="expected drs://HOST/ID, or drs://PREFIX:ACCESSION"):
        session.read(name)


# Compact identifiers --------------------------------------------------------------------------------------------------


def register(hosts: NamedHosts, *places: dict[str, Any]) -> None:
    link = {"namespace": {"href": f"https://{REGISTRY}/restApi/namespaces/1234"}}
    hosts.serve_json("/restApi/namespaces/search/findByPrefix", {"_links": link})
    hosts.serve_json("/restApi/resources/search/findAllByNamespaceId", {"_embedded": {"resources": list(places)}})


def test_compact_identifiers(hosts: NamedHosts, session: getm.Session, tmp_path: Path) -> None:
    """The registry is asked once, also by other processes; nobody but the host of a name gets the session's headers."""
    hosts.server.serve("/x", Reply(body=BODY))
    DRSServer(hosts).blob("a/b", BODY, [https("https://store.test/x")])
    register(
        hosts,
        {"urlPattern": "https://pages.test/{$id}", "official": True},
        {"urlPattern": "https://drs.test/ga4gh/drs/v1/objects/{$id}", "providerCode": "us"},
    )
    for _ in range(2):
        assert session.read("drs://DRS.42:a/b") == BODY
    assert [request.target for request in hosts.requests(REGISTRY)] == [
        b"/restApi/namespaces/search/findByPrefix?prefix=drs.42",
        b"/restApi/resources/search/findAllByNamespaceId?id=1234",
    ]
    assert {request.header("X-Mine") for request in hosts.server.requests} == {None}
    run = run_getm("drs://drs.42:a/b", "out", "--json", *hosts.options, cwd=tmp_path)
    assert run.returncode == 0 and (tmp_path / "out").read_bytes() == BODY
    assert b'"drs://drs.42:a/b"' in run.stdout and len(hosts.requests(REGISTRY)) == 2
    # With the code of a provider it is another place.
    assert session.read("drs://us/drs.42:a/b") == BODY
    assert len(hosts.requests(REGISTRY)) == 4


def test_what_is_kept_is_asked_for_after_a_day(
    hosts: NamedHosts, session: getm.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.server.serve("/x", Reply(body=BODY))
    DRSServer(hosts).blob("1", BODY, [https("https://store.test/x")])
    register(hosts, {"urlPattern": "https://drs.test/ga4gh/drs/v1/objects/{$id}"})
    assert session.read("drs://drs.42:1") == BODY
    pattern, since_s = compact_ids._known["drs.42"]
    compact_ids._known["drs.42"] = pattern, since_s - 86_401
    assert session.read("drs://drs.42:1") == BODY
    assert len(hosts.requests(REGISTRY)) == 4


def test_the_other_registry(hosts: NamedHosts, session: getm.Session) -> None:
    hosts.server.serve("/x", Reply(body=BODY))
    DRSServer(hosts).blob("1", BODY, [https("https://store.test/x")])
    hosts.server.serve("/restApi/namespaces/search/findByPrefix", failure(501))
    said = b"type: scheme\nredirect: https://drs.test/ga4gh/drs/v1/objects/$id\n"
    hosts.server.serve("/drs.42:", Reply(body=said, headers={"Content-Type": "text/plain"}))
    assert session.read("drs://drs.42:1") == BODY


def test_a_prefix_that_nobody_knows(hosts: NamedHosts, session: getm.Session) -> None:
    with pytest.raises(errors.InvalidInput, match=r"know no place for the prefix 'drs\.43'"):
        session.read("drs://drs.43:1")
    # Nor one to which a token would go without TLS.
    register(hosts, {"urlPattern": "http://drs.test/{$id}"}, {"urlPattern": "https://drs.test/without-an-id"})
    with pytest.raises(errors.InvalidInput, match="know no place"):
        session.read("drs://drs.43:1")
    hosts.server.serve("/restApi/namespaces/search/findByPrefix", failure(501))
    with pytest.raises(errors.ResolveFailed, match="501"):
        session.read("drs://drs.43:1")


# The command and lists ------------------------------------------------------------------------------------------------


def test_the_command(hosts: NamedHosts, tmp_path: Path) -> None:
    hosts.server.serve("/x", Reply(body=BODY))
    server = DRSServer(hosts, token=TOKEN)
    name = server.blob("reads.bam", BODY, [https("https://store.test/x?sig=SECRET", "Authorization: SECRET")])
    (tmp_path / "headers").write_text(f"Authorization: Bearer {TOKEN}\n")
    (tmp_path / "list").write_text(f"{name}\n")
    given = ["--strict", "-vv", "--receipt", "receipt", "-H", "@headers", *hosts.options]
    for arguments, path in (((name,), "reads.bam"), (("-i", "list", "-d", "of-list"), "of-list/reads.bam")):
        run = run_getm(*arguments, *given, cwd=tmp_path)
        assert run.returncode == 0 and (tmp_path / path).read_bytes() == BODY, run.stderr
    receipt = (tmp_path / "receipt").read_text()
    assert receipt.count(f'"{name}"') == 2 and "SECRET" not in receipt
    run = run_getm(name, "other", *hosts.options, cwd=tmp_path)
    assert run.returncode == 4 and b"401 Unauthorized" in run.stderr
    assert run_getm("drs://host", "other", *hosts.options, cwd=tmp_path).returncode == 2


def test_it_is_called_by_a_session() -> None:
    with pytest.raises(errors.InvalidInput, match=r"functools\.partial\(resolve, NAME"):
        drs.resolve("drs://drs.test/1")
