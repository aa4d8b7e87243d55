"""Objects to serve: reproducible random bytes in files, made once a run, with the digests that a server may declare."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import crc32c
import numpy as np
import numpy.random  # NumPy imports it on first use, and swallows what a signal's handler raises meanwhile

_BLOCK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class ServedObject:
    """A file under a server's document root. `url_path` is its path in the root location ("/objects/...")."""

    path: Path
    url_path: str
    size_bytes: int

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes [start, stop) as they should arrive; without arguments, all of them."""
        end = self.size_bytes if stop is None else min(stop, self.size_bytes)
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(max(0, end - start))

    def blocks(self, block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
        """The bytes in order, in pieces: for objects that should not be in memory twice."""
        with self.path.open("rb") as file:
            while block := file.read(block_bytes):
                yield block

    def _digest(self, make: Callable[[], hashlib._Hash]) -> hashlib._Hash:
        digest = make()
        for block in self.blocks():
            digest.update(block)
        return digest

    @cached_property
    def md5(self) -> bytes:
        return self._digest(hashlib.md5).digest()

    @cached_property
    def sha256(self) -> bytes:
        return self._digest(hashlib.sha256).digest()

    @cached_property
    def crc32c(self) -> bytes:
        """Four bytes, big-endian, as Google Cloud Storage and S3 declare them."""
        value = 0
        for block in self.blocks():
            value = crc32c.crc32c(block, value)
        return value.to_bytes(4, "big")

    @property
    def md5_hex(self) -> str:
        return self.md5.hex()

    @property
    def sha256_hex(self) -> str:
        return self.sha256.hex()

    @property
    def md5_base64(self) -> str:
        return base64.b64encode(self.md5).decode()

    @property
    def sha256_base64(self) -> str:
        return base64.b64encode(self.sha256).decode()

    @property
    def crc32c_base64(self) -> str:
        return base64.b64encode(self.crc32c).decode()


class ObjectStore:
    """Makes objects in `root`/objects and remembers them by size and seed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[tuple[int, int], ServedObject] = {}
        (root / "objects").mkdir(parents=True, exist_ok=True)

    def make(self, size_bytes: int, seed: int = 0) -> ServedObject:
        """`size_bytes` random bytes: the same for the same size and seed, in every run."""
        key = (size_bytes, seed)
        if key not in self._made:
            name = f"{size_bytes}-{seed}.bin"
            generator = np.random.Generator(np.random.SFC64([size_bytes, seed]))
            with (self._root / "objects" / name).open("wb") as file:
                for start in range(0, size_bytes, _BLOCK_BYTES):
                    file.write(generator.bytes(min(_BLOCK_BYTES, size_bytes - start)))
            self._made[key] = ServedObject(self._root / "objects" / name, f"/objects/{name}", size_bytes)
        return self._made[key]

    def write(self, name: str, content: bytes) -> ServedObject:
        """An object of given content, for tests that need particular bytes or a particular name."""
        path = self._root / "objects" / name
        path.write_bytes(content)
        return ServedObject(path, f"/objects/{name}", len(content))

    def add_gzip(self, served: ServedObject) -> bytes:
        """Write the gzip coding that the server's always-coded location sends for `served`; return the coded bytes."""
        coded = gzip.compress(served.read(), compresslevel=1, mtime=0)
        served.path.with_name(served.path.name + ".gz").write_bytes(coded)
        return coded

    def truncate(self, served: ServedObject, kept_bytes: int) -> None:
        """Cut the file in place, so that a server which knows its old size runs out of bytes midway."""
        os.truncate(served.path, kept_bytes)
