"""A session, the object that ties the layers together; the functions of the module are methods of a default one."""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar, overload

import msgspec

from getm import errors, file_object, options, reader
from getm.arguments import (
    can_be_placed,
    collected,
    collector,
    connection_options,
    destination,
    existing_path,
    expected_checksums,
    is_word,
    limits_of,
    logins_of,
    part_of,
    patterns,
    placed,
    receipt_of,
    with_blocks,
)
from getm.batch import event_streams, outcomes
from getm.batch.entries import jobs_of
from getm.batch.event_streams import Preparation, RunningBatch
from getm.batch.job import Job
from getm.batch.reports import Post
from getm.batch.scheduler import Batch
from getm.batch.settings import DEFAULT_PER_HOST, BatchOptions
from getm.client.opening import Opening, open_transfer
from getm.client.parts import ContentParts, UnorderedParts
from getm.client.pool import EnginePool
from getm.core.environment import environment
from getm.core.lazy import importing
from getm.core.spans import MAX_POSITION, Span
from getm.core.units import KIB, MIB
from getm.core.url import validate_mirrors, validate_url
from getm.core.url_path import is_url
from getm.core.validate import (
    refuse,
    validate_bool,
    validate_callback,
    validate_integer,
    validate_number,
)
from getm.core.version import Version
from getm.events import Event
from getm.files.names import follow_link
from getm.integrity.values import Checksum
from getm.manifests.entry import Entry, stands_for_several
from getm.options import DEFAULT_CHUNK_BYTES, HeadersInput, Retries, Timeout
from getm.protocol.messages import OpenRequest
from getm.resolve.request import UnlocatedRequest, locator_for
from getm.results import DownloadFailure, DownloadResult, ObjectInfo, SpanContents
from getm.transfers import aopen_transfer, name_of, object_info, with_transfer

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from typing_extensions import Buffer

    # Loads asyncio, which a synchronous program may do without: imported where it is used.
    from getm import aio
    from getm.client.collected_spans import CollectedSpans
    from getm.files.receipt import Receipt
    from getm.resolve.listing import ListedObject
    from getm.resolve.resource import URLInput
    from getm.shared_object import SharedObject

_T = TypeVar("_T")

# In place of a URL, where each entry has its own.
_NO_URL = "http://localhost/"

# How much of a listing a thread reads before the event loop has some of it: less than a page.
_LISTED_AT_A_TIME = 250


