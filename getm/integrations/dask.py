"""Dask: downloads by the workers of a cluster, and blocks of objects as delayed values. Needs `getm[dask]`."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

import getm
from getm.batch.portions import LiveExecutor, Tell, stop_portions
from getm.errors import InvalidInput, MissingExtra, RemoteChanged

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["executor", "read_bytes", "read_ranges"]

# How long a scheduler may take to answer.
_CONNECT_S = 10
# How long stopping workers may take.
_STOP_S = 5
# By which workers tell how far they are. One for all calls, since a scheduler keeps the last messages of each topic.
_TOPIC = "getm"
_LOCAL = re.compile(r"local(?::([1-9][0-9]{0,3}))?")


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingExtra(f'Dask is not installed: pip install "getm[dask]" ({error})') from error
    return distributed


@contextlib.contextmanager
def executor(scheduler: str | Client) -> Iterator[Executor]:
    """The workers of a Dask cluster, as an executor for `download_all`, for the time of a context.

    They tell `on_event` how far large files are, and where the loop over the results is left they stop and keep what
    has arrived. Neither is so with `client.get_executor()`.

    Args:
        scheduler: The scheduler's address, like "tcp://host:8786"; or "local", "local:4": a cluster of so many
            processes on this machine (as many as it has cores), which ends with the context; or a
            `distributed.Client`, which stays open.

    Returns:
        A context manager that gives the executor.

    Raises:
        MissingExtra: Dask is not installed.
        InvalidInput: `scheduler` is none of these, or nothing answers there.

    Example:
        >>> with getm.integrations.dask.executor("tcp://head-node:8786") as workers:
        ...     results = list(getm.download_all(entries, directory="/shared/data", executor=workers))
    """
    if not isinstance(scheduler, str) and callable(getattr(scheduler, "get_executor", None)):
        yield _Workers(scheduler)
        return
    local = _LOCAL.fullmatch(scheduler) if isinstance(scheduler, str) else None
    if local is None and (not isinstance(scheduler, str) or "://" not in scheduler):
        raise InvalidInput(f'expected "tcp://HOST:PORT", "local" or "local:N" as a Dask scheduler, got {scheduler!r}')
    distributed = _distributed()
    with contextlib.ExitStack() as stack:
        if local is not None:
            options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None}
            count = None if local[1] is None else int(local[1])
            with _ignored_ctrl_c():
                cluster = distributed.LocalCluster(n_workers=count, silence_logs=logging.CRITICAL, **options)
            scheduler = stack.enter_context(cluster).scheduler_address
        try:
            client = stack.enter_context(distributed.Client(scheduler, timeout=_CONNECT_S, set_as_default=False))
        except (OSError, ValueError) as error:
            raise InvalidInput(f"no Dask scheduler answers at {scheduler}: {error}") from error
        yield _Workers(client)


class _Workers(LiveExecutor):
    """The workers that a client knows. Portions go to them as Dask's tasks; what they tell comes as its events."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._executor = client.get_executor()

    @property
    def num_workers(self) -> int:
        """How many tasks they do at once."""
        return sum(self._client.nthreads().values())

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = self._executor.submit(fn, *args, **kwargs)
        return future

    def listen(self, call: str, hear: Callable[[bytes], None]) -> Tell:
        _hearing[call] = hear
        self._client.subscribe_topic(_TOPIC, _hear)
        return _tell

    def end(self, call: str) -> None:
        _hearing.pop(call, None)

    def stop(self, call: str, *, wait: bool) -> None:
        def stop() -> None:
            # A worker that does not answer is lost, or will be.
            with contextlib.suppress(Exception):
                self._client.run(stop_portions, call, on_error="ignore")

        # A thread, since the client waits for all of them without a limit.
        thread = threading.Thread(target=stop, daemon=True, name="getm-dask-stop")
        thread.start()
        if wait:
            thread.join(_STOP_S)


# Who hears what is told of a call: a client has one function for a topic, and several calls.
_hearing: dict[str, Callable[[bytes], None]] = {}


