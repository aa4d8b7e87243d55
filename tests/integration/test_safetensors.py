"""Tensors from URLs: what the format's own package loads, over the memory that was fetched, and no more bytes."""

from __future__ import annotations

import gc
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import getm
from getm.integrations.safetensors import load
from getm.testing import FaultServer, Reply
from tests.support.nginx import NginxServer

_RANDOM = np.random.default_rng(11)
_KINDS = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", "c8")
TENSORS: dict[str, Any] = {
    **{f"kind.{kind}": _RANDOM.integers(0, 2, (5, 7)).astype(kind) for kind in _KINDS},
    "scalar": np.array(3.5, dtype="f4"),
    "empty": np.zeros((0, 3), dtype="f4"),
    "large": _RANDOM.random((300, 1000)),
    "larger": _RANDOM.random((700, 1000)),
}
FILE = safetensors.numpy.save(TENSORS, metadata={"format": "np"})


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


@pytest.fixture
def url(nginx: NginxServer) -> str:
    served = nginx.objects.write("model.safetensors", FILE)
    return nginx.declared_url(served, sha256=hashlib.sha256(FILE).hexdigest(), etag="v1")


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_a_whole_file(url: str, session: getm.Session, nginx: NginxServer) -> None:
    mark = nginx.log.mark()
    found = load(url, session=session, strict=True)
    assert_same(found, safetensors.numpy.load(FILE))
    assert len(nginx.log.since(mark)) == 1
    # Views of one memory, which stays as long as one of them does.
    assert not any(array.flags.writeable or array.flags.owndata for array in found.values())
    large = found["large"]
    del found
    gc.collect()
    np.testing.assert_array_equal(large, TENSORS["large"])


def test_some_tensors_cost_their_bytes(url: str, session: getm.Session, nginx: NginxServer) -> None:
    mark = nginx.log.mark()
    found = load(url, ["larger", "scalar", "larger"], session=session)
    assert list(found) == ["larger", "scalar"]
    assert_same(found, {name: TENSORS[name] for name in found})
    asked = nginx.log.since(mark)
    assert {each.status for each in asked} == {206}
    # The first request is for the header, whose length is not known.
    assert sum(each.body_bytes for each in asked) < TENSORS["larger"].nbytes + 256 * 1024 + 64 * 1024


def test_all_names_are_a_whole_file(url: str, session: getm.Session, nginx: NginxServer) -> None:
    wrong = nginx.declared_url(nginx.objects.write("model.safetensors", FILE), sha256="00" * 32, etag="v1")
    for names in (None, list(TENSORS)):
        with pytest.raises(getm.ChecksumMismatch):
            load(wrong, names, session=session)
    assert_same(load(wrong, ["scalar"], session=session), {"scalar": TENSORS["scalar"]})
    with pytest.raises(getm.ChecksumMismatch):
        load(wrong, ["scalar"], strict=True, session=session)
    assert list(load(url, ["scalar"], strict=True, session=session)) == ["scalar"]


def test_a_header_that_the_first_request_does_not_cover(session: getm.Session, nginx: NginxServer) -> None:
    many = {f"a tensor with a long name, number {number}": np.full(3, number) for number in range(5000)}
    url = nginx.url(nginx.objects.write("many.safetensors", safetensors.numpy.save(many)))
    names = [name for name in many if name.endswith("99")]
    assert_same(load(url, names, session=session), {name: many[name] for name in names})


