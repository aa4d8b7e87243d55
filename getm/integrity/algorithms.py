"""Where each algorithm's code comes from: the standard library, crc32c, and packages that are extras."""

from __future__ import annotations

import importlib
import mmap
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from getm.core.lazy import importing
from getm.errors import InvalidInput, MissingExtra
from getm.integrity.values import DIGEST_BYTES, canonical_algorithm


class Digest(Protocol):
    """What hashlib's objects, blake3's and xxhash's have in common. Large updates release the GIL."""

    def update(self, data: memoryview, /) -> object: ...
    def digest(self) -> bytes: ...


CrcFunction = Callable[[memoryview, int], int]
"""(data, CRC of the bytes before it or 0) -> CRC of both."""

# algorithm -> (module, what pip installs it by, what makes a digest or computes a CRC). Modules are imported on first
# use: most runs need none of them.
_PACKAGES: dict[str, tuple[str, str, str]] = {
    "crc32c": ("crc32c", "crc32c", "crc32c"),
    "crc64nvme": ("anycrc", "anycrc", "Model"),
    "blake3": ("blake3", "getm[blake3]", "blake3"),
    "xxh64": ("xxhash", "getm[xxhash]", "xxh64"),
    "xxh3-64": ("xxhash", "getm[xxhash]", "xxh3_64"),
    "xxh3-128": ("xxhash", "getm[xxhash]", "xxh3_128"),
}


# Processors have instructions for these, which make them faster than memory that comes page by page. No other digest
# gains by `_Paged`: MD5 and SHA-512 are slower than any memory, BLAKE3 and xxHash prefetch by themselves.
_PAGED = frozenset({"sha1", "sha224", "sha256"})

_PAGED_BYTES = 16 * mmap.PAGESIZE
"""What `_Paged` touches at once. Processors prefetch from so many pages; with 64 of them nothing is gained."""


class _Paged:
    """A digest that touches each page before it reads it.

    No processor prefetches across the border of a page, and the SHA instructions leave it little time for that: each
    page would begin with a wait. Reading one byte of each of some pages makes it fetch them all, which takes a quarter
    off the time for what is not in the cache.
    """

    def __init__(self, digest: Digest) -> None:
        self._digest = digest

    def update(self, data: memoryview, /) -> None:
        for start in range(0, data.nbytes, _PAGED_BYTES):
            pages = data[start : start + _PAGED_BYTES]
            pages[:: mmap.PAGESIZE].tobytes()
            self._digest.update(pages)

    def digest(self) -> bytes:
        return self._digest.digest()


def _function(algorithm: str) -> Any:
    """What a package has for the algorithm. Raises `MissingExtra`."""
    module, requirement, name = _PACKAGES[algorithm]
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MissingExtra(
            f'{algorithm} needs the package "{module}", which is not installed: pip install "{requirement}"'
        ) from error


def crc_function(algorithm: str) -> CrcFunction:
    """The CRC function for "crc32", "crc32c" or "crc64nvme"; raises `MissingExtra`.

    zlib and crc32c release the GIL. anycrc does not, but at some 10 GB/s it holds it for about 0.1 ms per MiB.
    """
    if algorithm == "crc32":
        return zlib.crc32
    function = _function(algorithm)
    # Always with an explicit start value: without one, anycrc restarts; with 0 it is the plain CRC.
    crc: CrcFunction = function if algorithm == "crc32c" else function("CRC64-NVME").calc
    return crc


def new_digest(algorithm: str, size: int | None, *, paged: bool = False) -> Digest:
    """A fresh digest object for a canonical algorithm that needs byte order; raises `MissingExtra`.

    `size`: of all the bytes; None where unknown, which "git-blob" cannot do without: it begins with it (Pro Git,
    section 10.2, "Git Objects"). Raises `InvalidInput` then.

    `paged`: for large contiguous views of bytes that are not in the processor's cache, where no other thread keeps the
    interpreter busy: it takes the GIL after each 64 KiB, which a busy thread gives up only after 5 ms.

    "s3-etag" gives the single-part kind, which is MD5. MD5 and SHA-1 are used to detect damage and not for security,
    and requested as such, so that they work on FIPS systems too.
    """
    if algorithm == "s3-etag":
        algorithm = "md5"
    if algorithm == "git-blob":
        if size is None:
            raise InvalidInput("git-blob is a checksum of what has a size that is known before: not of a pipe")
        digest = new_digest("sha1", size, paged=paged)
        digest.update(memoryview(b"blob %d\0" % size))
        return digest
    with importing:
        # Loads OpenSSL, which a process that hashes nothing, such as the command's, need not do.
        import hashlib
    if algorithm in hashlib.algorithms_guaranteed and algorithm not in _PACKAGES:
        plain: Digest = hashlib.new(algorithm, usedforsecurity=False)
        return _Paged(plain) if paged and algorithm in _PAGED else plain
    made: Digest = _function(algorithm)()
    return made


def require_algorithm(name: str) -> str:
    """The canonical name of an algorithm that can be computed here and now.

    Raises `InvalidInput` for an unknown name, and `MissingExtra`, naming the extra, where its package is missing: so a
    caller can refuse before the first request.
    """
    algorithm = canonical_algorithm(name)
    if algorithm in _PACKAGES:
        _function(algorithm)
    return algorithm


def is_available(name: str) -> bool:
    """Whether the package of an algorithm is installed. Raises `InvalidInput` for an unknown name."""
    if name in DIGEST_BYTES and name not in _PACKAGES:
        return True
    try:
        return bool(require_algorithm(name))
    except MissingExtra:
        return False


def available_algorithms() -> tuple[str, ...]:
    """The canonical names of the algorithms that can be computed here, in a fixed order."""
    return tuple(filter(is_available, DIGEST_BYTES))
