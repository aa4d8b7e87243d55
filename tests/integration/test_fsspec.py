"""The fsspec file system: what programs that know fsspec's own HTTP file system expect, and what getm adds."""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import pickle
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import fsspec.asyn
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import getm
from getm.integrations.fsspec import GetmFileSystem, register
from getm.testing import FaultServer, Reply, failure
from tests.support import fsspec_loop
from tests.support.hub import Hub
from tests.support.nginx import NginxServer

DATA = bytes(range(256)) * 1000
FILES = {"a.bin": DATA, "b.csv": b"x,y\n1,2\n", "sub/c.bin": b"c" * 10, "sub/deep/d.csv": b"d", "empty": b""}


@pytest.fixture(autouse=True)
def _loop() -> Iterator[None]:
    with fsspec_loop.ended_afterwards():
        yield


@pytest.fixture
def fs() -> GetmFileSystem:
    found = fsspec.filesystem("getm+http", retries=0)
    assert isinstance(found, GetmFileSystem)
    return found


@pytest.fixture(scope="module")
def root(nginx: NginxServer) -> Iterator[str]:
    """The URL of a folder with `FILES`, whose index nginx shows."""
    folder = nginx.objects.make(1).path.parents[1] / "tree"
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    yield nginx.url("/index/tree/")
    shutil.rmtree(folder)


def urls(root: str, *names: str) -> list[str]:
    return [root + name for name in names]


# Folders --------------------------------------------------------------------------------------------------------------


def test_a_folder_is_listed_with_exact_sizes(fs: GetmFileSystem, root: str, nginx: NginxServer) -> None:
    mark = nginx.log.mark()
    listing = {info["name"]: (info["type"], info["size"]) for info in fs.ls(root)}
    assert listing == {
        root + "sub/": ("directory", None),
        root + "a.bin": ("file", len(DATA)),
        root + "b.csv": ("file", 8),
        root + "empty": ("file", 0),
    }
    assert len(nginx.log.since(mark)) == 1
    assert fs.ls(root[:-1], detail=False) == sorted(listing)
    assert fs.ls("getm+" + root, detail=False) == sorted(listing)
    assert fs.ls(root + "a.bin", detail=False) == [root + "a.bin"]
    json_root = root.replace("/index/", "/index-json/")
    assert {info["name"].removeprefix(json_root) for info in fs.ls(json_root)} == {"sub/", "a.bin", "b.csv", "empty"}


def test_what_cannot_be_listed(fs: GetmFileSystem, root: str, nginx: NginxServer) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        fs.ls(root + "nothing/")
    with pytest.raises(FileNotFoundError):
        fs.ls(root + "nothing")
    with pytest.raises(PermissionError):
        fs.ls(nginx.url("/tree/"))
    with pytest.raises(NotADirectoryError, match="octet-stream"):
        fs.ls(nginx.url(nginx.objects.make(1)) + "?x=/")


def test_find_walk_and_du(fs: GetmFileSystem, root: str) -> None:
    assert fs.find(root) == sorted(urls(root, *FILES))
    assert fs.find(root[:-1]) == sorted(urls(root, *FILES))
    assert fs.find(root, maxdepth=1) == urls(root, "a.bin", "b.csv", "empty")
    assert fs.find(root, maxdepth=2, withdirs=True) == sorted(
        [root, *urls(root, "a.bin", "b.csv", "empty", "sub/", "sub/c.bin", "sub/deep/")]
    )
    assert fs.find(root + "a.bin") == [root + "a.bin"]
    assert fs.find(root + "nothing") == fs.find(root + "nothing/") == []
    assert fs.find(root, detail=True)[root + "sub/c.bin"]["size"] == 10
    assert [(path, sorted(folders), sorted(files)) for path, folders, files in fs.walk(root)] == [
        (root, ["sub"], ["a.bin", "b.csv", "empty"]),
        (root + "sub", ["deep"], ["c.bin"]),
        (root + "sub/deep", [], ["d.csv"]),
    ]
    assert fs.du(root) == sum(map(len, FILES.values()))
    with pytest.raises(ValueError, match="maxdepth"):
        fs.find(root, maxdepth=0)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ["a.bin", "b.csv", "empty", "sub/"]),
        ("*.csv", ["b.csv"]),
        ("**/*.csv", ["b.csv", "sub/deep/d.csv"]),
        ("[ab].*", ["a.bin", "b.csv"]),
        ("*/", ["sub/"]),
        ("*/*.bin", ["sub/c.bin"]),
        ("s*/deep/*", ["sub/deep/d.csv"]),
        ("a.bin", ["a.bin"]),
        ("nothing*", []),
        ("nothing", []),
        ("nothing/*", []),
    ],
)
def test_glob(pattern: str, names: list[str], fs: GetmFileSystem, root: str) -> None:
    assert fs.glob(root + pattern) == urls(root, *names)
    assert list(fs.glob(root + pattern, detail=True)) == urls(root, *names)


