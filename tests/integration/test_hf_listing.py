"""Whole repositories of a hub, and what matches a pattern in them."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.resolve import listing
from getm.testing import FaultServer, Reply, failure
from tests.support.command import failure as told_by
from tests.support.command import getm as run_getm
from tests.support.command import refused
from tests.support.documentation import blocks_run_by
from tests.support.hub import COMMIT, TOKEN, Hub, forget_account

FILES = {
    ".gitattributes": b"*.bin filter=lfs\n",
    "README.md": b"# a model\n",
    "config.json": b"{}",
    "model.safetensors": b"\1" * 300_000,
    "onnx/a b/ü.onnx": b"\2" * 5000,
    "onnx/model.onnx": b"\3" * 5000,
    "tokenizer[1].json": b"[]",
}
LARGE = ("model.safetensors", "onnx/model.onnx")
ROOT = "hf://org/model"


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_account(monkeypatch, tmp_path / "home")


@pytest.fixture
def hub(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(fault_server, FILES, large=LARGE)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    return hub


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=getm.Retries(2, base_s=0.001, cap_s=0.01))


def names(session: getm.Session, name: str, **options: object) -> list[str]:
    return [each.name.removeprefix("hf://") for each in session.list_objects(name, **options)]  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Listing ------------------------------------------------------------------------------------------------------------


def test_one_level_and_all(hub: Hub, session: getm.Session) -> None:
    assert names(session, ROOT) == [
        f"org/model/{name}"
        for name in (
            *(".gitattributes", "README.md", "config.json", "model.safetensors", "onnx/"),
            "tokenizer[1].json",
        )
    ]
    assert names(session, f"{ROOT}/") == names(session, ROOT)
    assert names(session, ROOT, recursive=True) == [f"org/model/{name}" for name in FILES]
    below = [f"org/model/{name}" for name in ("onnx/a b/", "onnx/model.onnx")]
    assert names(session, f"{ROOT}/onnx") == names(session, f"{ROOT}/onnx/") == below
    assert names(session, f"{ROOT}@main/config.json") == ["org/model@main/config.json"]
    assert names(session, f"{ROOT}/conf") == names(session, f"{ROOT}/*.txt") == []


def test_what_is_known_of_a_file(hub: Hub, session: getm.Session) -> None:
    (model,) = session.list_objects(f"{ROOT}/model.*")
    assert model.size == 300_000 and model.texts()[0].startswith("sha256:")
    assert model.pinned == model.source == f"{ROOT}@{COMMIT}/model.safetensors"
    (config,) = session.list_objects(f"{ROOT}/config.json")
    assert config.size == 2 and config.modified is None
    (folder,) = session.list_objects(f"{ROOT}/on*")
    assert folder.is_folder and folder.source == f"{ROOT}/onnx/"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.json", ["config.json", "tokenizer[1].json"]),
        ("**.onnx", ["onnx/a b/ü.onnx", "onnx/model.onnx"]),
        ("**/*.onnx", ["onnx/a b/ü.onnx", "onnx/model.onnx"]),
        ("onnx/*", ["onnx/a b/", "onnx/model.onnx"]),
        ("*/*/?.onnx", ["onnx/a b/ü.onnx"]),
        ("[Rc]*", ["README.md", "config.json"]),
        ("[!.Rcm]*.json", ["tokenizer[1].json"]),
        # What is called as the pattern is written.
        ("tokenizer[1].json", ["tokenizer[1].json"]),
        ("tokenizer[[]1].json", ["tokenizer[1].json"]),
        ("on*/", ["onnx/a b/", "onnx/model.onnx"]),
        ("o*/**", ["onnx/a b/ü.onnx", "onnx/model.onnx"]),
        ("nothing*", []),
    ],
)
def test_patterns(hub: Hub, session: getm.Session, pattern: str, found: list[str]) -> None:
    assert names(session, f"{ROOT}/{pattern}") == [f"org/model/{name}" for name in found]


def test_a_pattern_lists_no_more_than_it_must(hub: Hub, session: getm.Session) -> None:
    list(session.list_objects(f"{ROOT}/onnx/mod*"))
    trees = [request.target.decode() for request in hub.server.requests if "/tree/" in request.path]
    assert trees == [f"{hub.tree_path('onnx')}?recursive=false"]


def test_include_and_exclude(hub: Hub, session: getm.Session) -> None:
    def chosen(**options: object) -> list[str]:
        found = names(session, ROOT, recursive=True, **options)
        return [name.removeprefix("org/model/") for name in found]

    assert chosen(include=["*.json"]) == ["config.json", "tokenizer[1].json"]
    assert chosen(include=["*.onnx"], exclude=["a b/"]) == ["onnx/model.onnx"]
    assert chosen(include=["onnx/*"]) == ["onnx/model.onnx"]
    assert chosen(exclude=["/onnx/", "*.json", ".*", "README.md"]) == ["model.safetensors"]
    assert chosen(include=["onnx/**"]) == ["onnx/a b/ü.onnx", "onnx/model.onnx"]


@pytest.mark.parametrize("kind", ["datasets", "spaces"])
def test_datasets_and_spaces(
    kind: str, fault_server: FaultServer, session: getm.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub = Hub(fault_server, {"a/x.csv": b"a,b\n"}, repository=f"{kind}/org/data", revision="refs/pr/1", private=True)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    name = f"hf://{kind}/org/data@refs/pr/1"
    assert [each.name for each in session.list_objects(name, recursive=True)] == [f"{name}/a/x.csv"]
    results = list(session.download_all([name], directory=tmp_path / "out"))
    assert len(results) == 1 and content(tmp_path / "out") == {"a/x.csv": b"a,b\n"}


# Downloads ----------------------------------------------------------------------------------------------------------


def test_a_whole_repository(hub: Hub, tmp_path: Path) -> None:
    run = run_getm(ROOT, "-d", "out", "--receipt", "receipt", "--strict", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert content(tmp_path / "out") == FILES
    entries = [json.loads(line) for line in (tmp_path / "receipt").read_text().splitlines()]
    urls = {entry["url"] for entry in entries if "url" in entry}
    assert f"{ROOT}@{COMMIT}/config.json" in urls


def test_the_documented_commands(hub: Hub, tmp_path: Path) -> None:
    (block,) = blocks_run_by("how-to/listing.md", __file__)
    show, *downloads = [line.split()[1:] for line in block.code.splitlines()]
    run = refused(*show, cwd=tmp_path)
    assert run.stdout.decode().splitlines()[-2:] == [f"{ROOT}/onnx/", f"{ROOT}/tokenizer[1].json"]
    for number, arguments in enumerate(downloads):
        before = len(hub.server.requests)
        assert refused(*arguments, cwd=tmp_path).returncode == 0
        asked = [request.path for request in hub.server.requests[before:] if "/api/" not in request.path]
        # Nothing comes again.
        assert bool(asked) == (number == 0)
    assert len(content(tmp_path / "model")) == 5


def test_a_file_that_git_has_is_verified_by_its_id(hub: Hub, session: getm.Session, tmp_path: Path) -> None:
    name = f"{ROOT}@{COMMIT}/config.json"
    with session.urlopen(name, strict=True) as fh:
        assert bytes(fh.read()) == b"{}" and fh.checksum.source == "ETag"
    (config,) = session.list_objects(f"{ROOT}/config.json")
    assert config.texts() == (str(getm.checksum(b"{}", "git-blob")),)
    hub.server.serve(f"/org/model/resolve/{COMMIT}/config.json", Reply(body=b"[]"))
    with pytest.raises(errors.ChecksumMismatch):
        list(session.download_all([f"{ROOT}/config*"], directory=tmp_path))


def test_a_token_goes_to_the_hub_alone(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub = Hub(fault_server, FILES, large=LARGE, private=True)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    run = refused(ROOT, "-d", "out", cwd=tmp_path)
    assert run.returncode == 8 and told_by(run)["status_code"] == 401 and not (tmp_path / "out").exists()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    run = run_getm(ROOT, "-d", "out", "--exclude", "*.onnx", "-v", cwd=tmp_path)
    assert run.returncode == 0 and len(content(tmp_path / "out")) == 5


def test_a_dry_run_asks_for_no_file(hub: Hub, tmp_path: Path) -> None:
    run = refused(ROOT, "-d", "out", "--dry-run", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    lines = run.stdout.decode().splitlines()
    assert f"           300,000  out/model.safetensors  {ROOT}@{COMMIT}/model.safetensors" in lines
    assert "           310,031  bytes in 7 files" in lines
    assert not [request for request in hub.server.requests if "/api/" not in request.path]


def test_python(hub: Hub, session: getm.Session, tmp_path: Path) -> None:
    entries: list[getm.Entry | str] = [getm.Entry(f"{ROOT}/*.json", "json/"), f"{ROOT}/onnx/"]
    results = list(session.download_all(entries, directory=tmp_path))
    assert content(tmp_path) == {
        "json/config.json": b"{}",
        "json/tokenizer[1].json": b"[]",
        "a b/ü.onnx": FILES["onnx/a b/ü.onnx"],
        "model.onnx": FILES["onnx/model.onnx"],
    }
    assert sorted(result.index for result in results) == [0, 1, 2, 3]
    # A single object, whatever its name is.
    pinned = f"{ROOT}@{COMMIT}/tokenizer[1].json"
    list(session.download_all([getm.Entry(pinned, expand=False)], directory=tmp_path / "single"))
    assert content(tmp_path / "single") == {"tokenizer[1].json": b"[]"}
    assert bytes(session.read(pinned)) == b"[]"


async def test_asyncio(hub: Hub, session: getm.Session, tmp_path: Path) -> None:
    results = [each async for each in session.adownload_all([f"{ROOT}/*.json"], directory=tmp_path)]
    assert len(results) == 2 and set(content(tmp_path)) == {"config.json", "tokenizer[1].json"}
    with pytest.raises(errors.InvalidInput, match="give a list, and no iterator"):
        async for _ in session.adownload_all(iter([f"{ROOT}/*.json"]), directory=tmp_path):
            pass


async def test_cancelled_while_it_lists(hub: Hub, session: getm.Session, tmp_path: Path) -> None:
    """The thread that lists ends with the page that it waits for."""
    gate, path = hub.server.gate(), hub.tree_path("")
    rest = {"Link": f'<{path}?cursor=1>; rel="next"'}
    page = json.dumps([{"type": "file", "path": "config.json", "size": 2}]).encode()
    hub.server.serve(path, Reply(body=page, headers=rest, hold=gate), failure(400))

    async def download() -> None:
        async for _ in session.adownload_all([ROOT], directory=tmp_path):
            pass

    task = asyncio.create_task(download())
    await asyncio.to_thread(gate.wait_reached)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert len([request for request in hub.server.requests if request.path == path]) == 1


def test_an_iterator_is_listed_as_it_is_read(hub: Hub, session: getm.Session, tmp_path: Path) -> None:
    results = list(session.download_all(iter([f"{ROOT}/*.md", f"{ROOT}/*.json"]), directory=tmp_path))
    assert len(results) == 3


def test_a_repository_is_resumed_where_locks_lie(
    fault_server: FaultServer, session: getm.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    weights = bytes(range(256)) * 16 * 1024
    hub = Hub(fault_server, {"config.json": b"{}", "weights.bin": weights}, large=("weights.bin",))
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    whole = Reply(body=weights)
    fault_server.serve("/storage/weights.bin", replace(whole, cut_at=3_000_000), failure(500), whole)
    failed = list(session.download_all([ROOT], directory=tmp_path, retries=0, jobs=1, continue_after_error=True))
    assert {type(each) for each in failed} == {getm.DownloadResult, getm.DownloadFailure}
    list(session.download_all([ROOT], directory=tmp_path, concurrency=1))
    asked = [request.header("Range") for request in fault_server.requests if request.path == "/storage/weights.bin"]
    assert asked[-1] is not None and int(asked[-1].removeprefix("bytes=").partition("-")[0]) > 0
    assert content(tmp_path)["weights.bin"] == weights


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_nothing_is_found(hub: Hub, session: getm.Session, tmp_path: Path) -> None:
    with pytest.raises(errors.NothingFound, match="nothing was found there"):
        list(session.download_all([f"{ROOT}/*.none"], directory=tmp_path))
    with pytest.raises(errors.NothingFound, match="only folders match"):
        list(session.download_all([f"{ROOT}/on*"], directory=tmp_path))
    with pytest.raises(errors.HTTPStatusError, match="404"):
        list(session.download_all([f"{ROOT}/missing/"], directory=tmp_path))
    for arguments, status in (
        (["ls", f"{ROOT}/*.none"], 1),
        ([f"{ROOT}/*.none"], 1),
        ([ROOT, "-d", "x", "--include", "*.none"], 1),
        (["ls", "hf://org/other"], 8),
        (["ls", "hf://org/*"], 2),
        (["ls", "file.txt"], 2),
        ([ROOT, "file"], 2),
        ([ROOT, "-"], 2),
        ([f"{ROOT}/config.json", "--include", "*"], 2),
        ([ROOT, "--no-glob"], 2),
    ):
        run = refused(*arguments, cwd=tmp_path)
        assert run.returncode == status and run.stderr.count(b"\n") == 1, run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "C:\\x", "..\\x", "a/", "x" * 300, "a/" + "y" * 10_000]
)
def test_hostile_names(path: str, hub: Hub, session: getm.Session, tmp_path: Path) -> None:
    nodes = [{"type": "file", "path": path, "size": 1}, {"type": "file", "path": "config.json", "size": 2}]
    hub.server.serve(hub.tree_path(""), Reply(body=json.dumps(nodes).encode()))
    with pytest.raises(errors.InvalidInput, match="leave it out"):
        list(session.download_all([ROOT], directory=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_names_of_control_characters_stay_within_a_line(hub: Hub, session: getm.Session, tmp_path: Path) -> None:
    path = "a\nb\x1b[31m"
    nodes = [{"type": "file", "path": path, "size": 1}]
    hub.server.serve(hub.tree_path(""), Reply(body=json.dumps(nodes).encode()))
    hub.server.serve(f"/org/model/resolve/{COMMIT}/a%0Ab%1B%5B31m", Reply(body=b"x"))
    for arguments in (["ls", ROOT], ["ls", "-l", ROOT], [ROOT, "-d", "out", "--dry-run"]):
        run = refused(*arguments, cwd=tmp_path)
        assert run.returncode == 0 and b"a\\nb\\x1b[31m" in run.stdout and b"\x1b" not in run.stdout
    run = refused("ls", "--json", ROOT, cwd=tmp_path)
    assert json.loads(run.stdout)["name"] == f"{ROOT}/{path}"
    list(session.download_all([ROOT], directory=tmp_path / "out"))
    assert content(tmp_path / "out") == {path: b"x"}


def test_hidden_files_want_a_folder(
    hub: Hub, session: getm.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's .bashrc could replace one's own."""
    monkeypatch.chdir(tmp_path)
    run = refused(ROOT, cwd=tmp_path)
    assert run.returncode == 2 and b"'.gitattributes' is that of a hidden file; name a folder" in run.stderr
    for entries in ([ROOT], iter([ROOT])):
        with pytest.raises(errors.InvalidInput, match="hidden file"):
            list(session.download_all(entries))
    assert list(tmp_path.iterdir()) == []
    assert len(list(session.download_all([getm.Entry(ROOT, "./")]))) == len(FILES)


