"""Fetches tensors: whole files, verified, or some tensors of them by ranges."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal, cast
from urllib.parse import quote, urljoin, urlsplit

import getm
from getm.core.redact import redact
from getm.core.url import validate_url
from getm.core.version import Version
from getm.errors import FormatError, InvalidInput
from getm.integrations.safetensors.arrays import Maker, maker
from getm.integrations.safetensors.header import TensorInfo, header_stop, parse_header
from getm.options import HeadersInput, Retries, Timeout
from getm.resolve.names import label_of
from getm.resolve.request import is_name
from getm.resolve.resource import URLInput

_INDEX_SUFFIX = ".safetensors.index.json"
# The first request for a header brings this much: most headers are smaller.
_FIRST_BYTES = 256 * 1024
# Between tensors that are fetched by one request: a further request costs more.
_MAX_GAP_BYTES = 64 * 1024
# The index of a model of some hundred thousand tensors has some ten megabytes.
_MAX_INDEX_BYTES = 100_000_000


def load(
    url_or_urls: URLInput | Iterable[URLInput],
    names: Iterable[str] | None = None,
    *,
    framework: Literal["numpy", "torch"] = "numpy",
    concurrency: int | Literal["auto"] | None = "auto",
    headers: HeadersInput | None = None,
    timeout: float | Timeout | Literal["default"] | None = "default",
    strict: bool = False,
    retries: int | Retries | None = None,
    session: getm.Session | None = None,
) -> dict[str, Any]:
    """Load tensors from safetensors files, without a copy.

    Args:
        url_or_urls: The URL of a file; that of an index ("...safetensors.index.json"), beside which the files of a
            model are; or several URLs of files. Each may be a name (hf://ORG/MODEL/model.safetensors), or the provider
            of a file.
        names: The tensors to load; None, all. Where they are not all of a file, only their bytes are fetched.
        framework: What to make of them: NumPy arrays, or torch tensors on the CPU.
        concurrency: Connections for one file; "auto", as many as bring more; None, a thread of this process.
        headers: Request headers, added to the session's. They go to every file that an index names.
        timeout: Limits in seconds: a number for connecting and for silence, a `getm.Timeout` for each of them, None for
            no limit; "default", the session's.
        strict: Refuse tensors that nothing verified: whole files are read, whatever `names` says.
        retries: Further attempts in a row without progress before an error, or a `getm.Retries`; None, the session's.
        session: The session to use; None, that of the functions of getm.

    Returns:
        The tensors by name, in the order of the files, or of `names`. They are views of the fetched memory and keep it
        as long as any of them is held. NumPy arrays are read-only; torch has no such tensors: clone what you change.
        A whole file is verified by what its server declares, as by `getm.read`. Parts of a file are not, but all of
        them are of one version.

    Raises:
        InvalidInput: An argument cannot be used; no request was made. Or there is no tensor of a name.
        FormatError: A header is not what the format demands (overlaps, holes, sizes, dtypes, places outside the file),
            or an index is not; the message names the tensor.
        MissingExtra: NumPy, ml_dtypes or torch is not installed, and needed.
        GetmError: As `getm.read` and `getm.read_ranges`.

    Example:
        >>> from getm.integrations.safetensors import load
        >>> weights = load("https://data.example.org/model.safetensors", names=["embedding"])
    """
    one = isinstance(url_or_urls, str) or callable(url_or_urls)
    urls = [cast("URLInput", url_or_urls)] if one else list(cast("Iterable[URLInput]", url_or_urls))
    for url in urls:
        if not (callable(url) or (isinstance(url, str) and is_name(url))):
            validate_url(url)
    if isinstance(names, str):
        raise InvalidInput(f"names must be several names of tensors, such as a list: [{names!r}]")
    wanted = None if names is None else dict.fromkeys(names)
    make = maker(framework)
    # The module has the methods of a session.
    source = _Source(
        session or cast("getm.Session", getm),
        make,
        {"concurrency": concurrency, "headers": headers, "timeout": timeout, "retries": retries},
        strict,
    )
    found: dict[str, Any] = {}
    for url, of_file in _files(urls, wanted, source):
        for name, tensor in source.tensors(url, of_file):
            if name in found:
                raise FormatError(f"the tensor {name!r} is in several files", url=_label(url), name=name)
            found[name] = tensor
    if wanted is None:
        return found
    _require(wanted, found)
    return {name: found[name] for name in wanted}


def _require(wanted: Iterable[str], found: Collection[str]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InvalidInput(f"there is no tensor {', '.join(map(repr, missing[:5]))}; there are {len(found)} others")


def _files(
    urls: list[URLInput], wanted: Collection[str] | None, source: _Source
) -> Iterator[tuple[URLInput, Collection[str] | None]]:
    """The files to read, each with the tensors that are wanted of it, if they are there; None: all of it."""
    for url in urls:
        if callable(url) or not urlsplit(url).path.endswith(_INDEX_SUFFIX):
            yield url, wanted
            continue
        by_file: dict[str, list[str]] = {}
        weight_map = source.weight_map(url)
        if wanted is not None and len(urls) == 1:
            _require(wanted, weight_map)
        for name, file in weight_map.items():
            if wanted is None or name in wanted:
                by_file.setdefault(file, []).append(name)
        for file, names in by_file.items():
            yield _beside(url, file), names


def _beside(url: str, file: str) -> str:
    """The URL of a file in the same folder. In a name nothing is encoded."""
    return f"{url.rpartition('/')[0]}/{file}" if is_name(url) else urljoin(url, quote(file))


def _label(url: URLInput) -> str:
    """What to call it in messages."""
    return label_of(url) if callable(url) else redact(url)


class _Source:
    """Fetches with the same arguments."""

    def __init__(self, session: getm.Session, make: Maker, common: dict[str, Any], strict: bool) -> None:
        self._session = session
        self._make = make
        self._common = common
        self._strict = strict

    def tensors(self, url: URLInput, wanted: Collection[str] | None) -> Iterator[tuple[str, Any]]:
        """The tensors of a file, or those of the `wanted` ones that are in it."""
        header = None if wanted is None or self._strict else self._header(url)
        if wanted is None or header is None:
            yield from self._of_whole(url, wanted)
            return
        infos, version = header
        chosen = [info for info in infos.values() if info.name in wanted]
        if len(chosen) == len(infos):
            yield from self._of_whole(url, wanted)
            return
        if not chosen:
            return
        contents = self._session.read_ranges(
            url, [(info.start, info.stop) for info in chosen], max_gap=_MAX_GAP_BYTES, **self._common
        )
        version.require(contents.version, _label(url))
        for info, content in zip(chosen, contents, strict=True):
            yield info.name, self._make(info, content)

    def _of_whole(self, url: URLInput, wanted: Collection[str] | None) -> Iterator[tuple[str, Any]]:
        content = self._session.read(url, strict=self._strict, **self._common)
        stop = header_stop(content, len(content), _label(url))
        for info in parse_header(bytes(content[:stop]), len(content), _label(url)).values():
            if wanted is None or info.name in wanted:
                yield info.name, self._make(info, content[info.start : info.stop])

    def _header(self, url: URLInput) -> tuple[dict[str, TensorInfo], Version] | None:
        """The tensors of a file, and its version; None where the server does not tell the file's size."""
        first = self._session.read_ranges(url, [(0, _FIRST_BYTES)], **self._common)
        content, size = bytes(first[0]), first.size
        if size is None:
            return None
        stop = header_stop(content, size, _label(url))
        if stop > len(content):
            rest = self._session.read_ranges(url, [(len(content), stop)], **self._common)
            first.version.require(rest.version, _label(url))
            content += rest[0]
        return parse_header(content[:stop], size, _label(url)), first.version

    def weight_map(self, url: str) -> dict[str, str]:
        """The file of each tensor, as an index names them. Raises `FormatError`."""
        content = self._session.read(url, **self._common)
        try:
            if len(content) > _MAX_INDEX_BYTES:
                raise ValueError(f"it has {len(content)} bytes")
            found = json.loads(bytes(content))["weight_map"]
            if not isinstance(found, dict):
                raise TypeError("its weight_map is no object")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise FormatError(f"expected the index of safetensors files: {error!r:.200}", url=redact(url)) from None
        for name, file in found.items():
            # Only what is beside the index: it may not send us anywhere else.
            if not isinstance(file, str) or file in ("", ".", "..") or any(character in file for character in "/\\\0"):
                raise FormatError(
                    f"the index names the file {file!r:.80} for {name!r}: expected a plain name",
                    url=redact(url),
                    name=name,
                )
        weight_map: dict[str, str] = found
        return weight_map
