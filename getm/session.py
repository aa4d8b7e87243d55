"""The public object that ties the rooms together: a session, and the functions of a default one."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import msgspec

from getm import batch, errors, options, reader
from getm.client.pool import EnginePool
from getm.client.receiver import Receiver
from getm.core.retry import Retries
from getm.core.units import KIB, MIB
from getm.core.url import validate_mirrors, validate_url
from getm.events import Event, Failed, Finished, Progressed
from getm.files.names import name_from_headers, name_from_url
from getm.integrity import Checksum, parse_checksum
from getm.manifests import Entry
from getm.options import HeadersInput, Timeout
from getm.protocol.messages import OpenRequest
from getm.results import DownloadFailure, DownloadResult

if TYPE_CHECKING:
    # Loads asyncio, which a synchronous program may do without: imported where it is used.
    from getm import aio

ProgressCallback = Callable[[int, int | None], None]
EventCallback = Callable[[Event], None]
ChecksumInput = str | Checksum | Iterable[str | Checksum] | None

# Of many downloads, larger ones wait until the smaller ones have begun.
_SMALL_FILE_BYTES = 64 * MIB

# What an engine must know of the caller's environment, as it is at the time of the call.
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_ENVIRONMENT = tuple(
    name.encode() for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", *_PROXIES, *(name.upper() for name in _PROXIES))
)
# The dict behind os.environb, where there is one: a miss in os.environb itself raises and catches a KeyError, and ten
# of those were a sixth of what a small object costs in this process.
_variables: Mapping[bytes, bytes] = getattr(os.environb, "_data", os.environb)


class CallOptions(TypedDict, total=False):
    """What every call takes beside its URL.

    `headers`: added to the session's, the same names replacing them. `timeout`: seconds, or a `Timeout`. `checksum`:
    "auto" (default), verify against what the server declares, if anything; "ALG:VALUE" (hex or base64) or a
    `Checksum`, the bytes must match it, or several, all of which they must match; None, no verification. `strict`:
    refuse data that nothing verified. `retries`: attempts without progress before an error, or a `Retries`, in place of
    the session's. `mirrors`: further URLs of the same object, asked in the order of their speed where that is known,
    and where another one fails; `headers` go to them, too. Once bytes were delivered, another one goes on only where a
    checksum verifies the whole.
    """

    headers: HeadersInput | None
    timeout: float | Timeout | None
    checksum: ChecksumInput
    strict: bool
    retries: int | Retries | None
    mirrors: Iterable[str]


class DownloadOptions(CallOptions, total=False):
    """What downloads to disk take beside `CallOptions`.

    `resume`: go on with what an earlier run left, where the server's validator is still the same (default).
    `remote_time`: give the file the modification time that the server tells (Last-Modified). `ranged_from`: objects
    below so many bytes are fetched over one connection, whatever `concurrency` says.
    """

    resume: bool
    remote_time: bool
    ranged_from: int


class BatchDownloadOptions(DownloadOptions, total=False):
    """What many downloads at once take beside `DownloadOptions`.

    `no_clobber`: leave targets that exist as they are (`on_event` hears `Skipped`). `per_host`: connections to one host
    at most, over all downloads and whatever `concurrency` says. `dry_run`: ask for the heads only, and write nothing:
    there are no results, but `on_event` hears a `Started` with each name and size. `mirrors` is refused: an `Entry` has
    its own.
    """

    no_clobber: bool
    per_host: int
    dry_run: bool


class Session:
    """Warm engine processes, their connections and their shared memory, for any number of transfers.

    `processes`: engine processes at most; one is enough for one stream, several share the range requests (and the TLS
    work) of `concurrency=N`. `headers`: sent with each request. `timeout`: seconds, or a `Timeout`. `max_memory`:
    bytes of shared memory over all transfers together. `cacert`: a file or folder of certificates to trust instead of
    the system's (which SSL_CERT_FILE names, if set). `retries`: further attempts without progress before an error, or a
    `Retries`. `limit_rate`: bytes a second over all transfers together, None for no limit; each engine process gets an
    equal share of it, and the thread of `concurrency=None` as much as one of them. `insecure`: certificates are not
    checked, so that whoever sits on the way can read and change everything; only a checksum that came another way
    shows it.

    Thread-safe; each reader or iterator belongs to one thread or task at a time. Raises `InvalidInput` for arguments
    that cannot be used. Engines start on first use and end with `close()`, with the interpreter, or when idle.
    """

    def __init__(
        self,
        *,
        processes: int = 1,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | None = None,
        max_memory: int = options.DEFAULT_MAX_MEMORY,
        cacert: str | os.PathLike[str] | None = None,
        retries: int | Retries = Retries(),  # noqa: B008  # a frozen value
        limit_rate: float | None = None,
        insecure: bool = False,
    ) -> None:
        for name, value, low in (("processes", processes, 1), ("max_memory", max_memory, 64 * KIB)):
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise errors.InvalidInput(f"{name} must be a number from {low} on, not {value!r}")
        self._headers = options.validate_headers(headers)
        self._timeout = Timeout.of(timeout, Timeout())
        self._cacert = None if cacert is None else os.path.abspath(os.fspath(cacert))  # noqa: PTH100
        if self._cacert is not None and not os.path.exists(self._cacert):  # noqa: PTH110
            raise errors.InvalidInput(f"cacert: there is no file or folder {self._cacert}")
        self._retries = Retries.of(retries, Retries())
        # What a call asks for that says no more than its URL.
        self._usual = OpenRequest(
            url="",
            headers=self._headers,
            concurrency=1,
            part_slots=1,
            checksums=(),
            strict=False,
            **_limits(self._timeout),
            retries=self._retries,
            insecure=insecure,
            cacert=self._cacert,
            environment={},
        )
        self._pool = EnginePool(processes, max_memory, options.validate_rate(limit_rate))
        # A session that is dropped without close() must not leave processes behind.
        self._finalizer = weakref.finalize(self, self._pool.close)

    def close(self) -> None:
        """End all transfers and engines of this session. Views stay valid."""
        self._finalizer()

    @property
    def closed(self) -> bool:
        return self._pool.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Opening --------------------------------------------------------------------------------------------------------

    def _open_request(self, url: str, concurrency: int | None, call: CallOptions) -> OpenRequest:
        """Check everything now: what goes to the engine, apart from what depends on the connection it goes over."""
        return msgspec.structs.replace(
            self._usual,
            url=validate_url(url),
            concurrency=options.validate_concurrency(concurrency) or 1,
            environment=_environment(),
            **(self._asked_for(call) if call else {}),
        )

    def _asked_for(self, call: CallOptions) -> dict[str, Any]:
        """The fields of an `OpenRequest` that are not the session's usual ones."""
        fields = _limits(Timeout.of(call.get("timeout"), self._timeout))
        own = options.validate_headers(call.get("headers"))
        if own:
            replaced = {name.lower() for name, _ in own}
            fields["headers"] = (*(pair for pair in self._headers if pair[0].lower() not in replaced), *own)
        fields["checksums"] = _expected(call.get("checksum", "auto"))
        fields["strict"] = call.get("strict", False)
        fields["retries"] = Retries.of(call.get("retries"), self._retries)
        fields["mirrors"] = validate_mirrors(call.get("mirrors", ()))
        return fields

    def _request(self, url: str, chunk_size: int, concurrency: int | None, call: CallOptions) -> Callable[[], Receiver]:
        """Check everything now; the function that comes back sends the request."""
        request = self._open_request(url, concurrency, call)
        chunk_size = options.validate_chunk_size(chunk_size)

        def start() -> Receiver:
            connection = self._pool.acquire(chunk_size, concurrency)
            part_slots = connection.layout.part_slots
            sent = request if part_slots == 1 else msgspec.structs.replace(request, part_slots=part_slots)
            return Receiver(connection, sent, self._pool.release)

        return start

    def urlopen(
        self,
        url: str,
        *,
        concurrency: int | None = 1,
        **call: Unpack[CallOptions],
    ) -> reader.Reader:
        """Open a URL for reading in order; returns once the response's head is there.

        `concurrency`: 1, one request in a background process; N, up to N range requests at once where the server
        grants them; None, the same engine in a thread of this process. The others: see `CallOptions`.

        Raises `InvalidInput` before any request is made, `NetworkError` (and what stands under it) for what the server
        or the network did, `Unverified`, `EngineDied`, `MemoryUnavailable`. Errors name the URL without its query.
        """
        transfer = self._open(self._request(url, options.DEFAULT_CHUNK_BYTES, concurrency, call))
        return reader.Reader(transfer, _name)

    def iter_content(
        self,
        url: str,
        chunk_size: int = options.DEFAULT_CHUNK_BYTES,
        *,
        concurrency: int | None = 1,
        **call: Unpack[CallOptions],
    ) -> reader.ContentIterator:
        """The object in order, as read-only views of `chunk_size` bytes, the last one shorter.

        There is nothing to release: a view's memory is used again once the view, and all made from it, are gone. The
        arguments and errors are `urlopen`'s; `ChecksumMismatch` comes instead of the last view.
        """
        transfer = self._open(self._request(url, chunk_size, concurrency, call))
        return reader.ContentIterator(transfer, chunk_size)

    def iter_content_unordered(
        self,
        url: str,
        chunk_size: int = options.DEFAULT_CHUNK_BYTES,
        *,
        concurrency: int | None = 4,
        **call: Unpack[CallOptions],
    ) -> reader.UnorderedIterator:
        """Pairs of (offset, read-only view) as they arrive, in any order; together they cover the object exactly.

        A view holds about 1 MiB: a whole number of chunks of `chunk_size` bytes. Otherwise as `iter_content`.
        """
        return reader.UnorderedIterator(self._open(self._request(url, chunk_size, concurrency, call)))

    def aiter_content(
        self,
        url: str,
        chunk_size: int = options.DEFAULT_CHUNK_BYTES,
        *,
        concurrency: int | None = 1,
        **call: Unpack[CallOptions],
    ) -> aio.AsyncContentIterator:
        """`iter_content` for `async for`: never blocks the loop, and needs no thread.

        The request is made when the first view is asked for, or on entering it with `async with`.
        """
        from getm import aio

        start = self._request(url, chunk_size, concurrency, call)
        return aio.AsyncContentIterator(lambda: _aopen(start), chunk_size)

    def aiter_content_unordered(
        self,
        url: str,
        chunk_size: int = options.DEFAULT_CHUNK_BYTES,
        *,
        concurrency: int | None = 4,
        **call: Unpack[CallOptions],
    ) -> aio.AsyncUnorderedIterator:
        """`iter_content_unordered` for `async for`."""
        from getm import aio

        start = self._request(url, chunk_size, concurrency, call)
        return aio.AsyncUnorderedIterator(lambda: _aopen(start))

    def read(
        self,
        url: str,
        *,
        concurrency: int | None = 1,
        **call: Unpack[CallOptions],
    ) -> memoryview:
        """The whole object as one read-only view, verified. Arguments and errors are `urlopen`'s.

        No copy where it fits half the ring (8 MiB by default), one copy into memory of its own where it does not.
        """
        with self.urlopen(url, concurrency=concurrency, **call) as fh:
            return fh.read()

    # To disk --------------------------------------------------------------------------------------------------------

    def download(
        self,
        url: str,
        path: str | os.PathLike[str] | None = None,
        *,
        concurrency: int | None = 1,
        on_progress: ProgressCallback | None = None,
        **more: Unpack[DownloadOptions],
    ) -> DownloadResult:
        """Bring the object to a file: under a temporary name beside it, verified, then renamed.

        `path` None: a safe name from the response or the URL, in the current folder; a folder: such a name in it. On
        any failure nothing stands at `path` that did not stand there before; what came is kept beside it, and the next
        call goes on from there where the server's validator is still the same. `on_progress(done, total)` is called
        with bytes, some ten times a second; total is None where it is not known. The other arguments: see
        `DownloadOptions` and `CallOptions`; errors are `urlopen`'s, and `TargetError` for what the disk did.
        """
        start = self._single(url, path, concurrency, more, wants_events=on_progress is not None)
        with contextlib.closing(batch.events(start)) as events:
            for event in events:
                if (result := _heard(event, on_progress)) is not None:
                    return result
        raise errors.ReaderClosed("the session was closed while its data was being read")

    async def adownload(
        self,
        url: str,
        path: str | os.PathLike[str] | None = None,
        *,
        concurrency: int | None = 1,
        on_progress: ProgressCallback | None = None,
        **more: Unpack[DownloadOptions],
    ) -> DownloadResult:
        """`download` for `await`: the disk is written in a thread, so the loop is never blocked."""
        start = self._single(url, path, concurrency, more, wants_events=on_progress is not None)
        async with contextlib.aclosing(batch.aevents(start)) as events:
            async for event in events:
                if (result := _heard(event, on_progress)) is not None:
                    return result
        raise errors.ReaderClosed("the session was closed while its data was being read")

    def download_all(
        self,
        entries: Iterable[Entry | str],
        *,
        jobs: int = batch.DEFAULT_JOBS,
        concurrency: int | None = 1,
        directory: str | os.PathLike[str] | None = None,
        continue_after_error: bool = False,
        on_event: EventCallback | None = None,
        **more: Unpack[BatchDownloadOptions],
    ) -> Iterator[DownloadResult | DownloadFailure]:
        """Bring many objects to files, `jobs` at once, and give their results as they finish.

        `entries`: `getm.Entry` values or URLs; anything iterable, read in the thread of the loop, some hundred entries
        ahead at most (a list that can be read twice has its small files fetched first). `concurrency`: range requests
        at once for each file. `directory`: where relative targets go; none leaves it. A failure stops the rest and is
        raised, unless `continue_after_error`: then it is given as a `DownloadFailure`, and the rest goes on. `on_event`
        hears what happens (`getm.Event`), in the thread of the loop. What was not finished is kept for a later run,
        also when the loop is left early.

        Raises `InvalidInput` for an entry that cannot be used, and what `download` raises.
        """
        start = self._many(entries, jobs, concurrency, directory, continue_after_error, on_event is not None, more)
        return _results(batch.events(start), on_event, continue_after_error)

    def adownload_all(
        self,
        entries: Iterable[Entry | str],
        *,
        jobs: int = batch.DEFAULT_JOBS,
        concurrency: int | None = 1,
        directory: str | os.PathLike[str] | None = None,
        continue_after_error: bool = False,
        on_event: EventCallback | None = None,
        **more: Unpack[BatchDownloadOptions],
    ) -> AsyncIterator[DownloadResult | DownloadFailure]:
        """`download_all` for `async for`: never blocks the loop. `on_event` is called in the loop."""
        start = self._many(entries, jobs, concurrency, directory, continue_after_error, on_event is not None, more)
        return _aresults(batch.aevents(start), on_event, continue_after_error)

    def _disk_request(self, url: str, concurrency: int | None, more: DownloadOptions) -> OpenRequest:
        request = self._open_request(url, concurrency, more)
        ranged_from = more.get("ranged_from", 0)
        return msgspec.structs.replace(request, ranged_from=ranged_from) if ranged_from else request

    def _single(
        self,
        url: str,
        path: str | os.PathLike[str] | None,
        concurrency: int | None,
        more: DownloadOptions,
        *,
        wants_events: bool,
    ) -> Callable[[batch.Post], batch.Batch]:
        call = batch.Call(
            0, None if path is None else os.fspath(path), None, self._disk_request(url, concurrency, more)
        )
        chosen = batch.BatchOptions(jobs=1, concurrency=concurrency, **_batch_options(more))
        return lambda post: batch.Batch([call], self._pool, chosen, post, wants_events=wants_events)

    def _many(
        self,
        entries: Iterable[Entry | str],
        jobs: int,
        concurrency: int | None,
        directory: str | os.PathLike[str] | None,
        continue_after_error: bool,
        wants_events: bool,
        more: BatchDownloadOptions,
    ) -> Callable[[batch.Post], batch.Batch]:
        folder = None if directory is None else os.fspath(directory)
        chosen = batch.BatchOptions(
            jobs=jobs,
            concurrency=concurrency,
            keep_going=continue_after_error,
            **_batch_options(more),
        )

        if more.get("mirrors"):
            raise errors.InvalidInput(
                "mirrors belong to one object: give each entry its own, getm.Entry([url, mirror])"
            )
        # What the entries have in common is checked once.
        common = self._disk_request("http://localhost/", concurrency, more)

        def calls() -> Iterator[batch.Call]:
            for index, entry in _small_first(entries):
                request = _for_entry(entry, common)
                waived = request.checksums is None or not entry.warn_unverified
                yield batch.Call(index, *_place(entry, folder), request, waived)

        return lambda post: batch.Batch(calls(), self._pool, chosen, post, wants_events=wants_events)

    def _open(self, start: Callable[[], Receiver]) -> Receiver:
        """Start a transfer and wait for its head."""
        for last in (False, True):
            try:
                transfer = start()
            except errors.EngineDied:
                # Before it was asked anything: another one is started.
                if last:
                    raise
                continue
            try:
                while not transfer.has_head():
                    transfer.pump(wait=True)
                return transfer
            except BaseException:
                transfer.close()
                if last or not transfer.never_answered:
                    raise
        raise errors.EngineDied("the engine ended twice before it answered")