def test_the_address_of_a_host_is_no_pattern() -> None:
    from getm.integrations.fsspec.filesystem import _magic_at

    assert _magic_at("http://[::1]:80/x?a=b") == 0
    assert _magic_at("http://[::1]:80/x*") == 17


def test_a_part_of_a_tree_is_never_taken_for_all_of_it(fs: GetmFileSystem, fault_server: FaultServer) -> None:
    page = Reply(body=b'<a href="one/">one/</a><a href="two/">two/</a>', headers={"Content-Type": "text/html"})
    leaf = Reply(body=b'<a href="x">x</a>', headers={"Content-Type": "text/html"})
    root = fault_server.serve("/r/", page)
    fault_server.serve("/r/one/", leaf)
    fault_server.serve("/r/two/", failure(403))
    assert fs.find(root) == [root + "one/x"]
    fault_server.serve("/r/two/", failure(503))
    with pytest.raises(getm.HTTPStatusError, match="503"):
        fs.find(root)


def test_listings_are_kept_only_where_that_is_asked_for(root: str, nginx: NginxServer) -> None:
    keeps = fsspec.filesystem("getm+http", use_listings_cache=True)
    for fs, count in ((keeps, 1), (fsspec.filesystem("getm+http"), 2)):
        mark = nginx.log.mark()
        assert fs.ls(root) == fs.ls(root)
        assert len(nginx.log.since(mark)) == count
    keeps.invalidate_cache()
    mark = nginx.log.mark()
    keeps.ls(root)
    assert len(nginx.log.since(mark)) == 1


# What there is --------------------------------------------------------------------------------------------------------


def test_info_has_what_a_head_tells(fs: GetmFileSystem, nginx: NginxServer) -> None:
    served = nginx.objects.make(5000)
    url = nginx.declared_url(served, sha256=served.sha256_hex, etag="v1")
    mark = nginx.log.mark()
    info = fs.info(url)
    assert [(each.method, each.body_bytes) for each in nginx.log.since(mark)] == [("HEAD", 0)]
    modified = datetime.fromtimestamp(int(served.path.stat().st_mtime), UTC)
    assert info == {
        "name": url,
        "size": 5000,
        "type": "file",
        "url": url,
        "mimetype": "application/octet-stream",
        "partial": True,
        "ETag": '"v1"',
        "Last-Modified": modified.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "last_modified": modified,
        "checksums": {"sha256": served.sha256_hex},
    }
    assert (fs.size(url), fs.modified(url)) == (5000, modified)
    with pytest.raises(NotImplementedError):
        fs.created(url)


def test_kinds(fs: GetmFileSystem, root: str) -> None:
    assert fs.isdir(root) and fs.isdir(root[:-1]) and not fs.isdir(root + "a.bin") and not fs.isdir(root + "nothing")
    assert fs.isfile(root + "a.bin") and not fs.isfile(root) and not fs.isfile(root + "nothing")
    assert fs.exists(root) and fs.exists(root + "a.bin") and not fs.exists(root + "nothing")


