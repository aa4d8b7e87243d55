"""Downloads to objects in a store: S3, as moto imitates it, and what fsspec has a file system for."""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

import getm
from getm.core.units import MIB
from getm.destinations import s3 as s3_module
from getm.testing import FaultServer, Reply
from tests.support.command import GETM, refused
from tests.support.command import getm as getm_command
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject
from tests.support.s3_server import BUCKET, S3Server, s3_client

Make = Callable[..., ServedObject]
MEMORY = fsspec.filesystem("memory")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("moto")) as server:
        yield server


class Bucket:
    """What a test sees of the bucket."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def content(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def facts(self, key: str) -> dict[str, Any]:
        facts: dict[str, Any] = self.client.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
        return facts

    @property
    def keys(self) -> list[str]:
        return [each["Key"] for each in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    @property
    def uploads(self) -> list[str]:
        """Keys of multipart uploads that were not completed, nor aborted."""
        return [each["Key"] for each in self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket; this process, and those that it starts, find the store by their environment."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    with s3_client(server.endpoint) as client:
        bucket = Bucket(client)
        yield bucket
        for key in bucket.keys:
            client.delete_object(Bucket=BUCKET, Key=key)
        assert bucket.uploads == []


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    yield
    MEMORY.store.clear()
    MEMORY.pseudo_dirs[:] = [""]


@pytest.mark.parametrize("concurrency", ["auto", 4, None])
def test_round_trip_above_64_mib(
    bucket: Bucket, server: S3Server, nginx: NginxServer, make_object: Make, concurrency: Any
) -> None:
    source = make_object(70 * MIB + 1)
    url = nginx.declared_url(source, repr_digest=f"sha-256=:{base64.b64encode(source.sha256).decode()}:")
    result = getm.download(url, f"s3://{BUCKET}/in/copy.bam", concurrency=concurrency)
    assert (str(result.path), result.path.name, result.size) == (f"s3://{BUCKET}/in/copy.bam", "copy.bam", 70 * MIB + 1)
    assert result.verified and result.checksum.checksum is not None and result.checksum.checksum.algorithm == "sha256"
    crc = getm.Checksum("crc32c", source.crc32c)
    assert crc in result.checksum.computed
    assert hashlib.sha256(bucket.content("in/copy.bam")).digest() == source.sha256
    facts = bucket.facts("in/copy.bam")
    assert (facts["ChecksumCRC32C"], facts["ChecksumType"]) == (crc.base64, "FULL_OBJECT")
    # And back: the store declares what was verified.
    back = server.presigned("in/copy.bam", checksum_mode=True)
    with getm.urlopen(back) as fh:
        assert hashlib.sha256(fh.read()).digest() == source.sha256
        assert fh.checksum.checksum == crc


@pytest.mark.parametrize("size", [0, 1, 100_000, 8 * MIB, 8 * MIB + 1, 20 * MIB])
@pytest.mark.parametrize("chunked", [False, True])
def test_sizes(bucket: Bucket, fault_server: FaultServer, size: int, chunked: bool) -> None:
    body = os.urandom(size)
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    url = fault_server.serve("/x", Reply(body=body, headers=headers, framing="chunked" if chunked else "length"))
    for target in (f"s3://{BUCKET}/x", "memory://folder/x"):
        result = getm.download(url, target)
        assert (str(result.path), result.size) == (target, size)
    assert bucket.content("x") == MEMORY.cat("/folder/x") == body
    facts = bucket.facts("x")
    assert (facts["ContentType"], facts["ContentEncoding"]) == ("text/plain", "gzip")
    assert list(MEMORY.store) == ["/folder/x"]


@pytest.mark.parametrize("size", [1000, 30 * MIB])
def test_bytes_that_are_wrong_leave_nothing(bucket: Bucket, fault_server: FaultServer, size: int) -> None:
    url = fault_server.serve("/x", Reply(body=bytes(size)))
    bucket.client.put_object(Bucket=BUCKET, Key="x", Body=b"before")
    MEMORY.pipe("/x", b"before")
    for target in (f"s3://{BUCKET}/x", "memory://x"):
        with pytest.raises(getm.ChecksumMismatch):
            getm.download(url, target, checksum=f"md5:{'0' * 32}")
    assert bucket.content("x") == MEMORY.cat("/x") == b"before"
    assert list(MEMORY.store) == ["/x"]


def test_a_replaced_object_starts_over(bucket: Bucket, fault_server: FaultServer) -> None:
    old, new = os.urandom(20 * MIB), os.urandom(20 * MIB)
    replies = Reply(body=old, etag='"1"', cut_at=12 * MIB), *[Reply(body=new, etag='"2"')] * 2
    url = fault_server.serve("/x", *replies)
    for target in (f"s3://{BUCKET}/x",):
        getm.download(url, target, retries=getm.Retries(base_s=0.01))
    assert bucket.content("x") == new


def test_names(bucket: Bucket, fault_server: FaultServer) -> None:
    plain = fault_server.serve("/files/plain.bam", Reply(body=b"1"))
    named = fault_server.serve(
        "/files/x", Reply(body=b"2", headers={"Content-Disposition": 'attachment; filename="../named.bam"'})
    )
    assert str(getm.download(plain, f"s3://{BUCKET}/in/").path) == f"s3://{BUCKET}/in/plain.bam"
    assert str(getm.download(plain, f"s3://{BUCKET}").path) == f"s3://{BUCKET}/plain.bam"
    result = getm.download(named, f"s3://{BUCKET}/in/")
    assert (str(result.path), result.suggested_name) == (f"s3://{BUCKET}/in/named.bam", "../named.bam")
    # A name that only the server chose replaces nothing; one that the caller gives does.
    with pytest.raises(getm.TargetError, match="such an object already"):
        getm.download(named, f"s3://{BUCKET}/in/")
    getm.download(named, f"s3://{BUCKET}/in/named.bam")
    assert bucket.keys == ["in/named.bam", "in/plain.bam", "plain.bam"]


def test_an_interrupted_download_leaves_nothing(bucket: Bucket, fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=bytes(40 * MIB), stall_at=30 * MIB, gate=gate))

    def stop(event: getm.Event) -> None:
        if isinstance(event, getm.Progressed) and event.done_bytes >= 29 * MIB:
            while not bucket.uploads:
                # What has come may be sent only now.
                pass
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(getm.download_all([url], directory=f"s3://{BUCKET}", on_event=stop, concurrency=1))
    gate.open()
    assert (bucket.keys, bucket.uploads) == ([], [])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("s3://no-such-bucket/x", "NoSuchBucket.*make the bucket"),
        ("memory://file/x", "failed"),
    ],
)
@pytest.mark.parametrize("size", [1000, 20 * MIB])
def test_a_store_that_refuses(bucket: Bucket, fault_server: FaultServer, target: str, message: str, size: int) -> None:
    MEMORY.pipe("/file", b"a file, and no folder")
    url = fault_server.serve("/x", Reply(body=bytes(size)))
    with pytest.raises(getm.TargetError, match=message) as caught:
        getm.download(url, target)
    assert caught.value.path == target and caught.value.url is not None


def test_a_slow_store_holds_up_the_source_and_no_more(
    bucket: Bucket, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ring is full, and the source silent for longer than it may be: that is no stall."""
    send, held = s3_module.S3Upload.send, threading.Event()
    waiting = threading.Semaphore(0)

    def slow(self: s3_module.S3Upload, number: int, data: bytearray) -> None:
        waiting.release()
        held.wait()
        send(self, number, data)

    monkeypatch.setattr(s3_module.S3Upload, "send", slow)
    monkeypatch.setattr(s3_module.S3Store, "parts_at_once", lambda self, part_bytes: 2)
    # More than four parts, the ring, and what kernels hold of a connection: up to 36 MiB by their defaults.
    body = os.urandom(120 * MIB)
    url = fault_server.serve("/x", Reply(body=body))
    timeout = getm.Timeout(stall_s=1)
    with ThreadPoolExecutor() as pool, getm.Session(timeout=timeout, max_memory=16 * MIB) as session:
        result = pool.submit(session.download, url, f"s3://{BUCKET}/x", concurrency=1)
        # Where it fails before that.
        result.add_done_callback(lambda _: waiting.release(2))
        try:
            for _ in range(2):
                waiting.acquire()
            held.wait(2)
            (request,) = fault_server.requests
            assert request.sent_bytes < len(body) and not result.done()
        finally:
            held.set()
        stats = result.result().stats
        assert stats.stalls == 0 and stats.bottleneck is not None and stats.bottleneck.stage == "store"
    assert bucket.content("x") == body