async def _aopen(start: Callable[[], Receiver]) -> Receiver:
    """`Session._open` for the asynchronous face."""
    from getm import aio

    for last in (False, True):
        try:
            transfer = start()
        except errors.EngineDied:
            if last:
                raise
            continue
        try:
            while not transfer.has_head():
                await aio.readable(transfer)
                transfer.pump(wait=False)
            return transfer
        except BaseException:
            transfer.close()
            if last or not transfer.never_answered:
                raise
    raise errors.EngineDied("the engine ended twice before it answered")


def _batch_options(more: DownloadOptions) -> dict[str, Any]:
    """Those of the options that are the batch's."""
    names = ("resume", "remote_time", "no_clobber", "per_host", "dry_run")
    return {name: value for name in names if (value := more.get(name)) is not None}


def _for_entry(entry: Entry, common: OpenRequest) -> OpenRequest:
    """The request for one entry, whose URLs and headers are checked already: what it says itself goes first."""
    headers, checksums = common.headers, common.checksums
    if entry.headers:
        own = {name.lower() for name, _ in entry.headers}
        headers = (*(pair for pair in headers if pair[0].lower() not in own), *entry.headers)
    if entry.checksums:
        checksums = tuple(map(str, entry.verifiable))
    url, *mirrors = entry.urls
    return msgspec.structs.replace(
        common, url=url, mirrors=tuple(mirrors), headers=headers, checksums=checksums, size=entry.size
    )