@pytest.mark.parametrize("status", (401, 403))
def test_what_a_server_refuses_exists_for_nobody_who_is_not_strict(
    status: int, fs: GetmFileSystem, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", failure(status))
    assert not fs.exists(url)
    for call in (fs.info, fs.cat, lambda url: fs.exists(url, strict=True), lambda url: fs.open(url)):
        with pytest.raises(PermissionError, match=str(status)):
            call(url)


def test_a_failure_is_not_taken_for_an_absence(fs: GetmFileSystem, fault_server: FaultServer) -> None:
    with pytest.raises(getm.HTTPStatusError, match="500"):
        fs.exists(fault_server.serve("/x", failure(500)))


def test_keys_change_with_the_file(fs: GetmFileSystem, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=DATA), Reply(body=DATA), Reply(body=DATA, etag='"v2"'))
    first = fs.ukey(url)
    assert fs.ukey(url) == first != fs.ukey(url)
    assert fs.checksum(url) == int(fs.ukey(url), 16)


def test_names_and_parents(fs: GetmFileSystem) -> None:
    assert fs._strip_protocol("getm+https://h/x/") == fs._strip_protocol("https://h/x/") == "https://h/x/"
    assert fs._strip_protocol(["getm+http://h/x"]) == ["http://h/x"]
    assert fs.unstrip_protocol("https://h/x") == fs.unstrip_protocol("getm+https://h/x") == "getm+https://h/x"
    assert fs._parent("https://h/x/y") == fs._parent("https://h/x/y/") == "https://h/x"
    assert fs._parent("https://h/x") == "https://h"
    assert fs._parent("https://h") == ""


# Reading --------------------------------------------------------------------------------------------------------------


def test_cat(fs: GetmFileSystem, root: str) -> None:
    a, b = urls(root, "a.bin", "b.csv")
    assert fs.cat(a) == DATA and type(fs.cat(a)) is bytes
    assert fs.cat([a, b]) == {a: DATA, b: FILES["b.csv"]}
    assert fs.cat(root + "*.csv") == {b: FILES["b.csv"]}
    assert fs.cat(root + "empty") == b""
    with pytest.raises(FileNotFoundError):
        fs.cat(root + "nothing")
    found = fs.cat([a, root + "nothing"], on_error="return")
    assert found[a] == DATA and isinstance(found[root + "nothing"], FileNotFoundError)
    assert list(fs.cat([a, root + "nothing"], on_error="omit")) == [a]


def test_a_query_is_no_pattern(fs: GetmFileSystem, nginx: NginxServer, root: str) -> None:
    mark = nginx.log.mark()
    assert fs.cat(root + "b.csv?v=1") == FILES["b.csv"]
    assert [each.method for each in nginx.log.since(mark)] == ["GET"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        *[(0, 10), (10, None), (None, 10), (-10, None), (-10, -3), (5, -3), (-20, len(DATA) - 5), (7, 7), (9, 3)],
        *[(len(DATA) + 5, None), (0, len(DATA) + 5), (-len(DATA) - 9, None), (None, -1)],
    ],
)
def test_slices_are_those_of_python(start: int | None, end: int | None, fs: GetmFileSystem, root: str) -> None:
    assert fs.cat_file(root + "a.bin", start=start, end=end) == DATA[start:end]


def test_ranges_of_one_file_are_asked_for_together(fs: GetmFileSystem, root: str, nginx: NginxServer) -> None:
    a, b, nothing = urls(root, "a.bin", "b.csv", "nothing")
    mark = nginx.log.mark()
    found = fs.cat_ranges([a, b, a, a, nothing], [0, 1, 100, -5, 0], [10, 3, 120, None, 1])
    assert found[:4] == [DATA[:10], b",y", DATA[100:120], DATA[-5:]]
    assert isinstance(found[4], FileNotFoundError)
    assert sum(each.body_bytes for each in nginx.log.since(mark) if each.status == 206) == 10 + 2 + 20 + 5
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges([a, nothing], 0, 1, on_error="raise")
    mark = nginx.log.mark()
    assert fs.cat_ranges([a, a], [0, 15], [10, 20], max_gap=10) == [DATA[:10], DATA[15:20]]
    assert [each.range for each in nginx.log.since(mark)] == ["bytes=0-19"]
    assert fs.cat_ranges([a, a], 0, 4) == [DATA[:4]] * 2
    with pytest.raises(TypeError):
        fs.cat_ranges(a, 0, 1)
    with pytest.raises(ValueError, match="as many starts"):
        fs.cat_ranges([a], [0, 1], [1, 2])


