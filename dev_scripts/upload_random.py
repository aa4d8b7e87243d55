"""Uploads random data to S3 or Google Cloud Storage, and prints its SHA-256. It is made as it is
sent: it may be larger than memory and disk, and the same seed makes the same data.

python dev_scripts/upload_random.py [--seed SEED] s3://BUCKET/KEY|gs://BUCKET/KEY SIZE

SIZE is a number of bytes, or one with a suffix: 100M, 2G, 1T (powers of 1024).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import random
from contextlib import closing
from typing import Any

from getm.core.units import MIB
from getm.destinations.parts import part_bytes

_BLOCK_BYTES = MIB
_SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class RandomData(io.RawIOBase):
    """`size` bytes that depend on `seed` alone. `sha256`: of those that were read."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._random = random.Random(seed)
        self._block = b""
        self._position = 0
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def read(self, count: int | None = -1) -> bytes:
        left = self.size - self._position
        wanted = left if count is None or count < 0 else min(count, left)
        pieces = []
        while wanted:
            if not self._block:
                self._block = self._random.randbytes(_BLOCK_BYTES)
            piece, self._block = self._block[:wanted], self._block[wanted:]
            self.sha256.update(piece)
            pieces.append(piece)
            wanted -= len(piece)
            self._position += len(piece)
        return b"".join(pieces)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("name", metavar="s3://BUCKET/KEY|gs://BUCKET/KEY")
    parser.add_argument("size", metavar="SIZE")
    options = parser.parse_args()
    digits, suffix = options.size[:-1], options.size[-1:].upper()
    size = int(digits) * _SUFFIXES[suffix] if suffix in _SUFFIXES else int(options.size)
    data = RandomData(size, options.seed)
    scheme, _, place = options.name.partition("://")
    bucket, _, key = place.partition("/")
    {"s3": _to_s3, "gs": _to_gs}[scheme](bucket, key, data)
    print(f"sha256:{data.sha256.hexdigest()}")


def _to_s3(bucket: str, key: str, data: RandomData) -> None:
    import boto3  # type: ignore[import-untyped]
    from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]

    with closing(boto3.client("s3")) as client:
        # In at most 10,000 parts.
        config = TransferConfig(multipart_chunksize=part_bytes(0, data.size))
        client.upload_fileobj(data, bucket, key, Config=config)


def _to_gs(bucket: str, key: str, data: RandomData) -> None:
    from google.cloud.storage import Client

    client: Any = Client()
    client.bucket(bucket).blob(key, chunk_size=32 * MIB).upload_from_file(data, size=data.size)
    client.close()


if __name__ == "__main__":
    main()