def _place(entry: Entry, folder: str | None) -> tuple[str | None, str | None]:
    """The path of an entry's file, as `resolve_target` reads it, and the folder that it may not leave."""
    root = folder if folder is not None or entry.trusted_path else "."
    if entry.path is None:
        # Not None: the name would be absolute, and is shown.
        return f"{folder or '.'}/", root
    target = entry.target(folder)
    return target if folder is None else f"{folder}/{target}", root


def _heard(event: Event, on_progress: ProgressCallback | None) -> DownloadResult | None:
    """What an event of a single download means to its caller. Raises what it failed with."""
    if isinstance(event, Finished):
        return event.result
    if isinstance(event, Failed):
        raise event.error
    if isinstance(event, Progressed) and on_progress is not None:
        on_progress(event.done_bytes, event.total_bytes)
    return None


def _outcome(event: Event) -> DownloadResult | DownloadFailure | None:
    """What an event of many downloads gives to the loop over their results."""
    if isinstance(event, Finished):
        return event.result
    if isinstance(event, Failed):
        return DownloadFailure(event.index, event.url, event.path, event.error)
    return None


def _results(
    events: Generator[Event, None, None], on_event: EventCallback | None, continue_after_error: bool
) -> Iterator[DownloadResult | DownloadFailure]:
    failure: DownloadFailure | None = None
    with contextlib.closing(events):
        for event in events:
            if on_event is not None:
                on_event(event)
            outcome = _outcome(event)
            if isinstance(outcome, DownloadFailure) and not continue_after_error:
                # The batch ends by itself; files that are being finished still come.
                failure = failure or outcome
            elif outcome is not None:
                yield outcome
    if failure is not None:
        raise failure.error