def test_a_wrong_checksum_is_noticed_and_a_part_is_not_judged(
    fs: GetmFileSystem, fault_server: FaultServer, tmp_path: Path
) -> None:
    wrong = {"x-checksum-sha256": "00" * 32}
    url = fault_server.serve("/x", Reply(body=DATA, headers=wrong))
    with pytest.raises(getm.ChecksumMismatch):
        fs.cat(url)
    with pytest.raises(getm.ChecksumMismatch):
        fs.get(url, str(tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []
    assert fs.cat_file(url, 0, 5) == DATA[:5]


def test_strict_refuses_what_nothing_verified(fault_server: FaultServer, tmp_path: Path) -> None:
    strict = fsspec.filesystem("getm+http", strict=True)
    url = fault_server.serve("/x", Reply(body=DATA))
    with pytest.raises(getm.Unverified):
        strict.cat(url)
    with pytest.raises(getm.Unverified):
        strict.get(url, str(tmp_path / "x"))


def test_headers_go_with_every_request(fault_server: FaultServer, tmp_path: Path) -> None:
    fs = fsspec.filesystem("getm+http", headers={"Authorization": "Bearer 1"})
    url = fault_server.serve("/x", Reply(body=DATA))
    fs.info(url), fs.cat(url), fs.cat_file(url, 1, 2), fs.get(url, str(tmp_path / "x"))
    with fs.open(url) as file:
        file.read(1)
    assert {request.header("Authorization") for request in fault_server.requests} == {"Bearer 1"}


def test_a_session_of_its_own(nginx: NginxServer) -> None:
    served = nginx.objects.make(5000)
    fs = fsspec.filesystem("getm+https", session_options={"cacert": str(nginx.ca_path)})
    assert fs.session is not getm
    try:
        assert fs.cat("getm+" + nginx.url(served, tls=True)) == served.read()
        assert pickle.loads(pickle.dumps(fs)) is fs
    finally:
        fs.session.close()
    with pytest.raises(TypeError, match="nonsense"):
        fsspec.filesystem("getm+https", session_options={"nonsense": 1})


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_file_can_be_sought_in(fs: GetmFileSystem, root: str) -> None:
    with fs.open(root + "a.bin") as file:
        assert file.size == len(DATA) and file.seekable() and not file.writable()
        assert file.read(5) == DATA[:5]
        file.seek(5, 1)
        assert file.read(5) == DATA[10:15]
        file.seek(-5, 2)
        assert file.read() == DATA[-5:] and file.read() == b""
        file.seek(0)
        assert file.read() == DATA and file.tell() == len(DATA)
        assert file.info()["size"] == len(DATA)
    with fs.open(root + "b.csv", "r") as text:
        assert list(text) == ["x,y\n", "1,2\n"]
    with fs.open(root + "empty") as empty:
        assert empty.read() == b""
    with pytest.raises(NotImplementedError, match="only reads"):
        fs.open(root + "a.bin", "wb")
    with pytest.raises(FileNotFoundError):
        fs.open(root + "nothing")


steps = st.one_of(
    st.tuples(st.just("seek"), st.integers(0, len(DATA) + 10), st.just(0)),
    st.tuples(st.just("seek"), st.integers(-len(DATA), 10), st.just(2)),
    st.tuples(st.just("read"), st.one_of(st.integers(0, 3000), st.just(-1))),
    st.tuples(st.just("readline")),
    st.tuples(st.just("tell")),
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, max_size=8), st.sampled_from([None, "readahead"]))
def test_any_steps_give_what_a_file_in_memory_gives(
    fs: GetmFileSystem, root: str, steps: list[tuple[Any, ...]], cache: str | None
) -> None:
    memory = io.BytesIO(DATA)
    with fs.open(root + "a.bin", cache_type=cache, block_size=5000) as file:
        for name, *arguments in steps:
            assert getattr(file, name)(*arguments) == getattr(memory, name)(*arguments), (name, arguments)


@pytest.mark.parametrize("cache", ("none", "bytes", "readahead", "blockcache", "all", "first"))
def test_every_cache_of_fsspec(cache: str, fs: GetmFileSystem, root: str) -> None:
    with fs.open(root + "a.bin", block_size=1000, cache_type=cache) as file:
        for position in (200_000, 0, 999, 1000, len(DATA) - 1500):
            file.seek(position)
            assert file.read(1500) == DATA[position : position + 1500]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=DATA, ranges=False),
        Reply(body=DATA, ranges=False, framing="chunked"),
        Reply(body=DATA, headers={"Accept-Ranges": "none"}, ranges=False),
        Reply(body=DATA, etag=None, last_modified=None),
    ],
    ids=("no ranges", "no length", "says none", "no validator"),
)
def test_servers_that_can_do_less(reply: Reply, fs: GetmFileSystem, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", reply)
    with fs.open(url) as file:
        assert file.read(5) + file.read() == DATA
    assert fs.cat(url) == DATA and fs.cat_file(url, 5, 10) == DATA[5:10] and fs.cat_file(url, -5, -2) == DATA[-5:-2]


def test_a_server_that_says_zero_to_head(fs: GetmFileSystem, fault_server: FaultServer) -> None:
    zero = Reply(body=b"")
    url = fault_server.serve("/x", lambda request: zero if request.method == "HEAD" else Reply(body=DATA))
    with fs.open(url) as file:
        assert file.read() == DATA


@pytest.mark.parametrize("cache", (None, "readahead"))
def test_a_file_that_is_replaced_while_it_is_open(
    cache: str | None, fs: GetmFileSystem, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=DATA))
    with fs.open(url, block_size=100, cache_type=cache) as file:
        assert file.read(10) == DATA[:10]
        fault_server.serve("/x", Reply(body=DATA[::-1], etag='"v2"'))
        file.seek(200_000)
        with pytest.raises(getm.RemoteChanged):
            file.read(10)