def test_options_that_cannot_be_kept_to(bucket: Bucket, tmp_path: Path) -> None:
    url = "http://127.0.0.1:1/x"
    for options, word in (({"remote_time": True}, "remote_time"), ({"existing": "repair"}, "repair")):
        with pytest.raises(getm.InvalidInput, match=word):
            getm.download(url, f"s3://{BUCKET}/x", **options)
        with pytest.raises(getm.InvalidInput, match=word):
            list(getm.download_all([url], directory="memory://x/", **options))
    for target in ("https://host/x", "nosuch://host/x", "s3:///x", "s3://b ad/x", "file://host/x"):
        with pytest.raises(getm.InvalidInput):
            getm.download(url, target)
    with pytest.raises(getm.InvalidInput, match="would leave"):
        list(getm.download_all([getm.Entry(url, f"s3://{BUCKET}/x")], directory=tmp_path))


def test_a_missing_package(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getm.destinations.urls.find_spec", lambda name: None)
    with pytest.raises(getm.errors.MissingExtra, match=r'pip install "getm\[s3\]"'):
        getm.download("http://127.0.0.1:1/x", f"s3://{BUCKET}/x")
    with pytest.raises(getm.errors.MissingExtra, match=r'pip install "getm\[fsspec\]"'):
        getm.download("http://127.0.0.1:1/x", "gs://bucket/x")


def test_a_file_has_a_url_too(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=b"data"))
    result = getm.download(url, f"file://{tmp_path}/a%20b", remote_time=True)
    assert result.path == tmp_path / "a b" and result.path.read_bytes() == b"data"


