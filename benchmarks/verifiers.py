"""The contenders of verify.py, each in a process of its own: they read a URL, to nowhere or to a file, and verify it.

The job comes as JSON on standard input, the result goes as JSON to standard output, as in contender.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from benchmarks.contender import measure_stream
from benchmarks.readers import BLOCK_BYTES, AsyncReader, Reader

Expected = dict[str, dict[str, str]]  # URL -> algorithm -> value, all in hex; "path" -> the file that is served
Update = Callable[[Any], object]

TOOLS = {"md5": "md5sum", "sha256": "sha256sum"}
ARIA2_NAMES = {"md5": "md5", "sha256": "sha-256"}


class Hashing:
    """The digests of one read, computed where `update` is called."""

    def __init__(self, algorithms: list[str]) -> None:
        self._crc = 0
        self._digests = {name: hashlib.new(name) for name in algorithms if name != "crc32c"}
        self._crc32c = import_module("crc32c").crc32c if "crc32c" in algorithms else None

    def update(self, block: Any) -> None:
        for digest in self._digests.values():
            digest.update(block)
        if self._crc32c is not None:
            self._crc = self._crc32c(block, self._crc)

    def check(self, expected: dict[str, str]) -> None:
        found = {name: digest.hexdigest() for name, digest in self._digests.items()}
        if self._crc32c is not None:
            found["crc32c"] = f"{self._crc:08x}"
        for name, value in found.items():
            require(value, expected[name])


def require(found: str, expected: str) -> None:
    if found != expected:
        raise RuntimeError(f"expected the checksum {expected}, got {found}")


def split(check: str) -> list[str]:
    return [] if check == "none" else check.split("+")


@contextmanager
def _output(target: str | None) -> Iterator[IO[bytes] | None]:
    if target is None:
        yield None
    else:
        with Path(target).open("wb", buffering=0) as file:
            yield file


def getm(concurrency: int) -> Callable[[str, str | None, Expected], AbstractContextManager[Reader]]:
    """The engine verifies one checksum. A second one, where it is asked for, is computed by the reading loop."""

    @contextmanager
    def opener(check: str, target: str | None, expected: Expected) -> Iterator[Reader]:
        first, others = split(check)[:1], split(check)[1:]
        with import_module("getm").Session() as session:

            def read(url: str) -> int:
                checksum = f"{first[0]}:{expected[url][first[0]]}" if first else None
                # strict: what came out as "not verified" would be measured for nothing.
                call = {"concurrency": concurrency, "checksum": checksum, "strict": checksum is not None}
                if target is not None and not others:
                    return int(session.download(url, target, **call).size)
                hashing, received = Hashing(others), 0
                with _output(target) as file:
                    for part in session.iter_content(url, **call):
                        received += len(part)
                        hashing.update(part)
                        if file is not None:
                            file.write(part)
                hashing.check(expected[url])
                return received

            yield Reader(read)

    return opener


@contextmanager
def aiohttp_inline(check: str, target: str | None, expected: Expected) -> Iterator[Reader]:
    """As most programs do it: every block is hashed, and written, in the loop that receives it."""
    library = import_module("aiohttp")

    async def open_client() -> Any:
        return library.ClientSession()

    with asyncio.Runner(loop_factory=import_module("uvloop").new_event_loop) as runner:
        client = runner.run(open_client())

        async def read(url: str) -> int:
            hashing, received = Hashing(split(check)), 0
            with _output(target) as file:
                async with client.get(url) as response:
                    async for block in response.content.iter_any():
                        received += len(block)
                        hashing.update(block)
                        if file is not None:
                            file.write(block)
            hashing.check(expected[url])
            return received

        try:
            yield AsyncReader(read, runner)
        finally:
            runner.run(client.close())


@contextmanager
def curl_tee(check: str, target: str | None, expected: Expected) -> Iterator[Reader]:
    def read(url: str) -> int:
        script = f'curl -q --noproxy "*" -s "$0" | tee "$1" | {TOOLS[check]}'
        if target is None:
            script = f'curl -q --noproxy "*" -s "$0" | {TOOLS[check]}'
        done = subprocess.run(
            ["/bin/sh", "-c", script, url, target or ""], stdout=subprocess.PIPE, check=True, text=True
        )
        require(done.stdout.split()[0], expected[url][check])
        return Path(expected[url]["path"]).stat().st_size  # the digest says that all of it came

    yield Reader(read)


@contextmanager
def aria2(check: str, target: str | None, expected: Expected) -> Iterator[Reader]:
    if target is None:
        raise LookupError("writes files only")
    path = Path(target)

    def read(url: str) -> int:
        verified = [f"--checksum={ARIA2_NAMES[check]}={expected[url][check]}"] if check != "none" else []
        options = ["--no-conf", "-q", "--allow-overwrite=true", "--file-allocation=none", "-d", str(path.parent)]
        subprocess.run(["aria2c", *options, *verified, "-o", path.name, url], check=True)
        return path.stat().st_size

    yield Reader(read)


@contextmanager
def hash_alone(check: str, target: str | None, expected: Expected) -> Iterator[Reader]:
    """The served file from the page cache, hashed by one thread; no network."""

    def read(url: str) -> int:
        hashing, received = Hashing(split(check)), 0
        buffer = bytearray(BLOCK_BYTES)
        with Path(expected[url]["path"]).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                hashing.update(memoryview(buffer)[:count])
                received += count
        hashing.check(expected[url])
        return received

    yield Reader(read)


VERIFIERS: dict[str, Callable[[str, str | None, Expected], AbstractContextManager[Reader]]] = {
    "getm 1": getm(1),
    "getm 4": getm(4),
    "aiohttp inline": aiohttp_inline,
    "curl | tee | sum": curl_tee,
    "aria2": aria2,
    "hash alone": hash_alone,
}


def can(contender: str, check: str, target: str | None) -> bool:
    """Whether a contender knows the check and the kind of target."""
    if contender.startswith("getm"):
        return True
    if contender == "curl | tee | sum":
        return check in TOOLS
    if contender == "aria2":
        return target is not None and (check == "none" or check in ARIA2_NAMES)
    if contender == "hash alone":
        return check in ("crc32c", "md5", "sha256")
    return check != "s3-etag"


def main() -> None:
    job: dict[str, Any] = json.load(sys.stdin)
    for url in job["expected"]:
        if urlsplit(url).hostname != "127.0.0.1":
            raise ValueError("only the loopback is measured")
    target = job["target"]
    try:
        with VERIFIERS[job["contender"]](job["check"], target, job["expected"]) as reader:
            result: dict[str, Any] = dict(measure_stream(reader, job))
    except (ModuleNotFoundError, FileNotFoundError) as error:
        result = {"why_not": f"not installed: {error}"}
    if target is not None:
        with contextlib.suppress(FileNotFoundError):
            Path(target).unlink()
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