def test_opening_a_file_takes_one_small_request(fs: GetmFileSystem, root: str, nginx: NginxServer) -> None:
    mark = nginx.log.mark()
    with fs.open(root + "a.bin") as file:
        assert file.size == len(DATA) and file.read(100) == DATA[:100]
    (asked,) = nginx.log.since(mark)
    assert (asked.method, asked.body_bytes) == ("GET", 64 * 1024)


def test_lines(fs: GetmFileSystem, nginx: NginxServer) -> None:
    lines = [b"%d," % number * (number % 50) + b"\n" for number in range(20_000)]
    url = nginx.url(nginx.objects.write("lines.txt", b"".join(lines)))
    mark = nginx.log.mark()
    with fs.open(url) as file:
        assert file.readline() == lines[0] and file.tell() == len(lines[0])
        assert list(file) == lines[1:]
        assert file.readline() == b""
        file.seek(5)
        assert file.readline(3) == b"".join(lines)[5:8]
    assert sum(each.body_bytes for each in nginx.log.since(mark)) < 1.2 * sum(map(len, lines))


def test_a_mapper(fs: GetmFileSystem, root: str) -> None:
    mapper = fs.get_mapper(root)
    assert sorted(mapper) == sorted(FILES)
    assert mapper["sub/c.bin"] == FILES["sub/c.bin"]
    assert "nothing" not in mapper
    with pytest.raises(KeyError):
        mapper["nothing"]


