"""Ends what fsspec starts once a process and keeps: its thread, the loop in it, and cached file systems."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec.asyn
from fsspec.spec import AbstractFileSystem


@contextmanager
def ended_afterwards() -> Iterator[None]:
    yield
    for kind in [AbstractFileSystem, *_subclasses(AbstractFileSystem)]:
        kind.clear_instance_cache()
    loop, thread = fsspec.asyn.loop[0], fsspec.asyn.iothread[0]
    fsspec.asyn.reset_lock()
    if loop is not None:
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _subclasses(kind: Any) -> list[Any]:
    found: list[Any] = []
    for child in kind.__subclasses__():
        found += [child, *_subclasses(child)]
    return found