# What is there already ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [f"s3://{BUCKET}/in/", "memory://in/"])
def test_existing(bucket: Bucket, fault_server: FaultServer, tmp_path: Path, folder: str) -> None:
    body = os.urandom(10_000)
    url = fault_server.serve("/x", *[Reply(body=body)] * 10)
    entry = getm.Entry(url, "x", f"md5:{hashlib.md5(body).hexdigest()}", size=len(body))
    receipt = tmp_path / "receipt.jsonl"

    def run(existing: Any, *entries: getm.Entry | str) -> tuple[str | None, str | None, int]:
        """Why it was left, or replaced; and the requests that were made."""
        before = len(fault_server.requests)
        (result,) = getm.download_all(entries or [entry], directory=folder, existing=existing, receipt=receipt)
        assert isinstance(result, getm.DownloadResult) and str(result.path) == f"{folder}x"
        return result.left, result.replaced, len(fault_server.requests) - before

    def spoil(content: bytes) -> None:
        MEMORY.pipe("/in/x", content)
        bucket.client.put_object(Bucket=BUCKET, Key="in/x", Body=content)

    assert run("keep") == run("replace") == (None, None, 1)
    assert run("keep") == ("it exists", None, 0)
    assert run("verify") == ("verified in place by md5 (from caller)", None, 0)
    # By the receipt; by the server, which is asked for what it declares, and declares nothing.
    assert run("verify", url) == ("verified in place by md5 (from receipt)", None, 0)
    receipt.unlink()
    assert run("verify", url) == (None, "nothing says what it should be", 2)
    # By the ETag in the receipt.
    left, replaced, requests = run("update", url)
    assert left is not None and "not modified" in left and (replaced, requests) == (None, 1)
    spoil(body[:-1])
    assert run("verify") == (None, "it has 9,999 bytes, expected 10,000", 1)
    spoil(bytes(10_000))
    left, replaced, requests = run("verify")
    assert left is None and replaced is not None and "md5" in replaced and requests == 1