class Session:
    """Engine processes, their connections and their shared memory, kept for any number of transfers.

    Thread-safe; each reader or iterator belongs to one thread or task at a time. Engines start on first use and end
    with `close()`, with the interpreter, or after some idle minutes.

    Args:
        processes: Engine processes at most, which share the range requests (and the TLS work) of `concurrency=N`, and
            the files of `download_all`. "auto": one, a second one for `concurrency=N` over TLS where there are more
            than two cores, and one more where those that there are keep a core busy each.
        headers: Request headers that each request has. Authorization and cookies are not sent on to another host.
        timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for no
            limit.
        max_memory: Bytes of shared memory, over all transfers together. Whole objects that `read` and `shared` return
            are not in it: they may take what the machine has.
        cacert: A file or folder of certificates to trust instead of the system's (which SSL_CERT_FILE names, if set).
        retries: Further attempts in a row without progress before an error, or a `Retries`.
        limit_rate: Bytes a second, over all transfers together; None for no limit. Each engine process gets an equal
            share of it.
        insecure: Do not check certificates: anyone on the network path can read and alter the data.
        cert: A PEM file with a certificate (and the chain above it, perhaps also its key), which is shown to servers
            that ask for one.
        key: A PEM file with its private key; None, the key is in `cert`.
        key_password: The password of an encrypted key.
        auth: A bearer token, or a user name and a password as a pair, for the hosts of the URLs that are given; or a
            mapping of such by hosts ("data.example.org", "data.example.org:8443"), where the key "" stands for the
            hosts of URLs. Sent to that host only: after a redirect to another one, to mirrors, and to where a name
            (drs://) leads, only what a mapping has for that host. Headers, and a login in a URL, come before it.
        netrc: Send the login (Basic authentication) that a netrc file has for exactly the host of a URL: True for
            `$NETRC` or `~/.netrc`, or the file's path. It is not sent after a redirect to another host, nor where the
            URL or the headers have a login. A "default" entry is not used.
        cookies: Send the cookies that this file has for a URL, in Netscape's format (browsers' extensions, `curl -c`
            and wget write it), and none after a redirect to another host. What servers set is not kept.
        resolve: Addresses to connect to in place of what a name resolves to: {"data.example.org:443": "127.0.0.1"}, or
            several of them in a list. TLS still wants the certificate of the name.
        ip_version: 4 or 6: use only addresses of that version; None, both.
        interface: Make all connections over this network interface ("eth0"), or from this address of the machine.
        proxy: The proxy of all requests: "http://HOST:PORT", https, socks5 (names are looked up here) or socks5h (by
            the proxy), with USER:PASSWORD@ before the host where it wants a login; SOCKS by `pip install
            'getm[socks]'`. "environment", what `https_proxy`, `http_proxy` and `all_proxy` say; None, none.
        no_proxy: The hosts for which there is no proxy: names with their subdomains, addresses, networks
            ("10.0.0.0/8"), "*" for all. None, those of the variable `no_proxy`.
        unix_socket: Make all connections to this Unix-domain socket, whatever the host of a URL is.

    Raises:
        InvalidInput: An argument cannot be used.

    Example:
        >>> with getm.Session(headers={"Authorization": "Bearer 0123"}, retries=3) as session:
        ...     data = session.read("https://data.example.org/reads.bam", concurrency=4)
    """

    def __init__(
        self,
        *,
        processes: int | Literal["auto"] = "auto",
        headers: HeadersInput | None = None,
        timeout: float | Timeout | None = Timeout(),  # noqa: B008  # a frozen value
        max_memory: int = options.DEFAULT_MAX_MEMORY,
        cacert: str | os.PathLike[str] | None = None,
        retries: int | Retries = Retries(),  # noqa: B008  # a frozen value
        limit_rate: float | None = None,
        insecure: bool = False,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        key_password: str | None = None,
        auth: str | tuple[str, str] | Mapping[str, str | tuple[str, str]] | None = None,
        netrc: bool | str | os.PathLike[str] = False,
        cookies: str | os.PathLike[str] | None = None,
        resolve: Mapping[str, str | Iterable[str]] | None = None,
        ip_version: Literal[4, 6] | None = None,
        interface: str | None = None,
        proxy: str | Literal["environment"] | None = "environment",
        no_proxy: str | Iterable[str] | None = None,
        unix_socket: str | os.PathLike[str] | None = None,
    ) -> None:
        self._headers = options.validate_headers(headers)
        self._timeout = options.validate_timeout(timeout, Timeout())
        self._retries = Retries.of(retries, Retries())
        if limit_rate is not None:
            limit_rate = validate_number(limit_rate, "limit_rate", "bytes a second", 1, none=", or None for no limit")
        self._pool_arguments = (
            options.validate_processes(processes),
            validate_integer(max_memory, "max_memory", 64 * KIB),
            limit_rate,
        )
        # The request of a call that gives only a URL.
        self._usual = OpenRequest(
            url="",
            headers=self._headers,
            concurrency=1,
            checksums=(),
            strict=False,
            **limits_of(self._timeout),
            custom_retries=None if self._retries == Retries() else self._retries,
            insecure=validate_bool(insecure, "insecure"),
            cacert=None if cacert is None else os.fsencode(existing_path(cacert)),
            environment={},
            connection=connection_options(
                ip_version, interface, resolve, cert, key, key_password, proxy, no_proxy, unix_socket
            ),
        )
        self._logins = logins_of(auth, netrc, cookies)
        self._pool = EnginePool(*self._pool_arguments)
        # A session that is dropped without close() must not leave processes behind. When the interpreter shuts down,
        # the pools close by themselves.
        weakref.finalize(self, self._pool.leave).atexit = False

    def close(self) -> None:
        """End all transfers and engines of this session, and every wait for them. Views stay valid.

        Example:
            >>> session = getm.Session()
            >>> session.close()
        """
        self._pool.close()

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._pool.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a getm.Session cannot be pickled or copied, since its engines belong to this process: make one in each "
            "process, or use the functions of the module (getm.read, getm.download, ...), which can be pickled"
        )

    # Opening --------------------------------------------------------------------------------------------------------

    def urlopen(
        self,
        url: URLInput,
        *,
        concurrency: int | Literal["auto"] | None = 1,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> reader.Reader:
        """Open a URL as a file whose reads are views. Returns once the response's head is there.

        The whole is requested, for programs that read from start to end. `seek` works where the server grants range
        requests; `open` suits programs that mostly seek.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            concurrency: 1, one request in a background process; N, up to N range requests at once where the server
                grants them; "auto", one at first, and more as long as they bring more; None, one request by a thread of
                this process.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match. "auto", what the server declares, if anything; "ALGORITHM:VALUE" (hex
                or base64) or a `Checksum`, or several, all of which must match; None, no verification.
            strict: Refuse bytes that nothing verified.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.

        Returns:
            A reader, which the caller closes (as a context manager).

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`, by the reader's `read`), or nothing verified them,
                with `strict` (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.

        Example:
            >>> with getm.urlopen("https://data.example.org/reads.bam") as fh:
            ...     magic = fh.read(4)
        """
        request = self._open_request(url, concurrency, headers, timeout, checksum, strict, retries, mirrors)
        opening = self._opening(request, DEFAULT_CHUNK_BYTES, concurrency)
        return reader.Reader(open_transfer(opening), name_of, opening.acquire)

    @overload
    def open(
        self,
        url: URLInput,
        mode: Literal["rb"] = "rb",
        *,
        encoding: None = None,
        errors: None = None,
        newline: None = None,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> io.BufferedReader[reader.Reader]: ...
    @overload
    def open(
        self,
        url: URLInput,
        mode: Literal["r", "rt"],
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> io.TextIOWrapper: ...
    def open(
        self,
        url: URLInput,
        mode: Literal["rb", "r", "rt"] = "rb",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> io.BufferedReader[reader.Reader] | io.TextIOWrapper:
        """Open a URL as the built-in `open` opens a file: for what takes a file object, such as pandas or `zipfile`.

        It can be read at any position where the server grants range requests. At first 64 KiB are requested, then what
        is read, and the more ahead the longer reads follow each other. Its `raw` is a `getm.Reader`: `fh.raw.size`,
        `fh.raw.checksum`. What is read from start to end without a seek is verified by what the server declares.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            mode: "rb" for bytes; "r" or "rt" for text.
            encoding: Of text, as in the built-in `open`: None, the locale's.
            errors: Of text: what to do with bytes that are not of the encoding ("strict", "replace", ...).
            newline: Of text: None, every line ends with "\\n"; "", lines end as they do in the object.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match. "auto", what the server declares, if anything; "ALGORITHM:VALUE" (hex
                or base64) or a `Checksum`, or several, all of which must match; None, no verification.
            strict: Refuse bytes that nothing verified: then it can only be read in order.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.

        Returns:
            A buffered reader, whose `read` returns `bytes`, or a text file over it. The caller closes it.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NotSeekable: By `seek` and what follows it: the object can only be read in order.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`, by `read`), or nothing verified them, with `strict`
                (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.

        Example:
            >>> with getm.open("https://data.example.org/notes.txt", "r", encoding="utf-8") as fh:
            ...     for line in fh:
            ...         print(line)
        """
        wrap = file_object.wrapping(mode, encoding, errors, newline)
        request = self._open_request(url, 1, headers, timeout, checksum, strict, retries, mirrors)
        # What is declared of the whole may not be declared with a part of it.
        opening = self._opening_in_parts(request, 0 if strict else file_object.FIRST_BYTES)
        return wrap(reader.Reader(open_transfer(opening), name_of, opening.acquire))

    def iter_content(
        self,
        url: URLInput,
        chunk_size: int | None = DEFAULT_CHUNK_BYTES,
        *,
        concurrency: int | Literal["auto"] | None = 1,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> reader.ContentIterator:
        """Iterate over the object in order, as read-only views of `chunk_size` bytes, the last one shorter.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            chunk_size: Bytes of each part; None, whatever has come.
            concurrency: 1, one request in a background process; N, up to N range requests at once where the server
                grants them; "auto", one at first, and more as long as they bring more; None, one request by a thread of
                this process.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match. "auto", what the server declares, if anything; "ALGORITHM:VALUE" (hex
                or base64) or a `Checksum`, or several, all of which must match; None, no verification.
            strict: Refuse bytes that nothing verified.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.

        Returns:
            An iterator of memoryviews, and a context manager. Nothing to release: the memory of a view is reused once
            the view, and all that was made from it, are gone.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`, in place of the last view), or nothing verified
                them, with `strict` (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.
            SlotsExhausted: The caller keeps views of all slots and asks for more.

        Example:
            >>> for part in getm.iter_content("https://data.example.org/reads.bam"):
            ...     crc = zlib.crc32(part, crc)
        """
        request = self._open_request(url, concurrency, headers, timeout, checksum, strict, retries, mirrors)
        opening = self._opening(request, chunk_size, concurrency)
        transfer = open_transfer(opening)
        return reader.ContentIterator(transfer, ContentParts(transfer, chunk_size))

    def iter_content_unordered(
        self,
        url: URLInput,
        chunk_size: int = DEFAULT_CHUNK_BYTES,
        *,
        concurrency: int | Literal["auto"] | None = 4,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> reader.UnorderedIterator:
        """Iterate over the object as it arrives, in any order: pairs of an offset and a read-only view.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            chunk_size: A part holds about 1 MiB: a whole number of chunks of so many bytes.
            concurrency: 1, one request in a background process; N, up to N range requests at once where the server
                grants them; "auto", one at first, and more as long as they bring more; None, one request by a thread of
                this process.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match. "auto", what the server declares, if anything; "ALGORITHM:VALUE" (hex
                or base64) or a `Checksum`, or several, all of which must match; None, no verification.
            strict: Refuse bytes that nothing verified.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.

        Returns:
            An iterator of (offset in bytes, memoryview), and a context manager. Together they cover the object exactly.
            There is nothing to release, as with `iter_content`.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`, in place of the last view), or nothing verified
                them, with `strict` (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.
            SlotsExhausted: The caller keeps views of all slots and asks for more.

        Example:
            >>> with getm.iter_content_unordered("https://data.example.org/reads.bam") as parts:
            ...     whole = bytearray(parts.size)
            ...     for offset, part in parts:
            ...         whole[offset : offset + len(part)] = part
        """
        request = self._open_request(url, concurrency, headers, timeout, checksum, strict, retries, mirrors)
        opening = self._opening(request, chunk_size, concurrency)
        transfer = open_transfer(opening)
        return reader.UnorderedIterator(transfer, UnorderedParts(transfer))

    def aiter_content(
        self,
        url: URLInput,
        chunk_size: int | None = DEFAULT_CHUNK_BYTES,
        *,
        concurrency: int | Literal["auto"] | None = 1,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> aio.AsyncContentIterator:
        """`iter_content` for `async for`: it never blocks the loop, and needs no thread.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            chunk_size: Bytes of each part; None, whatever has come.
            concurrency: 1, one request in a background process; N, up to N range requests at once where the server
                grants them; "auto", one at first, and more as long as they bring more; None, one request by a thread of
                this process.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match. "auto", what the server declares, if anything; "ALGORITHM:VALUE" (hex
                or base64) or a `Checksum`, or several, all of which must match; None, no verification.
            strict: Refuse bytes that nothing verified.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.

        Returns:
            An asynchronous iterator of memoryviews, and a context manager. The request is made when it is first asked
            for a view, or on entering it.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`, in place of the last view), or nothing verified
                them, with `strict` (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.
            SlotsExhausted: The caller keeps views of all slots and asks for more.

        Example:
            >>> async for part in getm.aiter_content("https://data.example.org/reads.bam"):
            ...     crc = zlib.crc32(part, crc)
        """
        with importing:
            from getm import aio

        request = self._open_request(url, concurrency, headers, timeout, checksum, strict, retries, mirrors)
        opening = self._opening(request, chunk_size, concurrency)
        return aio.AsyncContentIterator(
            partial(aopen_transfer, opening), lambda transfer: ContentParts(transfer, chunk_size)
        )

    def aiter_content_unordered(
        self,
        url: URLInput,
        chunk_size: int = DEFAULT_CHUNK_BYTES,
        *,
        concurrency: int | Literal["auto"] | None = 4,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> aio.AsyncUnorderedIterator:
        """`iter_content_unordered` for `async for`: it never blocks the loop, and needs no thread.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            chunk_size: A part holds about 1 MiB: a whole number of chunks of so many bytes.
            concurrency: 1, one request in a background process; N, up to N range requests at once where the server
                grants them; "auto", one at first, and more as long as they bring more; None, one request by a thread of
                this process.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match. "auto", what the server declares, if anything; "ALGORITHM:VALUE" (hex
                or base64) or a `Checksum`, or several, all of which must match; None, no verification.
            strict: Refuse bytes that nothing verified.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.

        Returns:
            An asynchronous iterator of (offset in bytes, memoryview), and a context manager. The request is made when
            it is first asked for a view, or on entering it.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`, in place of the last view), or nothing verified
                them, with `strict` (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.
            SlotsExhausted: The caller keeps views of all slots and asks for more.

        Example:
            >>> async with getm.aiter_content_unordered("https://data.example.org/reads.bam") as parts:
            ...     whole = bytearray(parts.size)
            ...     async for offset, part in parts:
            ...         whole[offset : offset + len(part)] = part
        """
        with importing:
            from getm import aio

        request = self._open_request(url, concurrency, headers, timeout, checksum, strict, retries, mirrors)
        opening = self._opening(request, chunk_size, concurrency)
        return aio.AsyncUnorderedIterator(partial(aopen_transfer, opening), UnorderedParts)

    def info(
        self,
        url: URLInput,
        *,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        retries: int | Retries | None = None,
    ) -> ObjectInfo:
        """Ask what the server says of an object, without its bytes.

        By a HEAD request; where that is refused (URLs that are signed for GET do) or does not tell the size, by a GET
        of the first byte.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.

        Returns:
            Size, validators, media type and declared checksums, as the server says them at this moment.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP.
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.

        Example:
            >>> about = getm.info("https://data.example.org/reads.bam")
            >>> print(about.size, about.etag, about.checksums)
        """
        transfer = open_transfer(self._asking(url, headers, timeout, retries))
        try:
            return object_info(transfer)
        finally:
            transfer.close()

    async def ainfo(
        self,
        url: URLInput,
        *,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",  # noqa: ASYNC109  # the engine's to keep
        retries: int | Retries | None = None,
    ) -> ObjectInfo:
        """`info` for asyncio: it never blocks the loop, and needs no thread.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.

        Returns:
            Size, validators, media type and declared checksums, as the server says them at this moment.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP.
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.

        Example:
            >>> about = await getm.ainfo("https://data.example.org/reads.bam")
            >>> print(about.size, about.etag, about.checksums)
        """
        transfer = await aopen_transfer(self._asking(url, headers, timeout, retries), lambda transfer: None)
        try:
            return object_info(transfer)
        finally:
            transfer.close()

    def list_objects(
        self,
        name: str,
        *,
        recursive: bool = False,
        include: str | Iterable[str] = (),
        exclude: str | Iterable[str] = (),
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        retries: int | Retries | None = None,
    ) -> Iterator[ListedObject]:
        """List the objects below a prefix, or those that match a pattern.

        Args:
            name: A folder, whose contents are listed ("s3://bucket/in/", "hf://org/model"), an object, or a pattern:
                `*`, `?` and `[...]` stand for characters within one part of a path, `**` for any. What is called
                exactly as the pattern is written matches, too.
            recursive: List everything below, objects only. False: one level, with its folders.
            include: A pattern or several, one of which the path of an object below the folder must match. One without a
                slash is for the name of the file, in any folder; "logs/" is for all that is in folders of that name.
            exclude: A pattern or several that it must not match.
            headers: Request headers, added to the session's; the same names replace them. Where a vendor's library
                makes the requests (s3), they have none of them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.

        Returns:
            An iterator, which requests page by page as it is read. Empty where nothing is found.

        Raises:
            InvalidInput: An argument cannot be used; or, as it is read, a name.
            NetworkError: As it is read: the store refused (`HTTPStatusError`) or cannot be reached; or a lister failed
                (`ResolveFailed`).
            MissingExtra: A package is needed that is not installed.

        Example:
            >>> for listed in getm.list_objects("https://data.example.org/folder/*.bam"):
            ...     print(listed.name, listed.size)
        """
        with importing:
            from getm.client.pages import fetch_page
            from getm.resolve.listing import list_names
            from getm.resolve.names import find_lister
            from getm.resolve.pages import getter

        if not isinstance(name, str):
            refuse("name", 'a name such as "s3://bucket/in/"', name)
        # Checked now, and not with the first request.
        wanted = self._open_request(_NO_URL, 1, headers, timeout, None, False, retries)

        get = getter(wanted, partial(fetch_page, self._pool), self._logins, total_s=wanted.total_s)
        return list_names(
            find_lister(name),
            name,
            get,
            recursive=validate_bool(recursive, "recursive"),
            include=patterns(include, "include"),
            exclude=patterns(exclude, "exclude"),
        )

    def alist_objects(
        self,
        name: str,
        *,
        recursive: bool = False,
        include: str | Iterable[str] = (),
        exclude: str | Iterable[str] = (),
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        retries: int | Retries | None = None,
    ) -> AsyncIterator[ListedObject]:
        """`list_objects` for `async for`: it never blocks the loop. Pages are requested in a thread.

        Args:
            name: A folder, whose contents are listed ("s3://bucket/in/", "hf://org/model"), an object, or a pattern:
                `*`, `?` and `[...]` stand for characters within one part of a path, `**` for any. What is called
                exactly as the pattern is written matches, too.
            recursive: List everything below, objects only. False: one level, with its folders.
            include: A pattern or several, one of which the path of an object below the folder must match. One without a
                slash is for the name of the file, in any folder; "logs/" is for all that is in folders of that name.
            exclude: A pattern or several that it must not match.
            headers: Request headers, added to the session's; the same names replace them. Where a vendor's library
                makes the requests (s3), they have none of them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.

        Returns:
            An asynchronous iterator, which requests page by page as it is read. Empty where nothing is found.

        Raises:
            InvalidInput: An argument cannot be used; or, as it is read, a name.
            NetworkError: As it is read: the store refused (`HTTPStatusError`) or cannot be reached; or a lister failed
                (`ResolveFailed`).
            MissingExtra: A package is needed that is not installed.

        Example:
            >>> async for listed in getm.alist_objects("https://data.example.org/folder/*.bam"):
            ...     print(listed.name, listed.size)
        """
        return _in_a_thread(
            self.list_objects(
                name,
                recursive=recursive,
                include=include,
                exclude=exclude,
                headers=headers,
                timeout=timeout,
                retries=retries,
            )
        )

    def read(
        self,
        url: URLInput,
        *,
        offset: int = 0,
        length: int | None = None,
        concurrency: int | Literal["auto"] | None = "auto",
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> memoryview:
        """Read an object, or a part of it, into one read-only view. A whole object is verified.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            offset: The first byte. Negative: so many bytes before the end, as in a slice (a suffix range).
            length: Bytes, fewer where the object ends before; nothing where it ends before `offset`. None: to the end.
            concurrency: 1, one request in a background process; N, up to N range requests at once where the server
                grants them; "auto", one at first, and more as long as they bring more; None, one request by a thread of
                this process.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match. "auto", what the server declares, if anything; "ALGORITHM:VALUE" (hex
                or base64) or a `Checksum`, or several, all of which must match; None, no verification. Checksums are of
                the whole object, so a part is checked against none.
            strict: Refuse bytes that nothing verified, so any part that is not the whole.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.

        Returns:
            A view that stays valid as long as it is held. A whole object from 1 MiB on is received into memory of its
            own, without a copy; once it is verified, nobody can change that memory any more. A part is not verified
            (`read_ranges` says so for each call); all its bytes are of one version.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`), or nothing verified them, with `strict`
                (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.

        Example:
            >>> array = numpy.frombuffer(getm.read("https://data.example.org/numbers.f64"))
            >>> header = getm.read("https://data.example.org/reads.bam", length=65536)
        """
        request = self._open_request(url, concurrency, headers, timeout, checksum, strict, retries, mirrors)
        span = part_of(offset, length, checksum)
        if span is not None:
            return self._collect(collector([span], 0), placed(request), concurrency, 1)[0]
        transfer = open_transfer(self._opening(placed(request), DEFAULT_CHUNK_BYTES, concurrency))
        try:
            return reader.read_all(transfer)
        finally:
            transfer.close()

    def shared(
        self,
        url: URLInput,
        *,
        once: bool = False,
        concurrency: int | Literal["auto"] | None = "auto",
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> SharedObject:
        """Read the whole object into memory that processes share, and that nobody can change once it is verified.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            once: Of all processes of this user on this machine that ask for one version of the object (by this URL
                without its query, and a strong validator) at about the same time, or while one of them has it, one
                makes the transfer, and the others get its memory. If it is killed, the next one makes it. Objects
                without a strong validator are read by each.
            concurrency: 1, one request in a background process; N, up to N range requests at once where the server
                grants them; "auto", one at first, and more as long as they bring more; None, one request by a thread of
                this process.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match. "auto", what the server declares, if anything; "ALGORITHM:VALUE" (hex
                or base64) or a `Checksum`, or several, all of which must match; None, no verification.
            strict: Refuse bytes that nothing verified.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.

        Returns:
            An object with `view`, `size` and `checksum`, which can be pickled: other processes of the same user map the
            same pages. The caller keeps it until they have it, and may close it (as a context manager).

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`), or nothing verified them, with `strict`
                (`Unverified`).
            MemoryUnavailable: There is not so much memory left; or the system has none that can be shared so: it is
                Linux with memfd_create.
            EngineDied: The background process was killed.
            TargetError: With `once`, the folder in which processes meet cannot be used.

        Example:
            >>> numbers = getm.shared("https://data.example.org/numbers.f64")
            >>> array = numpy.frombuffer(numbers.view)
        """
        request = self._open_request(url, concurrency, headers, timeout, checksum, strict, retries, mirrors)
        validate_bool(once, "once")
        if not can_be_placed():
            raise errors.MemoryUnavailable(
                "this system has no memory that can be sealed and found by other processes (memfd_create of Linux): "
                "download the object to a file, and map that",
                wanted=None,
                available=None,
            )
        opening = self._opening(placed(request, 1), DEFAULT_CHUNK_BYTES, concurrency)
        if not once:
            return self._shared(opening)
        transfer = open_transfer(self._asking(url, headers, timeout, retries, mirrors))
        try:
            version = Version() if transfer.head is None else transfer.head.version
        finally:
            transfer.close()
        if not version.joinable:
            return self._shared(opening)
        with importing:
            from getm.client import single_flight
            from getm.shared_object import SharedObject

        flight = single_flight.Flight(single_flight.key_of(transfer.url, version))
        with flight.taken(request.total_s):
            found = flight.find()
            if found is not None:
                memory, holding = found
                shared = SharedObject(
                    memory, single_flight.verdict_of_found(request, memory, holding.verdict), holding.version
                )
            else:
                shared = self._shared(opening)
            if shared.version == version:
                # Otherwise it was replaced in between: whoever asks now asks for another one.
                flight.add(shared._memory, shared.checksum, version)
            if found is None:
                flight.sweep()
        return shared

    def _shared(self, opening: Opening) -> SharedObject:
        with importing:
            from getm.shared_object import SharedObject

        transfer = open_transfer(opening)
        try:
            memory = reader.read_memory(transfer)
            try:
                version = Version() if transfer.head is None else transfer.head.version
                return SharedObject(memory, transfer.verdict(), version)
            except BaseException:
                memory.close()
                raise
        finally:
            transfer.close()

    def readinto(
        self,
        url: URLInput,
        buffer: Buffer,
        *,
        offset: int = 0,
        concurrency: int | Literal["auto"] | None = "auto",
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> int:
        """Read an object, from `offset` on, into a buffer of yours. A whole object is verified.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            buffer: Any writable buffer, contiguous in memory, with room for all the bytes from `offset` to the end.
            offset: The first byte of the object that is wanted; negative: so many bytes before the end.
            concurrency: 1, one request in a background process; N, up to N range requests at once where the server
                grants them; "auto", one at first, and more as long as they bring more; None, one request by a thread of
                this process.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match. "auto", what the server declares, if anything; "ALGORITHM:VALUE" (hex
                or base64) or a `Checksum`, or several, all of which must match; None, no verification. Checksums are of
                the whole object, so a part is checked against none.
            strict: Refuse bytes that nothing verified, so any part that is not the whole.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.

        Returns:
            The count of bytes, at the start of the buffer, each of which was copied once. What follows them is as it
            was. After an error the buffer may have some of them.

        Raises:
            TypeError: The buffer cannot be written to; no request was made.
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The object does not fit the buffer (`SizeMismatch`, before a byte is copied where the server
                tells the size); the bytes are wrong (`ChecksumMismatch`), or nothing verified them, with `strict`
                (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.

        Example:
            >>> array = numpy.empty(1_000_000)
            >>> count = getm.readinto("https://data.example.org/numbers.f64", array)
        """
        request = self._open_request(url, concurrency, headers, timeout, checksum, strict, retries, mirrors)
        span = part_of(offset, None, checksum)
        if span is not None:
            request = msgspec.structs.replace(request, spans=((span.start, span.stop),))
        target = reader.writable(buffer)
        transfer = open_transfer(self._opening(request, DEFAULT_CHUNK_BYTES, concurrency))
        try:
            return reader.fill(transfer, target, Span(0, MAX_POSITION) if span is None else span)
        finally:
            transfer.close()

    async def aread(
        self,
        url: URLInput,
        *,
        offset: int = 0,
        length: int | None = None,
        concurrency: int | Literal["auto"] | None = "auto",
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",  # noqa: ASYNC109  # the engine's to keep
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> memoryview:
        """`read` for asyncio: it never blocks the loop.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            offset: The first byte. Negative: so many bytes before the end, as in a slice (a suffix range).
            length: Bytes, fewer where the object ends before; nothing where it ends before `offset`. None: to the end.
            concurrency: 1, one request in a background process; N, up to N range requests at once where the server
                grants them; "auto", one at first, and more as long as they bring more; None, one request by a thread of
                this process.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match. "auto", what the server declares, if anything; "ALGORITHM:VALUE" (hex
                or base64) or a `Checksum`, or several, all of which must match; None, no verification. Checksums are of
                the whole object, so a part is checked against none.
            strict: Refuse bytes that nothing verified, so any part that is not the whole.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.

        Returns:
            A view that stays valid as long as it is held; see `read`.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`), or nothing verified them, with `strict`
                (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.

        Example:
            >>> header = await getm.aread("https://data.example.org/reads.bam", length=65536)
        """
        with importing:
            from getm import aio

        request = self._open_request(url, concurrency, headers, timeout, checksum, strict, retries, mirrors)
        span = part_of(offset, length, checksum)
        if span is not None:
            return (await self._acollect(collector([span], 0), placed(request), concurrency, 1))[0]
        opening = self._opening(placed(request), DEFAULT_CHUNK_BYTES, concurrency)
        return await with_transfer(opening, aio.aread_all)

    def read_ranges(
        self,
        url: URLInput,
        spans: Iterable[tuple[int, int | None]],
        *,
        max_gap: int = 0,
        concurrency: int | Literal["auto"] | None = "auto",
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> SpanContents:
        """Read many spans of an object at once. All bytes are of one version of it.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            spans: Pairs (start, stop) of positions in bytes, `stop` exclusive or None for the end, in any order. A
                negative start with None, (-100, None), is a suffix: the last 100 bytes. As in a slice, what is beyond
                the end is left out, and a span that is beyond it, or has no bytes, is empty. Nothing is requested where
                all have no bytes.
            max_gap: Spans that have at most so many bytes between them are fetched by one request; the bytes between
                them are dropped.
            concurrency: Range requests at once; "auto", one for each span, up to 16 of small ones, and 64 where their
                answers take long; None, requests by a thread of this process.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.

        Returns:
            A list of read-only views in the order of `spans`, with `size` and `version` of the object and `checksum`,
            the verdict: a part of an object is not verified. From 1 MiB on, and where they are more than 16, they share
            one block of memory, which is freed with the last of them. Where the server ignores Range, one response is
            read up to the end of the last span, and what is not wanted is dropped.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.

        Example:
            >>> magic, index = getm.read_ranges("https://data.example.org/reads.bam", [(0, 4), (-1024, None)])
        """
        common = self._open_request(url, concurrency, headers, timeout, "auto", False, retries, mirrors)
        return self._collect(collected(spans, max_gap), placed(common), concurrency, None)

    async def aread_ranges(
        self,
        url: URLInput,
        spans: Iterable[tuple[int, int | None]],
        *,
        max_gap: int = 0,
        concurrency: int | Literal["auto"] | None = "auto",
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",  # noqa: ASYNC109  # the engine's to keep
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
    ) -> SpanContents:
        """`read_ranges` for asyncio: it never blocks the loop.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            spans: Pairs (start, stop) of positions in bytes, `stop` exclusive or None for the end, in any order. A
                negative start with None, (-100, None), is a suffix: the last 100 bytes. As in a slice, what is beyond
                the end is left out, and a span that is beyond it, or has no bytes, is empty. Nothing is requested where
                all have no bytes.
            max_gap: Spans that have at most so many bytes between them are fetched by one request; the bytes between
                them are dropped.
            concurrency: Range requests at once; "auto", one for each span, up to 16 of small ones, and 64 where their
                answers take long; None, requests by a thread of this process.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.

        Returns:
            A list of read-only views in the order of `spans`; see `read_ranges`.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.

        Example:
            >>> magic, index = await getm.aread_ranges("https://data.example.org/reads.bam", [(0, 4), (-1024, None)])
        """
        common = self._open_request(url, concurrency, headers, timeout, "auto", False, retries, mirrors)
        return await self._acollect(collected(spans, max_gap), placed(common), concurrency, None)

    def _collect(
        self,
        spans: CollectedSpans,
        common: OpenRequest,
        concurrency: int | Literal["auto"] | None,
        auto: int | None,
    ) -> SpanContents:
        """Fetch `spans`. `auto`: how many at once where `concurrency` is "auto"; None: as many as are of use."""
        at_once = auto if is_word(concurrency, "auto") else common.concurrency
        while (request := spans.next_request(common, at_once)) is not None:
            transfer = open_transfer(self._opening_of(request, concurrency))
            try:
                reader.collect_spans(transfer, spans)
            finally:
                transfer.close()
        return spans.contents()

    async def _acollect(
        self,
        spans: CollectedSpans,
        common: OpenRequest,
        concurrency: int | Literal["auto"] | None,
        auto: int | None,
    ) -> SpanContents:
        with importing:
            from getm import aio

        at_once = auto if is_word(concurrency, "auto") else common.concurrency
        while (request := spans.next_request(common, at_once)) is not None:
            await with_transfer(
                self._opening_of(request, concurrency), lambda transfer: aio.acollect_spans(transfer, spans)
            )
        return spans.contents()

    def _opening_of(self, request: OpenRequest, concurrency: int | Literal["auto"] | None) -> Opening:
        spans = [(0, -start) if start < 0 else (start, stop) for start, stop in request.spans]
        alone = len(spans) == 1 and request.adaptive
        if concurrency is not None and not alone and all(stop - start <= MIB for start, stop in spans):
            # They take a slot each, unless they are placed: the ring of one stream has enough for 16 at once, that of N
            # parts for 8 * N.
            placed = request.place_from is not None
            width = 1 if placed or request.concurrency <= 16 else -(-request.concurrency // 8)
            return Opening(self, self._pool, request, DEFAULT_CHUNK_BYTES, width)
        return self._opening(request, DEFAULT_CHUNK_BYTES, concurrency)

    # To disk --------------------------------------------------------------------------------------------------------

    def download(
        self,
        url: URLInput,
        path: str | os.PathLike[str] | None = None,
        *,
        concurrency: int | Literal["auto"] | None = "auto",
        on_progress: Callable[[int, int | None], None] | None = None,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
        existing: Literal["replace", "keep", "verify", "update", "repair"] = "replace",
        receipt: str | os.PathLike[str] | None = None,
        resume: bool = True,
        fsync: bool = True,
        remote_time: bool = False,
        ranged_from: int = 0,
    ) -> DownloadResult:
        """Download an object to a file: under a temporary name beside it, verified, then renamed.

        On failure `path` is as it was. The partial data is kept beside it, and the next call resumes from it where the
        server's validator is still the same.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            path: The file. A folder: a name in it from the response or the URL. None: such a name in the current
                folder. Or the URL of an object in a store ("s3://bucket/key"), or of a folder of such ("s3://bucket/in/").
            concurrency: 1, one request in a background process; N, up to N range requests at once where the server
                grants them; "auto", one at first, and more as long as they bring more; None, one request by a thread of
                this process.
            on_progress: Called with the bytes that are there and the bytes in total (None: unknown), some ten times a
                second.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match. "auto", what the server declares, if anything; "ALGORITHM:VALUE" (hex
                or base64) or a `Checksum`, or several, all of which must match; None, no verification.
            strict: Refuse bytes that nothing verified.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.
            existing: What becomes of a file that is there already. "replace", it is downloaded again; "keep", it is
                left as it is; "verify", it is left if it has the size and the checksums that were given, or else those
                of `receipt`, or those that the server declares (one HEAD request), and downloaded again if not;
                "update", it is left if the server answers that the object was not modified, by the ETag or the time in
                `receipt`, or by the time of the file, which new files get from the server; "repair", as "verify", and
                where `receipt` has the blocks of a damaged file, only damaged ones are downloaded, of the same version.
            receipt: A file to which a line of JSON is appended for each file, as `getm verify --receipt` reads it, and
                which says for `existing` what earlier runs have received.
            resume: Continue what an earlier run left, where the server's validator is still the same.
            fsync: Bring the file onto the disk before it appears. False: do not wait for the disk; after a power
                failure the file may be empty or damaged.
            remote_time: Give the file the modification time that the server states (Last-Modified).
            ranged_from: Objects below so many bytes are fetched over one connection, whatever `concurrency` says.

        Returns:
            The result: path, size, what verified the bytes, statistics.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`), or nothing verified them, with `strict`
                (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.
            TargetError: The file cannot be written: name, permissions, space; or the object, by what its store says.

        Example:
            >>> result = getm.download("https://data.example.org/reads.bam", "copy.bam", concurrency=4)
            >>> print(result.size, result.checksum)
        """
        request = self._open_request(
            url, concurrency, headers, timeout, checksum, strict, retries, mirrors, ranged_from
        )
        width = options.validate_concurrency(concurrency)
        chosen = BatchOptions(
            jobs=1, concurrency=width, existing=existing, resume=resume, fsync=fsync, remote_time=remote_time
        )
        record = receipt_of(receipt, chosen)
        start = self._single(path, request, chosen, on_progress, record)
        return outcomes.result(event_streams.events(start), on_progress, record)

    async def adownload(
        self,
        url: URLInput,
        path: str | os.PathLike[str] | None = None,
        *,
        concurrency: int | Literal["auto"] | None = "auto",
        on_progress: Callable[[int, int | None], None] | None = None,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",  # noqa: ASYNC109  # the engine's to keep
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        mirrors: Iterable[str] = (),
        existing: Literal["replace", "keep", "verify", "update", "repair"] = "replace",
        receipt: str | os.PathLike[str] | None = None,
        resume: bool = True,
        fsync: bool = True,
        remote_time: bool = False,
        ranged_from: int = 0,
    ) -> DownloadResult:
        """`download` for `await`: the disk is written in a thread, so the loop is never blocked.

        Args:
            url: An http(s) URL (what is percent-encoded already is sent as it is), a name for which a resolver is
                installed, or a provider: a function that returns a URL or a `Resource`, and is asked again when it
                expires.
            path: The file. A folder: a name in it from the response or the URL. None: such a name in the current
                folder. Or the URL of an object in a store ("s3://bucket/key"), or of a folder of such ("s3://bucket/in/").
            concurrency: 1, one request in a background process; N, up to N range requests at once where the server
                grants them; "auto", one at first, and more as long as they bring more; None, one request by a thread of
                this process.
            on_progress: Called with the bytes that are there and the bytes in total (None: unknown), some ten times a
                second, in the loop.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match. "auto", what the server declares, if anything; "ALGORITHM:VALUE" (hex
                or base64) or a `Checksum`, or several, all of which must match; None, no verification.
            strict: Refuse bytes that nothing verified.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            mirrors: Further URLs of the same object, tried where one fails; `headers` go to them as well. Once bytes
                were delivered, another one continues only where a checksum verifies the whole.
            existing: What becomes of a file that is there already. "replace", it is downloaded again; "keep", it is
                left as it is; "verify", it is left if it has the size and the checksums that were given, or else those
                of `receipt`, or those that the server declares (one HEAD request), and downloaded again if not;
                "update", it is left if the server answers that the object was not modified, by the ETag or the time in
                `receipt`, or by the time of the file, which new files get from the server; "repair", as "verify", and
                where `receipt` has the blocks of a damaged file, only damaged ones are downloaded, of the same version.
            receipt: A file to which a line of JSON is appended for each file, as `getm verify --receipt` reads it, and
                which says for `existing` what earlier runs have received.
            resume: Continue what an earlier run left, where the server's validator is still the same.
            fsync: Bring the file onto the disk before it appears. False: do not wait for the disk; after a power
                failure the file may be empty or damaged.
            remote_time: Give the file the modification time that the server states (Last-Modified).
            ranged_from: Objects below so many bytes are fetched over one connection, whatever `concurrency` says.

        Returns:
            The result: path, size, what verified the bytes, statistics.

        Raises:
            InvalidInput: An argument cannot be used; no request was made.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`), or nothing verified them, with `strict`
                (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.
            TargetError: The file cannot be written: name, permissions, space; or the object, by what its store says.

        Example:
            >>> result = await getm.adownload("https://data.example.org/reads.bam", "copy.bam", concurrency=4)
        """
        request = self._open_request(
            url, concurrency, headers, timeout, checksum, strict, retries, mirrors, ranged_from
        )
        width = options.validate_concurrency(concurrency)
        chosen = BatchOptions(
            jobs=1, concurrency=width, existing=existing, resume=resume, fsync=fsync, remote_time=remote_time
        )
        record = receipt_of(receipt, chosen)
        start = self._single(path, request, chosen, on_progress, record)
        return await outcomes.aresult(event_streams.aevents(start), on_progress, record)

    def download_all(
        self,
        entries: Iterable[Entry | str],
        *,
        jobs: int | Literal["auto"] = "auto",
        concurrency: int | Literal["auto"] | None = "auto",
        directory: str | os.PathLike[str] | None = None,
        continue_after_error: bool = False,
        on_event: Callable[[Event], None] | None = None,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        existing: Literal["replace", "keep", "verify", "update", "repair"] = "replace",
        receipt: str | os.PathLike[str] | None = None,
        resume: bool = True,
        fsync: bool = True,
        remote_time: bool = False,
        ranged_from: int = 0,
        per_host: int = DEFAULT_PER_HOST,
        dry_run: bool = False,
        executor: Executor | None = None,
    ) -> Iterator[DownloadResult | DownloadFailure]:
        """Download many objects to files, `jobs` at once, and give their results as they finish.

        What was not finished is kept for a later call, also when the loop is left early.

        Args:
            entries: `Entry` values or URLs, in any iterable, read in the thread of the loop, some hundred ahead at
                most (a list that can be read twice has its small files fetched first).
            jobs: Files at once; "auto": many small ones, and few large ones.
            concurrency: Range requests at once for each file; "auto": one at first, and more as long as they bring
                more; None: one request by a thread of this process.
            directory: The folder for relative targets, which no target leaves; or its URL ("s3://bucket/in/"). None:
                the current folder.
            continue_after_error: Yield failures as `DownloadFailure`s and continue; otherwise the first one is raised.
            on_event: Called with each `Event`, in the thread that reads the results.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match, where the entry itself does not say. "auto", what the server declares,
                if anything; "ALGORITHM:VALUE" (hex or base64) or a `Checksum`, or several, all of which must match;
                None, no verification.
            strict: Refuse bytes that nothing verified.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            existing: What becomes of a file that is there already. "replace", it is downloaded again; "keep", it is
                left as it is; "verify", it is left if it has the size and the checksums that were given, or else those
                of `receipt`, or those that the server declares (one HEAD request), and downloaded again if not;
                "update", it is left if the server answers that the object was not modified, by the ETag or the time in
                `receipt`, or by the time of the file, which new files get from the server; "repair", as "verify", and
                where `receipt` has the blocks of a damaged file, only damaged ones are downloaded, of the same version.
            receipt: A file to which a line of JSON is appended for each file, as `getm verify --receipt` reads it, and
                which says for `existing` what earlier runs have received.
            resume: Continue what an earlier run left, where the server's validator is still the same.
            fsync: Bring the file onto the disk before it appears. False: do not wait for the disk; after a power
                failure the file may be empty or damaged.
            remote_time: Give the file the modification time that the server states (Last-Modified).
            ranged_from: Objects below so many bytes are fetched over one connection, whatever `concurrency` says.
            per_host: Connections to one host at most, over all downloads and whatever `concurrency` says.
            dry_run: Ask for the response heads only and write nothing: there are no results, but `on_event` hears a
                `Started` with each name and size.
            executor: Have the workers of this `concurrent.futures.Executor` do it, in portions of about a second: other
                processes, or other machines that have the same `directory`, which must be given. `jobs`, `per_host` and
                the session's memory and rate are those of each worker; `on_event` hears how each download ended,
                and from workers of `getm.integrations.dask.executor` how far large ones are.

        Returns:
            An iterator of results in the order in which the files finish; `index` is the position of the entry.

        Raises:
            InvalidInput: An argument cannot be used, and no request was made; or an entry cannot.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`), or nothing verified them, with `strict`
                (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.
            TargetError: The file cannot be written: name, permissions, space; or the object, by what its store says.

        Example:
            >>> for result in getm.download_all(urls, directory="data", jobs=16):
            ...     print(result.path, result.size)
        """
        common = self._open_request(
            _NO_URL, concurrency, headers, timeout, checksum, strict, retries, ranged_from=ranged_from
        )
        chosen = BatchOptions(
            jobs=jobs,
            concurrency=options.validate_concurrency(concurrency),
            per_host=per_host,
            resume=resume,
            fsync=fsync,
            existing=existing,
            remote_time=remote_time,
            continue_after_error=continue_after_error,
            dry_run=dry_run,
        )
        record = receipt_of(receipt, chosen, entries)
        start, preparation = self._many(entries, common, chosen, directory, on_event, record, executor)
        return outcomes.results(event_streams.events(start, preparation), on_event, continue_after_error, record)

    def adownload_all(
        self,
        entries: Iterable[Entry | str],
        *,
        jobs: int | Literal["auto"] = "auto",
        concurrency: int | Literal["auto"] | None = "auto",
        directory: str | os.PathLike[str] | None = None,
        continue_after_error: bool = False,
        on_event: Callable[[Event], None] | None = None,
        headers: HeadersInput | None = None,
        timeout: float | Timeout | Literal["default"] | None = "default",
        checksum: str | Checksum | Iterable[str | Checksum] | None = "auto",
        strict: bool = False,
        retries: int | Retries | None = None,
        existing: Literal["replace", "keep", "verify", "update", "repair"] = "replace",
        receipt: str | os.PathLike[str] | None = None,
        resume: bool = True,
        fsync: bool = True,
        remote_time: bool = False,
        ranged_from: int = 0,
        per_host: int = DEFAULT_PER_HOST,
        dry_run: bool = False,
        executor: Executor | None = None,
    ) -> AsyncIterator[DownloadResult | DownloadFailure]:
        """`download_all` for `async for`: it never blocks the loop.

        Args:
            entries: `Entry` values or URLs, in any iterable, read in the thread of the loop, some hundred ahead at
                most (a list that can be read twice has its small files fetched first).
            jobs: Files at once; "auto": many small ones, and few large ones.
            concurrency: Range requests at once for each file; "auto": one at first, and more as long as they bring
                more; None: one request by a thread of this process.
            directory: The folder for relative targets, which no target leaves; or its URL ("s3://bucket/in/"). None:
                the current folder.
            continue_after_error: Yield failures as `DownloadFailure`s and continue; otherwise the first one is raised.
            on_event: Called with each `Event`, in the loop.
            headers: Request headers, added to the session's; the same names replace them.
            timeout: Limits in seconds: a number for connecting and for silence, a `Timeout` for each of them, None for
                no limit; "default", the session's.
            checksum: What the bytes must match, where the entry itself does not say. "auto", what the server declares,
                if anything; "ALGORITHM:VALUE" (hex or base64) or a `Checksum`, or several, all of which must match;
                None, no verification.
            strict: Refuse bytes that nothing verified.
            retries: Further attempts in a row without progress before an error, or a `Retries`; None, the session's.
            existing: What becomes of a file that is there already. "replace", it is downloaded again; "keep", it is
                left as it is; "verify", it is left if it has the size and the checksums that were given, or else those
                of `receipt`, or those that the server declares (one HEAD request), and downloaded again if not;
                "update", it is left if the server answers that the object was not modified, by the ETag or the time in
                `receipt`, or by the time of the file, which new files get from the server; "repair", as "verify", and
                where `receipt` has the blocks of a damaged file, only damaged ones are downloaded, of the same version.
            receipt: A file to which a line of JSON is appended for each file, as `getm verify --receipt` reads it, and
                which says for `existing` what earlier runs have received.
            resume: Continue what an earlier run left, where the server's validator is still the same.
            fsync: Bring the file onto the disk before it appears. False: do not wait for the disk; after a power
                failure the file may be empty or damaged.
            remote_time: Give the file the modification time that the server states (Last-Modified).
            ranged_from: Objects below so many bytes are fetched over one connection, whatever `concurrency` says.
            per_host: Connections to one host at most, over all downloads and whatever `concurrency` says.
            dry_run: Ask for the response heads only and write nothing: there are no results, but `on_event` hears a
                `Started` with each name and size.
            executor: Have the workers of this `concurrent.futures.Executor` do it, in portions of about a second: other
                processes, or other machines that have the same `directory`, which must be given. `jobs`, `per_host` and
                the session's memory and rate are those of each worker; `on_event` hears how each download ended,
                and from workers of `getm.integrations.dask.executor` how far large ones are.

        Returns:
            An asynchronous iterator of results in the order in which the files finish; `index` is the position of the
            entry.

        Raises:
            InvalidInput: An argument cannot be used, and no request was made; or an entry cannot.
            NetworkError: No connection, an error status (`HTTPStatusError`), an expired URL (`URLExpired`), a time
                limit (`TimedOut`), a response that violates HTTP, a replaced object (`RemoteChanged`).
            IntegrityError: The bytes are wrong (`ChecksumMismatch`), or nothing verified them, with `strict`
                (`Unverified`).
            MemoryUnavailable: There is no shared memory left.
            EngineDied: The background process was killed.
            TargetError: The file cannot be written: name, permissions, space; or the object, by what its store says.

        Example:
            >>> async for result in getm.adownload_all(urls, directory="data"):
            ...     print(result.path, result.size)
        """
        common = self._open_request(
            _NO_URL, concurrency, headers, timeout, checksum, strict, retries, ranged_from=ranged_from
        )
        chosen = BatchOptions(
            jobs=jobs,
            concurrency=options.validate_concurrency(concurrency),
            per_host=per_host,
            resume=resume,
            fsync=fsync,
            existing=existing,
            remote_time=remote_time,
            continue_after_error=continue_after_error,
            dry_run=dry_run,
        )
        record = receipt_of(receipt, chosen, entries)
        start, preparation = self._many(entries, common, chosen, directory, on_event, record, executor, may_block=False)
        return outcomes.aresults(event_streams.aevents(start, preparation), on_event, continue_after_error, record)

    # The request of a call -------------------------------------------------------------------------------------------

    def _open_request(
        self,
        url: URLInput,
        concurrency: int | Literal["auto"] | None,
        headers: HeadersInput | None,
        timeout: float | Timeout | str | None,
        checksum: str | Checksum | Iterable[str | Checksum] | None,
        strict: bool,
        retries: int | Retries | None,
        mirrors: Iterable[str] = (),
        ranged_from: int = 0,
        name: str = "",
    ) -> OpenRequest:
        """Check everything now, and make the request, except for what depends on the connection. `name`: of the object
        of a provider, where it has one."""
        fields: dict[str, Any] = {}
        width = options.validate_concurrency(concurrency)
        if headers is not None:
            fields["headers"] = options.override_headers(self._headers, options.validate_headers(headers))
        if not is_word(timeout, "default"):
            fields |= limits_of(options.validate_timeout(timeout, self._timeout))
        if not is_word(checksum, "auto"):
            fields["checksums"] = expected_checksums(checksum)
        if strict is not False:
            fields["strict"] = validate_bool(strict, "strict")
        if retries is not None:
            fields["custom_retries"] = Retries.of(retries, self._retries)
        if ranged_from != 0:
            fields["ranged_from"] = validate_integer(ranged_from, "ranged_from", 0)
        locator, address, mirrors = locator_for(url, self._logins, name), "", validate_mirrors(mirrors)
        if locator is None:
            address = validate_url(url)
        request = msgspec.structs.replace(
            self._usual,
            url=address,
            mirrors=mirrors,
            logins=() if self._logins is None else self._logins.of((address, *mirrors), named=True),
            concurrency=options.MAX_AUTO_CONCURRENCY if width == "auto" else width or 1,
            adaptive=width == "auto",
            environment=environment(),
            **fields,
        )
        return request if locator is None else UnlocatedRequest.of(request, locator)

    def _opening_in_parts(self, request: OpenRequest, first_bytes: int) -> Opening:
        """The transfer of an object of which so many bytes come first, and the others as they are asked for."""
        return self._opening(msgspec.structs.replace(request, first_bytes=first_bytes), DEFAULT_CHUNK_BYTES, 1)

    def _opening_for_program(self, url: URLInput, name: str, first_bytes: int) -> Opening:
        """`_opening_in_parts` for what serves an object to other programs (`getm.adapter`)."""
        request = self._open_request(url, 1, None, "default", "auto", False, None, name=name)
        return self._opening_in_parts(request, first_bytes)

    def _asking(
        self,
        url: URLInput,
        headers: HeadersInput | None,
        timeout: float | Timeout | str | None,
        retries: int | Retries | None,
        mirrors: Iterable[str] = (),
    ) -> Opening:
        """The transfer of an object's head alone."""
        request = self._open_request(url, 1, headers, timeout, None, False, retries, mirrors)
        return self._opening(msgspec.structs.replace(request, spans=()), None, 1)

    def _opening(
        self, request: OpenRequest, chunk_size: int | None, concurrency: int | Literal["auto"] | None
    ) -> Opening:
        """The transfer to be started, whose arguments are checked now."""
        chunk_bytes = DEFAULT_CHUNK_BYTES if chunk_size is None else validate_integer(chunk_size, "chunk_size", 1)
        # None stands for an engine in this process, 1 for the ring of one stream.
        width = concurrency if concurrency is None or concurrency == 1 else request.concurrency
        return Opening(self, self._pool, request, chunk_bytes, width)

    def _single(
        self,
        path: str | os.PathLike[str] | None,
        request: OpenRequest,
        chosen: BatchOptions,
        on_progress: Callable[[int, int | None], None] | None,
        receipt: Receipt | None,
    ) -> Callable[[Post], Batch]:
        validate_callback(on_progress, "on_progress")
        target = None if path is None else follow_link(destination(path, "path", chosen))

        def job_of(batch: Batch) -> list[Job]:
            return [Job(batch, 0, target, None, request)]

        request, wants_events = with_blocks(request, receipt), on_progress is not None
        return lambda post: Batch(job_of, self._pool, chosen, post, receipt, wants_events=wants_events)

    def _many(
        self,
        entries: Iterable[Entry | str],
        common: OpenRequest,
        chosen: BatchOptions,
        directory: str | os.PathLike[str] | None,
        on_event: Callable[[Event], None] | None,
        receipt: Receipt | None,
        executor: Executor | None,
        *,
        may_block: bool = True,
    ) -> tuple[Callable[[Post], RunningBatch], Preparation | None]:
        """What starts the batch, and what is to be done before that, if anything. `common`: what the entries have in
        common, checked once. `may_block`: whether the thread that reads `entries` may wait for listings."""
        if isinstance(entries, str | bytes | Entry | Mapping) or not isinstance(entries, Iterable):
            raise errors.InvalidInput(
                f"entries must be several URLs or getm.Entry values, such as a list, not a {type(entries).__name__}; "
                "for a single one use download, or put it into a list"
            )
        validate_callback(on_event, "on_event")
        preparation: Preparation | None = None
        if isinstance(entries, Iterator):
            entries = self._expanded(entries, in_folder=directory is not None) if may_block else entries
        elif isinstance(entries, Sized) and any(map(stands_for_several, entries)):
            with importing:
                from getm.manifests.expansion import Expansion
            entries = preparation = Expansion(entries, self.list_objects, in_folder=directory is not None)
        if isinstance(entries, Sized):
            # A single one has all of the memory, and the help of other engines.
            count = max(1, len(entries))
            if count == 1 or chosen.jobs != "auto":
                chosen = msgspec.structs.replace(chosen, jobs=min(chosen.most_jobs, count))
        folder = None if directory is None else destination(directory, "directory", chosen)
        common = with_blocks(common, receipt)
        wants_events = on_event is not None
        if executor is not None:
            if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
                refuse("executor", "a concurrent.futures.Executor, or None", executor)
            if folder is None:
                raise errors.InvalidInput("with an executor give a directory: each worker has its own current one")
            with importing:
                from getm.batch.executors import ExecutorBatch
                from getm.batch.portions import Work
            folder = folder if is_url(folder) else os.path.abspath(folder)  # noqa: PTH100
            work = Work(common, folder, chosen, self._pool_arguments, self._logins)
            return lambda post: ExecutorBatch(
                entries, executor, work, post, receipt, wants_events=wants_events
            ), preparation
        its_jobs = partial(jobs_of, entries, common, folder, self._logins)
        # It has `self`, and not the pool: the session lives as long as the batch.
        return lambda post: Batch(its_jobs, self._pool, chosen, post, receipt, wants_events=wants_events), preparation

    def _expanded(self, entries: Iterator[Entry | str], *, in_folder: bool) -> Iterator[Entry | str]:
        """Entries that can be read once, with the objects that each stands for."""
        for given in entries:
            if not stands_for_several(given):
                yield given
                continue
            with importing:
                from getm.manifests.expansion import Expansion
            expansion = Expansion([given], self.list_objects, in_folder=in_folder)
            expansion.run()
            yield from expansion


async def _in_a_thread(listed: Iterator[ListedObject]) -> AsyncIterator[ListedObject]:
    """The same, read in a thread, some at a time."""
    import asyncio

    while some := await asyncio.to_thread(list, islice(listed, _LISTED_AT_A_TIME)):
        for each in some:
            yield each