def _hear(event: tuple[float, tuple[str, bytes]]) -> None:
    _, (call, told) = event
    if (hear := _hearing.get(call)) is not None:
        hear(told)


def _tell(call: str, told: bytes) -> None:
    """In a worker. All clients that have subscribed to the topic get it."""
    _distributed().get_worker().log_event(_TOPIC, (call, told))


@contextlib.contextmanager
def _ignored_ctrl_c() -> Iterator[None]:
    """A context for starting processes that a Ctrl-C on the terminal is not for: they end with their cluster, and would
    print a traceback each."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def read_bytes(urls: Iterable[str] | str, blocksize: int | None = None, **options: Any) -> list[list[Any]]:
    """Blocks of objects, as delayed values that a worker fetches.

    All blocks of an object are of one version: a block of another one is `RemoteChanged`. Whole objects are verified
    against what their servers declare; blocks are not, since checksums are those of whole objects.

    Args:
        urls: One URL, or several.
        blocksize: Bytes of a block; the last one may be shorter. None: each object is one block.
        options: For `getm.read` and `getm.read_ranges`: `headers`, `timeout`, `retries`.

    Returns:
        For each object its blocks, in order: `dask.delayed` values of `bytes`.

    Raises:
        MissingExtra: Dask is not installed.
        InvalidInput: An argument cannot be used, or the size of an object that is to be divided is not known.
        NetworkError: The size of an object could not be asked for.

    Example:
        >>> blocks = getm.integrations.dask.read_bytes(urls, blocksize=64 * 2**20)
        >>> sizes = dask.compute(*[dask.delayed(len)(block) for each in blocks for block in each])
    """
    _distributed()
    several = [urls] if isinstance(urls, str) else list(urls)
    if blocksize is None:
        return [[_delayed(_whole)(url, options)] for url in several]
    if isinstance(blocksize, bool) or not isinstance(blocksize, int) or blocksize < 1:
        raise InvalidInput(f"blocksize must be a number of bytes above 0, or None, not {blocksize!r}")
    found = []
    for url in several:
        about = getm.info(url, **options)
        if about.size is None:
            raise InvalidInput("its server does not tell the size, so that it cannot be divided: leave out blocksize")
        starts = range(0, about.size, blocksize)
        found.append(_planned(url, [(start, min(start + blocksize, about.size)) for start in starts], about, options))
    return found


def read_ranges(url: str, spans: Iterable[tuple[int, int]], **options: Any) -> list[Any]:
    """Spans of an object, as delayed values that a worker fetches. All are of one version, as for `read_bytes`.

    Args:
        url: The object's URL.
        spans: Half-open spans in bytes, (start, stop).
        options: For `getm.read_ranges`: `headers`, `timeout`, `retries`.

    Returns:
        `dask.delayed` values of `bytes`, in the order of the spans.

    Raises:
        MissingExtra: Dask is not installed.
        NetworkError: The object's version could not be asked for.

    Example:
        >>> header, index = dask.compute(*getm.integrations.dask.read_ranges(url, [(0, 512), (4096, 8192)]))
    """
    _distributed()
    return _planned(url, spans, getm.info(url, **options), options)


def _planned(url: str, spans: Iterable[tuple[int, int]], about: getm.ObjectInfo, options: dict[str, Any]) -> list[Any]:
    return [_delayed(_span)(url, span, (about.size, about.etag), options) for span in spans]


def _delayed(function: Any) -> Any:
    from dask.delayed import delayed

    return delayed(function, pure=True)


def _whole(url: str, options: dict[str, Any]) -> bytes:
    return bytes(getm.read(url, **options))


def _span(url: str, span: tuple[int, int], version: tuple[int | None, str | None], options: dict[str, Any]) -> bytes:
    found = getm.read_ranges(url, [span], **options)
    if (found.version.size, found.version.etag) != version:
        raise RemoteChanged("the object was replaced after its blocks had been planned; plan them again", url=None)
    return bytes(found[0])
