"""The public object that ties the rooms together: a session, and the functions of a default one."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self, TypedDict, Unpack

from getm import aio, errors, options, reader
from getm.client import EnginePool
from getm.downloads import DownloadResult, Target, needs_order, open_target
from getm.downloads.naming import name_from_headers, name_from_url
from getm.head import Head
from getm.integrity import Checksum, parse_checksum
from getm.options import HeadersInput, Timeout
from getm.redact import host_of
from getm.retry import Retries
from getm.transfer import Transfer
from getm.wire import OpenRequest

ProgressCallback = Callable[[int, int | None], None]
ChecksumInput = str | Checksum | None

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
    `Checksum`, the bytes must match it; None, no verification. `strict`: refuse data that nothing verified. `retries`:
    attempts without progress before an error, or a `Retries`, in place of the session's. `mirrors`: further URLs of the
    same object, asked in the order of their speed where that is known, and where another one fails; `headers` go to
    them, too. Once bytes were delivered, another one goes on only where a checksum verifies the whole.
    """

    headers: HeadersInput | None
    timeout: float | Timeout | None
    checksum: ChecksumInput
    strict: bool
    retries: int | Retries | None
    mirrors: Iterable[str]


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
        for name, value, low in (("processes", processes, 1), ("max_memory", max_memory, 64 * options.KIB)):
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise errors.InvalidInput(f"{name} must be a number from {low} on, not {value!r}")
        self._headers = options.clean_headers(headers)
        self._timeout = Timeout.of(timeout, Timeout())
        self._cacert = None if cacert is None else os.path.abspath(os.fspath(cacert))  # noqa: PTH100
        if self._cacert is not None and not os.path.exists(self._cacert):  # noqa: PTH110
            raise errors.InvalidInput(f"cacert: there is no file or folder {self._cacert}")
        self._retries = Retries.of(retries, Retries())
        self._insecure = insecure
        self._pool = EnginePool(processes, max_memory, options.clean_rate(limit_rate))
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

    def _request(
        self,
        url: str,
        chunk_size: int,
        concurrency: int | None,
        call: CallOptions,
    ) -> Callable[[], Transfer]:
        """Check everything now; the function that comes back sends the request."""
        wire_url = options.clean_url(url)
        concurrency = options.clean_concurrency(concurrency)
        chunk_size = options.clean_chunk_size(chunk_size)
        limits = Timeout.of(call.get("timeout"), self._timeout)
        own = options.clean_headers(call.get("headers"))
        fields = self._headers
        if own:
            replaced = {name.lower() for name, _ in own}
            fields = (*((name, value) for name, value in fields if name.lower() not in replaced), *own)
        mirrors = options.clean_mirrors(call.get("mirrors", ()))
        retries = Retries.of(call.get("retries"), self._retries)
        expected = _expected(call.get("checksum", "auto"))
        environment = _environment()

        def start() -> Transfer:
            channel = self._pool.acquire(chunk_size, concurrency)
            request = OpenRequest(
                url=wire_url,
                headers=fields,
                concurrency=concurrency or 1,
                part_slots=channel.geometry.part_slots,
                checksum=expected,
                strict=call.get("strict", False),
                connect_s=limits.connect_s,
                stall_s=limits.stall_s,
                total_s=limits.total_s,
                floor_bytes_s=limits.floor_bytes_s,
                floor_window_s=limits.floor_window_s,
                retries=retries,
                insecure=self._insecure,
                mirrors=mirrors,
                cacert=self._cacert,
                environment=environment,
            )
            return Transfer(channel, request, self._pool.release)

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
        **call: Unpack[CallOptions],
    ) -> DownloadResult:
        """Bring the object to a file: under a temporary name beside it, verified, then renamed.

        `path` None: a safe name from the response or the URL, in the current folder; a folder: such a name in it. On
        any failure nothing stands at `path` that did not stand there before. `on_progress(done, total)` is called
        with bytes; total is None where it is not known. The other arguments and errors are `urlopen`'s, and
        `TargetError` for what the disk did.
        """
        began = time.monotonic()
        start = self._request(url, options.DEFAULT_CHUNK_BYTES, concurrency, call)
        ordered = needs_order(path)
        transfer = self._open(start)
        try:
            with _target(path, transfer) as target:
                done = 0
                while not transfer.finished:
                    part = transfer.next_part(ordered=ordered)
                    if part is None:
                        if not transfer.finished:
                            reader.wait(transfer)
                        continue
                    target.write(part.offset, part.view)
                    done += len(part.view)
                    # Or the slot would be held until the next part is there.
                    del part
                    if on_progress is not None:
                        on_progress(done, transfer.size)
                target.commit()
                return _result(target, transfer, began)
        finally:
            transfer.close()

    async def adownload(
        self,
        url: str,
        path: str | os.PathLike[str] | None = None,
        *,
        concurrency: int | None = 1,
        on_progress: ProgressCallback | None = None,
        **call: Unpack[CallOptions],
    ) -> DownloadResult:
        """`download` for `await`: the disk is written in the loop's default executor, so the loop is never blocked."""
        began = time.monotonic()
        start = self._request(url, options.DEFAULT_CHUNK_BYTES, concurrency, call)
        ordered = needs_order(path)
        transfer = await _aopen(start)
        try:
            target = await asyncio.to_thread(_target, path, transfer)
            with target:
                done = 0
                while not transfer.finished:
                    part = transfer.next_part(ordered=ordered)
                    if part is None:
                        if not transfer.finished:
                            await aio.wait(transfer)
                        continue
                    done += len(part.view)
                    await _finish_even_if_cancelled(target, part.offset, part.view)
                    del part
                    if on_progress is not None:
                        on_progress(done, transfer.size)
                await asyncio.to_thread(target.commit)
                return _result(target, transfer, began)
        finally:
            transfer.close()

    def _open(self, start: Callable[[], Transfer]) -> Transfer:
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


