"""Buckets, listed by botocore and served by moto: pages of a thousand keys, prefixes, patterns, odd keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

import getm
from getm import errors
from getm.clouds.aws import S3Clients
from getm.resolve import s3, s3_listing
from tests.support.command import getm as run_getm
from tests.support.command import refused
from tests.support.s3_server import S3Server

MANY = 2300
KEYS = ("reads/1.cram", "reads/2.cram", "reads/qc/1.txt", "reads/HLA[1].cram", "reads/a b/ü?x#y+z%20&=.bam", "top")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("moto"), many=MANY) as server:
        for key in (*KEYS, "odd/../x", "odd//y", "empty/", "full/"):
            server.put(key, b"" if key == "empty/" else key.encode())
        yield server


@pytest.fixture(autouse=True)
def _environment(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    clients = S3Clients()
    for module in (s3, s3_listing):
        monkeypatch.setattr(module, "_clients", clients)
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "AWS_REQUEST_PAYER", "AWS_NO_SIGN_REQUEST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield
    # Their connections are not left to the collector.
    clients.close()


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=getm.Retries(2, base_s=0.001, cap_s=0.01))


def names(session: getm.Session, name: str, **options: Any) -> list[str]:
    return [each.name.removeprefix("s3://bucket/") for each in session.list_objects(name, **options)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pages_of_keys(session: getm.Session) -> None:
    found = list(session.list_objects("s3://many/in/", recursive=True))
    assert len(found) == MANY and len({each.name for each in found}) == MANY
    assert {each.size for each in found} == {7}
    assert [each.name for each in session.list_objects("s3://many/in/")] == [f"s3://many/in/{n}/" for n in range(10)]
    assert len(list(session.list_objects("s3://many/in/[3-4]/*.bin"))) == MANY // 5
    assert len(list(session.list_objects("s3://many/**/*7.bin"))) == MANY // 10


def test_a_pattern_asks_for_no_more_keys_than_it_must(session: getm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    pages = s3_listing._pages

    def recorded(client: Any, parameters: dict[str, Any]) -> Any:
        asked.append((parameters["Prefix"], parameters.get("Delimiter")))
        return pages(client, parameters)

    monkeypatch.setattr(s3_listing, "_pages", recorded)
    assert len(list(session.list_objects("s3://many/in/[12]/0001*.bin"))) == 2
    assert asked == [("in/", "/"), ("in/1/0001", "/"), ("in/2/0001", "/")]


def test_prefixes_and_patterns(session: getm.Session) -> None:
    assert names(session, "s3://bucket") == ["empty/", "full/", "odd/", "reads/", "top"]
    assert names(session, "s3://bucket/reads") == names(session, "s3://bucket/reads/")
    assert names(session, "s3://bucket/reads/*.cram") == ["reads/1.cram", "reads/2.cram", "reads/HLA[1].cram"]
    assert names(session, "s3://bucket/reads/HLA[1].cram") == ["reads/HLA[1].cram"]
    assert names(session, "s3://bucket/reads/a b/*", recursive=True) == [KEYS[4]]
    assert names(session, "s3://bucket/t?p") == names(session, "s3://bucket/top") == ["top"]
    assert names(session, "s3://bucket/none/") == names(session, "s3://bucket/to") == []
    (listed,) = session.list_objects("s3://bucket/top")
    assert listed.size == 3 and listed.modified is not None and listed.version is not None and not listed.texts()
    # What consoles make of a folder is none of its objects; one that has bytes is.
    assert names(session, "s3://bucket/**/", recursive=True, exclude=["odd/", "reads/", "top"]) == ["full/"]


def test_a_prefix_is_downloaded_with_its_folders(tmp_path: Path) -> None:
    run = run_getm("s3://bucket/reads/", "-d", "out", "--strict", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    wanted = {key.removeprefix("reads/"): key.encode() for key in KEYS[:-1]}
    assert content(tmp_path / "out") == wanted
    (tmp_path / "list").write_text("s3://bucket/reads/*.cram\ns3://bucket/top\n")
    run = run_getm("-i", "list", "-d", "listed", "--exclude", "2.*", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert set(content(tmp_path / "listed")) == {"1.cram", "HLA[1].cram", "top"}


def test_a_name_with_wildcards_that_is_one_object(session: getm.Session, tmp_path: Path) -> None:
    run = refused("s3://bucket/reads/HLA[1].cram", "--no-glob", "-d", "out", cwd=tmp_path)
    assert run.returncode == 0 and set(content(tmp_path / "out")) == {"HLA[1].cram"}
    # One that has a size is one as well, as in a manifest.
    entries = [getm.Entry("s3://bucket/reads/HLA[1].cram", size=17)]
    (result,) = session.download_all(entries, directory=tmp_path / "sized")
    assert isinstance(result, getm.DownloadResult) and result.size == 17


def test_from_a_prefix_to_another(session: getm.Session) -> None:
    results = list(session.download_all(["s3://bucket/reads/*.cram"], directory="s3://bucket/copies/"))
    assert len(results) == 3
    assert len(names(session, "s3://bucket/copies/")) == 3


def test_odd_keys_are_refused_with_all_their_like(tmp_path: Path) -> None:
    run = refused("s3://bucket/", "-d", "out", "--exclude", "reads/", "--exclude", "copies/", cwd=tmp_path)
    assert run.returncode == 2 and not (tmp_path / "out").exists()
    for said in (b"2 problems", b"odd/../x", b"full/", b"--exclude"):
        assert said in run.stderr


def test_the_command(tmp_path: Path) -> None:
    run = refused("ls", "-l", "--human", "--total", "s3://many/in/", cwd=tmp_path)
    assert run.stdout.decode().splitlines()[::10] == [
        f"{'-':>14}  {'-':20}  s3://many/in/0/",
        "0 bytes in 0 objects",
    ]
    run = refused("ls", "-r", "--total", "s3://many/in/1/", cwd=tmp_path)
    assert run.stdout.decode().splitlines()[-1] == "1,610 bytes in 230 objects"
    run = refused("ls", "s3://bucket/top", "s3://bucket/none", "s3://nobody/", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (1, b"s3://bucket/top\n")
    assert b"nothing was found there" in run.stderr
    run = refused("ls", "s3://nobody/", cwd=tmp_path)
    assert run.returncode == 8 and b'"status_code": 404' in run.stderr and b"NoSuchBucket" in run.stderr
    assert refused("s3://many/in/", "-d", "x", "--dry-run", cwd=tmp_path).stdout.count(b"\n") == MANY + 2


def stubbed(monkeypatch: pytest.MonkeyPatch, bucket: str = "bucket") -> Stubber:
    stubber = Stubber(s3_listing._clients.of(bucket))
    monkeypatch.setattr(s3_listing._clients, "of", lambda *_, **__: stubber.client)
    return stubber


def test_requester_pays_and_access_points(session: getm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    arn = "arn:aws:s3:eu-west-1:123456789012:accesspoint/lab"
    asked = {"Bucket": arn, "Prefix": "in/", "Delimiter": "/", "RequestPayer": "requester"}
    with stubbed(monkeypatch) as stubber:
        stubber.add_response("list_objects_v2", {"KeyCount": 0, "IsTruncated": False}, asked)
        assert list(session.list_objects(f"s3://{arn}/in/")) == []
        stubber.assert_no_pending_responses()


def test_listings_that_do_not_end_or_are_refused(session: getm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"IsTruncated": True, "KeyCount": 0, "NextContinuationToken": "again"}
    with stubbed(monkeypatch) as stubber:
        stubber.add_response("list_objects_v2", more)
        stubber.add_response("list_objects_v2", more)
        with pytest.raises(errors.BadResponse, match="does not end: a page of it came before"):
            list(session.list_objects("s3://bucket/"))
        # A signature that has expired while pages were read.
        stubber.add_response("list_objects_v2", {**more, "NextContinuationToken": "other"})
        stubber.add_client_error("list_objects_v2", "ExpiredToken", "The token has expired.", 400)
        with pytest.raises(errors.HTTPStatusError, match=r"^400 Bad Request: ExpiredToken: The token has expired"):
            list(session.list_objects("s3://bucket/"))
    for name in ("s3://", "s3:///x", "s3://buck*/x"):
        with pytest.raises(errors.InvalidInput):
            list(session.list_objects(name))