def test_other_file_systems_build_on_it(root: str, tmp_path: Path) -> None:
    for chain in ("simplecache", "filecache"):
        url = f"{chain}::getm+{root}a.bin"
        with fsspec.open(url, **{chain: {"cache_storage": str(tmp_path / chain)}}) as file:
            assert file.read() == DATA
    reference = {"x": [f"getm+{root}a.bin", 5, 10], "y": "inline"}
    fs = fsspec.filesystem("reference", fo=reference, remote_protocol="getm+http")
    assert (fs.cat("x"), fs.cat("y")) == (DATA[5:15], b"inline")


# Copies ---------------------------------------------------------------------------------------------------------------


def test_get(fs: GetmFileSystem, root: str, tmp_path: Path) -> None:
    fs.get(root + "a.bin", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == DATA
    fs.get(root + "*.csv", str(tmp_path / "some") + "/")
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["b.csv"]
    fs.get(root, str(tmp_path / "tree"), recursive=True)
    copied = {str(path.relative_to(tmp_path / "tree")): path for path in (tmp_path / "tree").rglob("*")}
    assert {name: path.read_bytes() for name, path in copied.items() if path.is_file()} == FILES
    with io.BytesIO() as memory:
        fs.get_file(root + "a.bin", memory)
        assert memory.getvalue() == DATA
    with pytest.raises(FileNotFoundError):
        fs.get(root + "nothing", str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_many_files_are_one_batch(fs: GetmFileSystem, root: str, tmp_path: Path) -> None:
    heard: list[int] = []

    class Counting(fsspec.Callback):  # type: ignore[misc]  # fsspec is not typed
        def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
            heard.append(self.value)

    targets = {name: tmp_path / "new" / str(number) for number, name in enumerate(FILES)}
    callback = Counting()
    fs.get(urls(root, *FILES), [str(path) for path in targets.values()], callback=callback)
    assert {name: path.read_bytes() for name, path in targets.items()} == FILES
    assert callback.size == callback.value == len(FILES) and heard[-1] == len(FILES)
    with pytest.raises(FileNotFoundError, match="nothing"):
        fs.get(urls(root, "a.bin", "nothing"), [str(tmp_path / "a"), str(tmp_path / "b")])
    assert not (tmp_path / "b").exists()


def test_callbacks_hear_of_the_bytes(fs: GetmFileSystem, root: str, tmp_path: Path) -> None:
    callback = fsspec.Callback()
    fs.get_file(root + "a.bin", str(tmp_path / "x"), callback=callback)
    assert (callback.size, callback.value) == (len(DATA), len(DATA))
    callback = fsspec.Callback()
    with io.BytesIO() as memory:
        fs.get_file(root + "a.bin", memory, callback=callback)
    assert (callback.size, callback.value) == (len(DATA), len(DATA))


# Where it runs --------------------------------------------------------------------------------------------------------


async def test_in_a_loop_of_the_callers_own(root: str) -> None:
    fs = fsspec.filesystem("getm+http", asynchronous=True)
    assert await fs._cat_file(root + "a.bin", 5, 10) == DATA[5:10]
    assert await fs._exists(root + "a.bin") and not await fs._exists(root + "nothing")
    found = await asyncio.gather(*[fs._cat_file(root + name) for name in FILES])
    assert found == list(FILES.values())
    assert [path async for path, _, _ in fs._walk(root)] == [root, root + "sub", root + "sub/deep"]


def test_from_many_threads_at_once(fs: GetmFileSystem, root: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: fs.cat(root + "a.bin") == DATA, range(24))) == {True}


def read_in_a_child(url: str, connection: Any) -> None:
    connection.send(fsspec.filesystem("getm+http", retries=0).cat_file(url, 0, 5))
    fsspec.asyn.loop[0].call_soon_threadsafe(fsspec.asyn.loop[0].stop)
    getm.close()


@pytest.mark.parametrize("method", ("fork", "spawn"))
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_processes(method: str, fs: GetmFileSystem, root: str) -> None:
    assert fs.cat_file(root + "a.bin", 0, 5) == DATA[:5]
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=read_in_a_child, args=(root + "a.bin", theirs))
    child.start()
    assert ours.recv() == DATA[:5]
    child.join()
    assert child.exitcode == 0
    ours.close(), theirs.close()
    # The parent's is as it was.
    assert fs.cat_file(root + "a.bin", 5, 10) == DATA[5:10]