async def _aopen(start: Callable[[], Transfer]) -> Transfer:
    """`Session._open` for the asynchronous face."""
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


async def _finish_even_if_cancelled(target: Target, offset: int, view: memoryview) -> None:
    """Write in a thread. A cancelled task waits for it: the file may not be closed under a write."""
    writing = asyncio.ensure_future(asyncio.to_thread(target.write, offset, view))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        raise


def _target(path: str | os.PathLike[str] | None, transfer: Transfer) -> Target:
    head = transfer.head
    headers = () if head is None else head.headers
    # The name comes from the URL that was asked for: a redirect's may be a hash in a cache.
    return open_target(path, url=transfer.url, headers=headers, size=transfer.size)


def _result(target: Target, transfer: Transfer, began: float) -> DownloadResult:
    verdict, head = transfer.verdict(), transfer.head
    seconds = time.monotonic() - began
    return DownloadResult(
        path=target.path,
        size=transfer.size or 0,
        checksum=verdict,
        verified=verdict.verified,
        seconds=seconds,
        stats=transfer.stats(),
        url=transfer.url,
        url_host=None if head is None else host_of(head.url),
        validator=None if head is None else Head(head.status, head.url, head.headers).validator(),
        started_at=datetime.now(UTC) - timedelta(seconds=seconds),
    )


def _name(transfer: Transfer) -> str:
    headers = () if transfer.head is None else transfer.head.headers
    return name_from_headers(headers) or name_from_url(transfer.url)


def _environment() -> dict[str, str]:
    """The variables that an engine must know of, as they are now."""
    if _variables.keys().isdisjoint(_ENVIRONMENT):
        return {}
    return {name.decode(): os.fsdecode(value) for name in _ENVIRONMENT if (value := _variables.get(name))}


def _expected(checksum: ChecksumInput) -> str | None:
    """The checksum argument as it goes to the engine: "auto", canonical text, or None."""
    if checksum is None or checksum == "auto":
        return None if checksum is None else "auto"
    if not isinstance(checksum, str | Checksum):
        raise errors.InvalidInput(f'checksum must be "auto", "ALG:VALUE", a Checksum or None, not {checksum!r}')
    return str(checksum if isinstance(checksum, Checksum) else parse_checksum(checksum))


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
