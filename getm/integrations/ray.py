"""Ray: objects as a datasource of Ray Data, and the workers of a cluster as an executor. Needs `getm[ray]`."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import getm
from getm.core.redact import redact
from getm.errors import InvalidInput, MissingExtra

try:
    import pyarrow
    import ray
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata
except ImportError as _missing:
    raise MissingExtra(f'Ray Data is not installed: pip install "getm[ray]" ({_missing})') from _missing

__all__ = ["GetmDatasource", "executor"]

# Objects that a task reads at once, and after how many bytes their rows are passed on as a block.
_AT_ONCE = 8
_BLOCK_BYTES = 64 * 1024 * 1024

_SCHEMA = pyarrow.schema(
    [
        ("index", pyarrow.int64()),
        ("url", pyarrow.string()),
        ("bytes", pyarrow.large_binary()),
        ("size", pyarrow.int64()),
        ("checksum", pyarrow.string()),
        ("verified", pyarrow.bool_()),
    ]
)


class GetmDatasource(Datasource):
    """Objects as rows of a Ray dataset: their content, and what verified it.

    The columns are "index" (the position in the list), "url" (redacted), "bytes", "size", "checksum" ("ALGORITHM:HEX",
    of what matched; null for none) and "verified". An object that cannot be read, or whose bytes are wrong, ends the
    read with the error.

    Args:
        entries: URLs, or `getm.Entry` values with checksums, mirrors, sizes and headers of their own; their paths are
            not used.
        options: For `getm.urlopen`: `headers`, `timeout`, `retries`, `strict`.

    Raises:
        InvalidInput: An entry is neither.

    Example:
        >>> images = ray.data.read_datasource(getm.integrations.ray.GetmDatasource(urls, strict=True))
        >>> images.map(lambda row: {"url": row["url"], "pixels": decode(row["bytes"])})
    """

    def __init__(self, entries: Iterable[str | getm.Entry], **options: Any) -> None:
        super().__init__()
        if isinstance(entries, str | bytes | getm.Entry):
            raise InvalidInput("entries must be several URLs or getm.Entry values, such as a list")
        self._entries = [getm.Entry(each) if isinstance(each, str) else each for each in entries]
        for entry in self._entries:
            if not isinstance(entry, getm.Entry):
                raise InvalidInput(f"expected a URL or a getm.Entry, got a {type(entry).__name__}")
        self._options = options

    def get_name(self) -> str:
        """The name of the read tasks."""
        return "Getm"

    def estimate_inmemory_data_size(self) -> int | None:
        """The sum of the sizes, in bytes; None where one is not known."""
        return _total(self._entries)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Tasks for as many parts of the entries, of about as many bytes each where sizes are known."""
        return [
            _task(first, part, self._options, per_task_row_limit) for first, part in _parts(self._entries, parallelism)
        ]


def _total(entries: Sequence[getm.Entry]) -> int | None:
    total = 0
    for entry in entries:
        if entry.size is None:
            return None
        total += entry.size
    return total


def _parts(entries: Sequence[getm.Entry], count: int) -> Iterator[tuple[int, Sequence[getm.Entry]]]:
    """The entries in order, in so many parts at most, none of them empty; each with the position of its first one."""
    total = _total(entries)
    # Each object costs something beside its bytes.
    costs = [1 if total is None else 2**20 + (entry.size or 0) for entry in entries]
    share, first, cost = sum(costs) / max(1, count), 0, 0
    for last, each in enumerate(costs, 1):
        before, cost = cost, cost + each
        if last == len(costs) or cost // share > before // share:
            yield first, entries[first:last]
            first = last


def _task(first: int, entries: Sequence[getm.Entry], options: dict[str, Any], row_limit: int | None) -> ReadTask:
    about = BlockMetadata(num_rows=len(entries), size_bytes=_total(entries), input_files=None, exec_stats=None)
    return ReadTask(lambda: _blocks(first, entries, options), about, schema=_SCHEMA, per_task_row_limit=row_limit)


def _blocks(first: int, entries: Sequence[getm.Entry], options: dict[str, Any]) -> Iterator[pyarrow.Table]:
    """In a worker: the rows of the entries, in order, in blocks. `first`: the position of the first one."""
    rows: list[dict[str, Any]] = []
    size = 0
    with getm.Session() as session, ThreadPoolExecutor(_AT_ONCE) as threads:
        reading: deque[Future[dict[str, Any]]] = deque()
        for number, entry in enumerate(entries, first):
            reading.append(threads.submit(_row, session, number, entry, options))
            if len(reading) < _AT_ONCE:
                continue
            rows.append(reading.popleft().result())
            size += rows[-1]["size"]
            if size >= _BLOCK_BYTES:
                yield pyarrow.Table.from_pylist(rows, _SCHEMA)
                rows, size = [], 0
        rows += [each.result() for each in reading]
        yield pyarrow.Table.from_pylist(rows, _SCHEMA)


def _row(session: getm.Session, number: int, entry: getm.Entry, options: dict[str, Any]) -> dict[str, Any]:
    url, mirrors = (entry.provider, ()) if entry.provider is not None else (entry.urls[0], entry.urls[1:])
    own: dict[str, Any] = {"mirrors": mirrors, "headers": {**dict(options.get("headers") or ()), **dict(entry.headers)}}
    if entry.checksums:
        own["checksum"] = entry.checksums
    with session.urlopen(url, **{**options, **own}) as reader:
        content = bytes(reader.read())
        verdict = reader.checksum
    return {
        "index": number,
        "url": redact(entry.urls[0]) if entry.urls else entry.path,
        "bytes": content,
        "size": len(content),
        "checksum": None if verdict.checksum is None else str(verdict.checksum),
        "verified": verdict.verified,
    }


@contextlib.contextmanager
def executor() -> Iterator[Executor]:
    """The workers of the Ray cluster that this process is connected to, as an executor for `download_all`.

    A portion is a task of one CPU. `ray.init()` connects to a cluster, or starts one on this machine.

    Returns:
        A context manager that gives the executor.

    Example:
        >>> with getm.integrations.ray.executor() as workers:
        ...     results = list(getm.download_all(entries, directory="/shared/data", executor=workers))
    """
    yield _Workers()


class _Workers(Executor):
    def __init__(self) -> None:
        # A portion whose worker is lost is divided, and not done again as a whole.
        self._task = ray.remote(num_cpus=1, max_retries=0)(_call)

    @property
    def num_workers(self) -> int:
        """How many tasks the cluster does at once."""
        return int(ray.cluster_resources().get("CPU", 1))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        reference = self._task.remote(fn, args, kwargs)
        future: Future[Any] = Future()

        def on_done(done: Future[Any]) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if (error := done.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result())

        def on_cancel(cancelled: Future[Any]) -> None:
            if cancelled.cancelled():
                ray.cancel(reference)

        future.add_done_callback(on_cancel)
        reference.future().add_done_callback(on_done)
        return future


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)