def test_two_that_would_be_one_file(hub: Hub, tmp_path: Path) -> None:
    nodes = [{"type": "file", "path": path, "size": 2} for path in ("a", "a/b")]
    hub.server.serve(hub.tree_path(""), Reply(body=json.dumps(nodes).encode()))
    run = refused(ROOT, "-d", "out", cwd=tmp_path)
    assert run.returncode == 2 and b"would lie below" in run.stderr and not (tmp_path / "out").exists()


def test_a_page_that_fails_midway(hub: Hub, session: getm.Session, tmp_path: Path) -> None:
    """A retry mends it; an error that stays ends the listing before anything is downloaded."""
    page = json.dumps([{"type": "file", "path": "config.json", "size": 2, "oid": "0" * 40}]).encode()
    hub.server.serve(hub.tree_path(""), Reply(body=page, cut_at=20), failure(503), Reply(body=page))
    assert names(session, ROOT) == ["org/model/config.json"]
    more = {"Link": f'<{hub.endpoint}{hub.tree_path("")}?cursor=1>; rel="next"'}
    hub.server.serve(hub.tree_path(""), Reply(body=page, headers=more), failure(500))
    with pytest.raises(errors.HTTPStatusError, match="500"):
        list(session.download_all([ROOT], directory=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"[{", r"the answer is not what was expected"),
        (b'{"error": "x"}', r"the answer is not what was expected"),
        (b'[{"type": "file", "path": 5}]', r"the answer is not what was expected"),
        (b'[{"type": "file", "path": "x", "size": -1}]', r"size must be a whole number"),
        (b'[{"type": "file", "path": "x", "lfs": {"oid": "no hash", "size": 1}}]', r"sha256"),
    ],
)
def test_pages_that_are_none(reply: bytes, error: str, hub: Hub, session: getm.Session) -> None:
    hub.server.serve(hub.tree_path(""), Reply(body=reply))
    with pytest.raises(errors.BadResponse, match=error):
        names(session, ROOT)


