"""The contenders of verify.py: each opens a session that reads URLs, to nowhere or to a file, and verifies them."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from benchmarks.harness.readers import BLOCK_BYTES

Expected = dict[str, dict[str, str]]  # URL -> algorithm -> value, all in hex; "path" -> the file that is served

TOOLS = {"md5": "md5sum", "sha256": "sha256sum"}
ARIA2_NAMES = {"md5": "md5", "sha256": "sha-256"}


class Verifier:
    """Reads whole URLs in a session that stays open. `read(url, check, target)` returns how many bytes came; `check`
    is "none" or algorithms joined by "+", `target` a file's path or None. Raises where the bytes are wrong."""

    def __init__(self, read: Callable[[str, str, str | None], int]) -> None:
        self.read = read


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


def getm(concurrency: int) -> Callable[[Expected], AbstractContextManager[Verifier]]:
    @contextmanager
    def opener(expected: Expected) -> Iterator[Verifier]:
        with import_module("getm").Session() as session:

            def read(url: str, check: str, target: str | None) -> int:
                checksum = [f"{name}:{expected[url][name]}" for name in split(check)] or None
                # strict: what came out as "not verified" would be measured for nothing.
                call = {"concurrency": concurrency, "checksum": checksum, "strict": checksum is not None}
                if target is not None:
                    return int(session.download(url, target, **call).size)
                return sum(map(len, session.iter_content(url, **call)))

            yield Verifier(read)

    return opener


@contextmanager
def aiohttp_inline(expected: Expected) -> Iterator[Verifier]:
    """As most programs do it: every block is hashed, and written, in the loop that receives it."""
    library = import_module("aiohttp")

    async def open_client() -> Any:
        return library.ClientSession()

    with asyncio.Runner(loop_factory=import_module("uvloop").new_event_loop) as runner:
        client = runner.run(open_client())

        async def read(url: str, check: str, target: str | None) -> int:
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
            yield Verifier(lambda url, check, target: runner.run(read(url, check, target)))
        finally:
            runner.run(client.close())


@contextmanager
def curl_tee(expected: Expected) -> Iterator[Verifier]:
    def read(url: str, check: str, target: str | None) -> int:
        script = 'curl -q --noproxy "*" -s "$0"'
        if check == "none":
            script += ' -o "$1"'
        elif target is None:
            script += f" | {TOOLS[check]}"
        else:
            script += f' | tee "$1" | {TOOLS[check]}'
        command = ["/bin/sh", "-c", script, url, target or "/dev/null"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        if check != "none":
            require(done.stdout.split()[0], expected[url][check])
        return Path(expected[url]["path"]).stat().st_size  # the digest says that all of it came

    yield Verifier(read)


@contextmanager
def aria2c(expected: Expected) -> Iterator[Verifier]:
    def read(url: str, check: str, target: str | None) -> int:
        if target is None:
            raise ValueError("aria2c writes files only")
        path = Path(target)
        verified = [f"--checksum={ARIA2_NAMES[check]}={expected[url][check]}"] if check != "none" else []
        options = ["--no-conf", "-q", "--allow-overwrite=true", "--file-allocation=none", "-d", str(path.parent)]
        subprocess.run(["aria2c", *options, *verified, "-o", path.name, url], check=True)
        return path.stat().st_size

    yield Verifier(read)


@contextmanager
def hash_alone(expected: Expected) -> Iterator[Verifier]:
    """The served file from the page cache, hashed by one thread; no network."""

    def read(url: str, check: str, target: str | None) -> int:
        hashing, received = Hashing(split(check)), 0
        buffer = bytearray(BLOCK_BYTES)
        with Path(expected[url]["path"]).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                hashing.update(memoryview(buffer)[:count])
                received += count
        hashing.check(expected[url])
        return received

    yield Verifier(read)


VERIFIERS: dict[str, Callable[[Expected], AbstractContextManager[Verifier]]] = {
    "getm 1": getm(1),
    "getm 4": getm(4),
    "aiohttp inline": aiohttp_inline,
    "curl | tee | sum": curl_tee,
    "aria2c": aria2c,
    "hash alone": hash_alone,
}


def can(contender: str, check: str, target: str | None) -> bool:
    """Whether a contender knows the check and the kind of target."""
    if contender.startswith("getm"):
        return True
    if contender == "curl | tee | sum":
        return check == "none" or check in TOOLS
    if contender == "aria2c":
        return target is not None and (check == "none" or check in ARIA2_NAMES)
    if contender == "hash alone":
        return target is None and check in ("crc32c", "md5", "sha256")
    return check != "s3-etag"
