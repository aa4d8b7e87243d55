"""Several objects at once in asyncio, hashed as they come: python examples/async_pipeline.py URL

Tasks receive, and threads hash, so that the loop stays free. A queue of a few parts between them bounds memory: where
hashing is slower than the network, it is the network that waits.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys

import getm

NAMES = ("reads.fastq.gz", "table.parquet", "members.zip")


async def receive(url: str, queue: asyncio.Queue[memoryview | None]) -> None:
    async with getm.aiter_content(url) as parts:
        async for part in parts:
            await queue.put(part)
        print(url.rpartition("/")[2], "verified" if parts.checksum.verified else "not verified")
    await queue.put(None)


async def process(url: str) -> tuple[str, str]:
    queue: asyncio.Queue[memoryview | None] = asyncio.Queue(maxsize=4)
    digest = hashlib.sha256()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(receive(url, queue))
        while (part := await queue.get()) is not None:
            await asyncio.to_thread(digest.update, part)
    return url.rpartition("/")[2], digest.hexdigest()


async def main() -> None:
    for name, digest in await asyncio.gather(*(process(sys.argv[1] + name) for name in NAMES)):
        print(digest, name)


asyncio.run(main())