async def _aresults(
    events: AsyncGenerator[Event, None], on_event: EventCallback | None, continue_after_error: bool
) -> AsyncIterator[DownloadResult | DownloadFailure]:
    failure: DownloadFailure | None = None
    async with contextlib.aclosing(events):
        async for event in events:
            if on_event is not None:
                on_event(event)
            outcome = _outcome(event)
            if isinstance(outcome, DownloadFailure) and not continue_after_error:
                failure = failure or outcome
            elif outcome is not None:
                yield outcome
    if failure is not None:
        raise failure.error


def _small_first(entries: Iterable[Entry | str]) -> Iterator[tuple[int, Entry]]:
    """Entries with their positions; where they can be read twice, those known to be large come last: a batch that is
    interrupted has then brought most of its files."""
    once = isinstance(entries, Iterator)
    any_large = False
    for index, given in enumerate(entries):
        entry = _entry_of(given)
        if once or not _is_large(entry):
            yield index, entry
        else:
            any_large = True
    if any_large:
        yield from ((index, entry) for index, entry in enumerate(map(_entry_of, entries)) if _is_large(entry))


def _entry_of(given: Entry | str) -> Entry:
    entry = Entry(given) if isinstance(given, str) else given
    if not isinstance(entry, Entry):
        raise errors.InvalidInput(f"expected a URL or a getm.Entry, got a {type(entry).__name__}")
    return entry