def test_existing_where_the_server_names_the_object(bucket: Bucket, fault_server: FaultServer) -> None:
    headers = {"Content-Disposition": 'attachment; filename="named.bam"'}
    url = fault_server.serve("/x", *[Reply(body=b"data", headers=headers)] * 10)
    target = f"s3://{BUCKET}/"
    assert getm.download(url, target, existing="keep").left is None
    assert getm.download(url, target, existing="keep").left == "it exists"
    with pytest.raises(getm.TargetError, match="cannot be taken for it"):
        getm.download(url, target, existing="verify", checksum=f"md5:{'0' * 32}")
    assert bucket.keys == ["named.bam"]


# Lists, executors and the command -------------------------------------------------------------------------------------


def test_many_small_objects(bucket: Bucket, fault_server: FaultServer, tmp_path: Path) -> None:
    bodies = {f"/{number:03}": os.urandom(number) for number in range(150)}
    entries = [getm.Entry(fault_server.serve(path, Reply(body=body)), f"a{path}") for path, body in bodies.items()]
    receipt = tmp_path / "receipt.jsonl"
    results = list(getm.download_all(entries, directory=f"s3://{BUCKET}/in", receipt=receipt))
    assert sorted(str(result.path) for result in results) == [f"s3://{BUCKET}/in/a{path}" for path in bodies]
    assert all(bucket.content(f"in/a{path}") == body for path, body in list(bodies.items())[::10])
    assert len(bucket.keys) == 150 and len(receipt.read_text().splitlines()) == 150