def test_a_revision_that_is_no_commit(hub: Hub, session: getm.Session) -> None:
    hub.server.serve("/api/models/org/model/revision/main", Reply(body=b'{"sha": "../x"}'))
    with pytest.raises(errors.BadResponse, match="which is no commit"):
        names(session, ROOT)


@pytest.mark.parametrize(
    ("link", "error"), [("{path}?recursive=false", "does not end"), ("http://other.test/x", "at another host")]
)
def test_a_next_page_that_is_none(link: str, error: str, hub: Hub, session: getm.Session) -> None:
    path = hub.tree_path("")
    page = json.dumps([{"type": "file", "path": "x", "size": 1}]).encode()
    hub.server.serve(path, Reply(body=page, headers={"Link": f'<{link.format(path=path)}>; rel="next"'}))
    with pytest.raises(errors.BadResponse, match=error):
        names(session, ROOT)


def test_pages_without_end(hub: Hub, session: getm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_MAX_EMPTY_PAGES", 5)
    path, number = hub.tree_path(""), itertools.count()
    hub.server.serve(path, lambda _: Reply(body=b"[]", headers={"Link": f'<{path}?cursor={next(number)}>; rel="next"'}))
    with pytest.raises(errors.BadResponse, match="6 pages in a row have nothing"):
        names(session, ROOT)
    assert next(number) == 6


def test_pages_are_requested_as_they_are_read(hub: Hub, session: getm.Session) -> None:
    found = session.list_objects(ROOT, recursive=True)
    assert [next(found).name for _ in range(3)] == [f"{ROOT}/{name}" for name in list(FILES)[:3]]
    assert len([request for request in hub.server.requests if "/tree/" in request.path]) == 1
