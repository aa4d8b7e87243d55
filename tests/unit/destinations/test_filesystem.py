"""Uploads to a file system of fsspec that fails, or does not keep what was written."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from getm.destinations.filesystem import FileSystemStore, FileUpload
from getm.destinations.store import Origin, Stores
from getm.errors import Cancelled, MissingExtra, TargetError
from getm.integrity.files import checksum

DATA = b"some data"


class Flaky(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012  # as that of its base
    pseudo_dirs = [""]  # noqa: RUF012
    fails: str | None = None
    says: dict[str, Any] = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.replace("flaky://", "memory://"))
        return stripped

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if self.fails == "open" and "w" in mode:
            raise PermissionError("not here")
        if self.fails == "folder" and "w" in mode and not self.isdir(self._parent(path)):
            raise FileNotFoundError(path)
        return super()._open(path, mode, **options)

    def mv(self, *arguments: Any, **options: Any) -> None:
        if self.fails == "mv":
            raise OSError("no room")
        super().mv(*arguments, **options)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        return {**super().info(path, **options), **self.says}


fsspec.register_implementation("flaky", Flaky, clobber=True)


@pytest.fixture
def upload() -> Iterator[FileUpload]:
    url = "flaky://folder/x"
    store = FileSystemStore(url)
    yield store.upload(url, Origin(None, "crc32c"))
    store.close()
    Flaky.store.clear()
    Flaky.pseudo_dirs[:] = [""]
    Flaky.fails, Flaky.says = None, {}


def test_it_is_hidden_until_it_is_committed(upload: FileUpload) -> None:
    upload.send(0, bytearray(DATA))
    (hidden,) = Flaky.store
    assert hidden.startswith("/folder/.x.") and hidden.endswith(".getm-part")
    assert upload.commit(None, [checksum(DATA, "crc32c")]) == checksum(DATA, "crc32c")
    upload.discard()
    assert {path: file.getvalue() for path, file in Flaky.store.items()} == {"/folder/x": DATA}


@pytest.mark.parametrize(("fails", "message"), [("open", "not here"), ("mv", "no room")])
def test_failures_leave_nothing(upload: FileUpload, fails: str, message: str) -> None:
    Flaky.fails = fails
    with pytest.raises(TargetError, match=f"flaky://folder/x failed: {message}") as caught:
        upload.commit(bytearray(DATA), [])
    assert caught.value.path == "flaky://folder/x"
    upload.discard()
    assert not Flaky.store


def test_folders_are_made(upload: FileUpload) -> None:
    Flaky.fails = "folder"
    upload.commit(bytearray(DATA), [])
    assert list(Flaky.store) == ["/folder/x"]


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"size": 3}, "expected 9 bytes, and there are 3"),
        ({"crc32c": base64.b64encode(b"1234").decode()}, "was written, and crc32c:31323334 is there"),
    ],
)
def test_what_is_there_is_not_what_was_written(upload: FileUpload, says: dict[str, Any], message: str) -> None:
    Flaky.says = says
    with pytest.raises(TargetError, match=message):
        upload.commit(bytearray(DATA), [])
    upload.discard()
    assert not Flaky.store


def test_bytes_that_are_not_what_came(upload: FileUpload) -> None:
    with pytest.raises(TargetError, match="damaged"):
        upload.commit(bytearray(DATA), [checksum(b"other", "crc32c")])
    upload.discard()
    assert not Flaky.store


def test_a_cancelled_upload(upload: FileUpload) -> None:
    upload.send(0, bytearray(DATA))
    upload.cancel()
    with pytest.raises(Cancelled):
        upload.send(1, bytearray(DATA))
    upload.discard()
    assert not Flaky.store


def test_a_folder_is_no_object(upload: FileUpload) -> None:
    fsspec.filesystem("flaky").pipe("/folder/x/y", DATA)
    with pytest.raises(TargetError, match="it is a folder"):
        FileSystemStore("flaky://folder/x").find("flaky://folder/x")


def test_a_package_of_its_own() -> None:
    stores = Stores()
    with pytest.raises(MissingExtra, match="pip install gcsfs"):
        stores.of("gs://bucket/x")
    assert stores.of("flaky://a") is stores.of("flaky://b")
    stores.close()