def _is_large(entry: Entry) -> bool:
    return (entry.size or 0) > _SMALL_FILE_BYTES


def _name(transfer: Receiver) -> str:
    headers = () if transfer.head is None else transfer.head.headers
    return name_from_headers(headers) or name_from_url(transfer.url)


def _environment() -> dict[str, str]:
    """The variables that an engine must know of, as they are now."""
    return _decoded(tuple(map(_variables.get, _ENVIRONMENT)))


@lru_cache(maxsize=8)
def _decoded(values: tuple[bytes | None, ...]) -> dict[str, str]:
    return {name.decode(): os.fsdecode(value) for name, value in zip(_ENVIRONMENT, values, strict=True) if value}


def _limits(timeout: Timeout) -> dict[str, Any]:
    """The fields of an `OpenRequest` that are those of a `Timeout`."""
    return {
        "connect_s": timeout.connect_s,
        "stall_s": timeout.stall_s,
        "total_s": timeout.total_s,
        "floor_bytes_s": timeout.floor_bytes_s,
        "floor_window_s": timeout.floor_window_s,
        "tail_s": timeout.tail_s,
    }


def _expected(checksum: ChecksumInput) -> tuple[str, ...] | None:
    """The checksum argument as it goes to the engine; see `OpenRequest.checksums`."""
    if checksum is None or checksum == "auto":
        return None if checksum is None else ()
    if isinstance(checksum, str | Checksum):
        given = [checksum]
    else:
        given = list(checksum) if isinstance(checksum, Iterable) else []
    if not given or not all(isinstance(each, str | Checksum) for each in given):
        raise errors.InvalidInput(
            f'checksum must be "auto", "ALG:VALUE", a Checksum, several of these, or None, not {checksum!r}'
        )
    return tuple(str(each if isinstance(each, Checksum) else parse_checksum(each)) for each in given)


# The default session ------------------------------------------------------------------------------------------------

_default: Session | None = None
_default_lock = threading.Lock()


def default_session() -> Session:
    """The session of the module-level functions; started on first use, and again after `close()`."""
    global _default
    with _default_lock:
        if _default is None or _default.closed:
            _default = Session()
        return _default


def close() -> None:
    """End the default session's transfers and engines. The next call of a module-level function starts new ones."""
    global _default
    with _default_lock:
        session, _default = _default, None
    if session is not None:
        session.close()


def _after_fork_in_child() -> None:
    # Another thread may have held it at the moment of the fork; it does not exist here to release it.
    global _default_lock
    _default_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