@pytest.mark.parametrize("directory", [f"s3://{BUCKET}/in/", f"s3://{BUCKET}"])
def test_an_executor(bucket: Bucket, fault_server: FaultServer, directory: str) -> None:
    urls = [fault_server.serve(f"/{number}", Reply(body=bytes([number]) * 1000)) for number in range(20)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        results = list(getm.download_all(urls, directory=directory, executor=executor))
    prefix = directory.rstrip("/")
    assert sorted(str(result.path) for result in results) == sorted(f"{prefix}/{number}" for number in range(20))
    key = f"{prefix}/7".removeprefix(f"s3://{BUCKET}/")
    assert bucket.content(key) == bytes([7]) * 1000


async def test_in_asyncio(bucket: Bucket, fault_server: FaultServer) -> None:
    body = os.urandom(20 * MIB)
    url = fault_server.serve("/x", Reply(body=body))
    result = await getm.adownload(url, f"s3://{BUCKET}/x")
    assert result.size == len(body) and bucket.content("x") == body


def test_the_command(bucket: Bucket, fault_server: FaultServer, tmp_path: Path) -> None:
    body = os.urandom(9 * MIB)
    url = fault_server.serve("/x", *[Reply(body=body)] * 20)

    def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[bytes]:
        ran = getm_command(*arguments, cwd=tmp_path)
        assert ran.returncode == status, ran
        return ran

    ran = run(url, f"s3://{BUCKET}/in/", "--json", "--receipt", "received.jsonl", "--on-complete", "echo")
    assert bucket.content("in/x") == body
    assert json.loads(ran.stdout)["path"] == f"s3://{BUCKET}/in/x"
    assert ran.stderr.decode().strip() == f"s3://{BUCKET}/in/x"
    assert json.loads((tmp_path / "received.jsonl").read_text())["path"] == f"s3://{BUCKET}/in/x"
    (tmp_path / "list.json").write_text(json.dumps([{"url": url, "filepath": "a/b"}, {"url": url, "filepath": "c"}]))
    run("-m", "list.json", "-d", f"s3://{BUCKET}/list", "--existing=verify", "--receipt", "received.jsonl")
    (tmp_path / "list.json").write_text(json.dumps([{"url": url, "filepath": f"s3://{BUCKET}/own"}]))
    run("-m", "list.json")
    assert bucket.keys == ["in/x", "list/a/b", "list/c", "own"]
    assert b"9,437,184  s3://bucket/dry" in run(url, f"s3://{BUCKET}/dry", "--dry-run").stdout
    ran = run(url, "s3://no-such-bucket/x", status=3)
    assert b"make the bucket" in ran.stderr
    ran = refused("verify", "--receipt", "received.jsonl", "--repair", cwd=tmp_path)
    assert ran.returncode == 2 and b"--existing=verify" in ran.stderr
    for arguments in ((url, f"s3://{BUCKET}/x", "-R"), ("-m", "list.json", "-d", "memory://x")):
        assert refused(*arguments, cwd=tmp_path).returncode == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.json", "received.jsonl"]


def test_a_receipt_verifies_what_is_in_the_store(bucket: Bucket, fault_server: FaultServer, tmp_path: Path) -> None:
    bodies = [os.urandom(1000 + number) for number in range(5)]
    urls = [fault_server.serve(f"/{number}", Reply(body=body)) for number, body in enumerate(bodies)]
    receipt = tmp_path / "receipt.jsonl"
    list(getm.download_all(urls, directory=f"s3://{BUCKET}", receipt=receipt))
    getm.download(urls[0], tmp_path / "file", receipt=receipt)
    ran = getm_command("verify", "--receipt", receipt, "-j", "2", cwd=tmp_path)
    names = [f"s3://{BUCKET}/{number}" for number in range(5)]
    assert ran.returncode == 0
    assert sorted(ran.stdout.decode().splitlines()) == sorted(
        [*(f"{name}: OK" for name in names), f"{tmp_path}/file: OK"]
    )
    bucket.client.put_object(Bucket=BUCKET, Key="1", Body=bytes(1001))
    bucket.client.put_object(Bucket=BUCKET, Key="2", Body=b"short")
    bucket.client.delete_object(Bucket=BUCKET, Key="3")
    ran = getm_command("verify", "--receipt", receipt, "-q", cwd=tmp_path)
    assert ran.returncode == 1
    assert sorted(ran.stdout.decode().splitlines()) == [
        f"{names[1]}: FAILED",
        f"{names[2]}: FAILED",
        f"{names[3]}: FAILED open or read",
    ]
    ran = getm_command("verify", "--receipt", receipt, "-q", "--ignore-missing", cwd=tmp_path)
    assert sorted(ran.stdout.decode().splitlines()) == [f"{names[1]}: FAILED", f"{names[2]}: FAILED"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_no_parts(
    bucket: Bucket, fault_server: FaultServer, tmp_path: Path, number: signal.Signals
) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=bytes(40 * MIB), stall_at=30 * MIB, gate=gate))
    command = [*GETM, "-x1", url, f"s3://{BUCKET}/x", "--progress=json"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line).get("done_bytes", 0) >= 29 * MIB:
                break
        # What has come may be sent only now.
        while not bucket.uploads:
            assert process.poll() is None
        process.send_signal(number)
        rest = process.stderr.read()
    gate.open()
    assert process.returncode == 128 + number
    assert "resume" not in rest
    assert (bucket.keys, bucket.uploads) == ([], [])


@pytest.mark.parametrize("size", [1000, 30 * MIB])
def test_a_store_that_does_not_answer_keeps_nobody(
    bucket: Bucket, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Whoever stops waits for it for a moment, and not until the last of its retries."""
    monkeypatch.setattr("getm.batch.scheduler._STORES_S", 0.2)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    url = fault_server.serve("/x", Reply(body=bytes(size)))
    asked, done = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor() as pool, getm.Session() as session:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")

        def accept() -> None:
            with silent.accept()[0]:
                asked.set()
                done.wait()

        def interrupt(event: getm.Event) -> None:
            asked.wait()
            raise KeyboardInterrupt

        pool.submit(accept)
        try:
            with pytest.raises(KeyboardInterrupt):
                list(session.download_all([url], directory=f"s3://{BUCKET}", on_event=interrupt))
        finally:
            done.set()
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("getm-upload"):
            thread.join()