@pytest.mark.parametrize("reply", [{"ranges": False}, {"framing": "chunked", "ranges": False}, {"etag": None}], ids=str)
def test_servers_that_can_do_less(reply: dict[str, Any], session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x.safetensors", Reply(body=FILE, **reply))
    assert_same(load(url, session=session), TENSORS)
    assert_same(load(url, ["scalar", "large"], session=session), {n: TENSORS[n] for n in ("scalar", "large")})


def test_a_file_that_is_replaced_after_its_header_was_read(session: getm.Session, fault_server: FaultServer) -> None:
    new = Reply(body=safetensors.numpy.save(TENSORS | {"large": TENSORS["large"] + 1}), etag='"v2"')
    url = fault_server.serve("/x.safetensors", Reply(body=FILE), new)
    with pytest.raises(getm.RemoteChanged):
        load(url, ["large"], session=session)


def sharded(nginx: NginxServer, weight_map: dict[str, Any] | None = None) -> str:
    """The URL of the index of two files."""
    files: dict[str, dict[str, Any]] = {"one of 2.safetensors": {}, "two.safetensors": {}}
    for number, (name, array) in enumerate(TENSORS.items()):
        files[list(files)[number % 2]][name] = array
    for file, tensors in files.items():
        nginx.objects.write(file, safetensors.numpy.save(tensors))
    found = {name: file for file, tensors in files.items() for name in tensors}
    index = {"metadata": {"total_size": 1}, "weight_map": found if weight_map is None else weight_map}
    return nginx.url(nginx.objects.write("model.safetensors.index.json", json.dumps(index).encode()))


def test_files_by_their_index(session: getm.Session, nginx: NginxServer) -> None:
    index = sharded(nginx)
    assert_same(load(index, session=session), TENSORS)
    mark = nginx.log.mark()
    assert_same(load(index, ["scalar"], session=session), {"scalar": TENSORS["scalar"]})
    # The index, a header, a tensor: nothing of the other file.
    assert len({each.target for each in nginx.log.since(mark)}) == 2
    mark = nginx.log.mark()
    with pytest.raises(getm.InvalidInput, match="there is no tensor 'nothing'"):
        load(index, ["nothing"], session=session)
    assert len(nginx.log.since(mark)) == 1


def test_names_and_providers(
    session: getm.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", fault_server.url(""))
    index = json.dumps({"weight_map": dict.fromkeys(TENSORS, "a b.safetensors")}).encode()
    for name, body in (("model.safetensors.index.json", index), ("a%20b.safetensors", FILE)):
        fault_server.serve(f"/org/model/resolve/main/{name}", Reply(body=body, headers={"ETag": '"1"'}))
    found = load("hf://org/model/model.safetensors.index.json", session=session)
    assert_same(found, TENSORS)
    url = fault_server.url("/org/model/resolve/main/a%20b.safetensors")
    assert_same(load(lambda: url, session=session), TENSORS)
    assert_same(load(["hf://org/model/a b.safetensors"], ["scalar"], session=session), {"scalar": TENSORS["scalar"]})


def test_several_urls(session: getm.Session, nginx: NginxServer) -> None:
    index = sharded(nginx)
    urls = [index.rpartition("/")[0] + name for name in ("/one%20of%202.safetensors", "/two.safetensors")]
    assert_same(load(urls, session=session), TENSORS)
    assert_same(load(urls, ["larger", "scalar"], session=session), {n: TENSORS[n] for n in ("larger", "scalar")})
    with pytest.raises(getm.FormatError, match="in several files"):
        load([urls[0], urls[0]], session=session)
    with pytest.raises(getm.InvalidInput, match="there is no tensor 'nothing'"):
        load(urls, ["scalar", "nothing"], session=session)


@pytest.mark.parametrize(
    "file", ["../x.safetensors", "/etc/passwd", "https://evil.example/x", "a/b", "..", "", r"a\b", 5, None, "a\0"]
)
def test_an_index_leads_nowhere_else(file: Any, session: getm.Session, nginx: NginxServer) -> None:
    index = sharded(nginx, {"a": file})
    mark = nginx.log.mark()
    with pytest.raises(getm.FormatError, match="plain name"):
        load(index, session=session)
    assert len(nginx.log.since(mark)) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"weight_map": []}', b"\xff", b"[" * 100_000])
def test_other_indexes_are_refused(content: bytes, session: getm.Session, nginx: NginxServer) -> None:
    url = nginx.url(nginx.objects.write("bad.safetensors.index.json", content))
    with pytest.raises(getm.FormatError, match="expected the index"):
        load(url, session=session)


@pytest.mark.parametrize("names", [None, ["a"]])
def test_files_that_lie_are_refused(names: list[str] | None, session: getm.Session, nginx: NginxServer) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [99], "data_offsets": [0, 99]}}).encode()
    url = nginx.url(nginx.objects.write("bad.safetensors", len(header).to_bytes(8, "little") + header + b"x"))
    with pytest.raises(getm.FormatError, match="'a': it ends at byte") as caught:
        load(url + "?sig=SECRET", names, session=session)
    assert caught.value.name == "a" and caught.value.url == url
    page = nginx.url(nginx.objects.write("page.safetensors", b"<!DOCTYPE html>"))
    with pytest.raises(getm.FormatError, match="expected a safetensors file"):
        load(page, names, session=session)