def test_pickling(fs: GetmFileSystem, root: str) -> None:
    assert pickle.loads(pickle.dumps(fs)) is fs
    opened = fsspec.open("getm+" + root + "a.bin")
    with pickle.loads(pickle.dumps(opened)) as file:
        assert file.read(3) == DATA[:3]
    with fs.open(root + "a.bin") as file:
        file.seek(7)
        again = pickle.loads(pickle.dumps(file))
        assert again.read(3) == DATA[7:10]
    assert GetmFileSystem.from_json(fs.to_json()) is fs


def test_taking_over_http(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The attribute of the package is a view of what the module has.
    registry: Any = sys.modules["fsspec.registry"]
    for scheme in ("http", "https"):
        # What was there is there again afterwards.
        monkeypatch.setitem(registry._registry, scheme, object)
    register()
    assert type(fsspec.filesystem("https")) is GetmFileSystem
    with fsspec.open(root + "a.bin") as file:
        assert file.read(5) == DATA[:5]
    assert [file.path for file in fsspec.open_files(root + "*.csv")] == urls(root, "b.csv")


def test_fsspec_finds_it_by_its_entry_points() -> None:
    from importlib.metadata import entry_points

    found = {each.name: each.value for each in entry_points(group="fsspec.specs")}
    assert {found[f"getm+{scheme}"] for scheme in ("http", "https")} == {"getm.integrations.fsspec:GetmFileSystem"}


def test_names_that_getm_resolves(
    fs: GetmFileSystem, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import tomllib

    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert {*declared["project"]["entry-points"]["fsspec.specs"]} == {*GetmFileSystem.protocol}
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", fault_server.url(""))
    fault_server.serve("/org/model/resolve/main/x.bin", Reply(body=DATA))
    for name in ("getm+hf://org/model/x.bin", "hf://org/model/x.bin"):
        assert fs.cat(name) == DATA and fs.size(name) == len(DATA)
        with fs.open(name) as file:
            assert file.read() == DATA
    fs.get("hf://org/model/x.bin", str(tmp_path / "x"))
    assert (tmp_path / "x").read_bytes() == DATA


def test_folders_of_names(
    fs: GetmFileSystem, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub = Hub(fault_server, {"a.json": b"{}", "on/b c/ü.bin": b"x", "on/d.bin": b"yy"})
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    root = "hf://org/model"
    assert fs.ls(root, detail=False) == [f"{root}/a.json", f"{root}/on/"]
    assert fs.isdir(root) and fs.isdir(f"{root}/on") and not fs.isdir(f"{root}/a.json")
    assert fs.exists(f"{root}/a.json") and not fs.exists(f"{root}/none") and not fs.exists(f"{root}/none/")
    assert fs.glob(f"{root}/*.json") == [f"{root}/a.json"]
    assert fs.find(f"{root}/on") == [f"{root}/on/b c/ü.bin", f"{root}/on/d.bin"]
    assert fs.info(f"{root}/on") == {"name": f"{root}/on/", "size": None, "type": "directory"}
    with pytest.raises(FileNotFoundError):
        fs.ls(f"{root}/none")
    fs.get(f"{root}/on/", str(tmp_path / "on"), recursive=True)
    assert (tmp_path / "on" / "b c" / "ü.bin").read_bytes() == b"x"


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    for name in [name for name in sys.modules if re.match(r"fsspec\b|getm\.integrations\.fsspec", name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(getm.MissingExtra, match=re.escape('pip install "getm[fsspec]"')):
        importlib.import_module("getm.integrations.fsspec")