def test_numbers_that_numpy_does_not_know(session: getm.Session, nginx: NginxServer) -> None:
    kinds = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"}
    made = {kind: np.arange(1, 9).astype(getattr(ml_dtypes, name)) for kind, name in kinds.items()}
    parts, header, position = [], {}, 0
    for kind, array in made.items():
        parts.append(array.tobytes())
        header[kind] = {"dtype": kind, "shape": [8], "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
    header["half"] = {"dtype": "F4", "shape": [2], "data_offsets": [position, position + 1]}
    text = json.dumps(header).encode()
    url = nginx.url(
        nginx.objects.write("low.safetensors", len(text).to_bytes(8, "little") + text + b"".join(parts) + b"x")
    )
    assert_same(load(url, list(made), session=session), made)
    with pytest.raises(getm.FormatError, match=r"'half'.*F4; leave it out"):
        load(url, session=session)


def test_arguments_are_checked_before_any_request(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.url("/x.safetensors")
    with pytest.raises(getm.InvalidInput, match="framework"):
        load(url, framework="jax", session=session)  # type: ignore[arg-type]  # as a program without types
    with pytest.raises(getm.InvalidInput, match="names"):
        load(url, "embedding", session=session)
    with pytest.raises(getm.InvalidInput):
        load([url, "ftp://data.example.org/x"], session=session)
    assert fault_server.requests == []


def test_headers_and_the_default_session(fault_server: FaultServer) -> None:
    url = fault_server.serve("/x.safetensors", Reply(body=FILE))
    load(url, headers={"Authorization": "Bearer 1"})
    load(url, ["scalar"], headers={"Authorization": "Bearer 1"})
    assert {request.header("Authorization") for request in fault_server.requests} == {"Bearer 1"}


def test_without_its_packages_the_extra_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(getm.MissingExtra, match=r"getm\[safetensors\]"):
        load(url)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(getm.MissingExtra, match='pip install "torch"'):
        load(url, framework="torch")


def test_torch(url: str, session: getm.Session, nginx: NginxServer, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch_file = pytest.importorskip("safetensors.torch")
    tensors = {
        "bf16": torch.arange(12, dtype=torch.bfloat16).reshape(3, 4),
        "f8": torch.arange(5).to(torch.float8_e4m3fn),
        "f32": torch.rand(1000, 300),
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 4),
        "bool": torch.tensor([True, False]),
    }
    content = torch_file.save(tensors)
    other = nginx.url(nginx.objects.write("torch.safetensors", content))
    for names in (None, ["scalar", "bf16"]):
        found = load(other, names, framework="torch", session=session)
        for name in names or tensors:
            assert found[name].dtype == tensors[name].dtype and found[name].shape == tensors[name].shape
            assert torch.equal(found[name].to(torch.float64), tensors[name].to(torch.float64))
    kept = load(other, framework="torch", session=session)["f32"]
    gc.collect()
    assert torch.equal(kept, tensors["f32"])
    assert set(load(url, framework="torch", session=session)) == set(TENSORS)
