"""OpenTelemetry: a span for each transfer, and metrics, by what events and statistics say. Needs `getm[otel]`.

getm brings the API alone. What becomes of spans and metrics is up to the program, by the SDK that it sets up; without
one, the API does nothing. Names follow the semantic conventions for HTTP client spans
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/); what these have no name for begins with "getm.". URLs
have neither query nor userinfo, and no header is recorded.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from getm.core.redact import redact
from getm.core.url import DEFAULT_PORTS
from getm.errors import GetmError, HTTPStatusError, InvalidInput, MissingExtra, ReaderClosed, URLExpired
from getm.events import Adapted, Event, Failed, Finished, Progressed, Retried, Skipped, Started
from getm.results import Stats

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["Telemetry"]

_SCOPE = "getm"
# Seconds: small objects take milliseconds, large ones hours.
_DURATIONS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000)

_Attributes = dict[str, str | int | float | bool]


class Telemetry:
    """Spans and metrics of transfers. One is enough for a program; it may be used in any thread.

    Args:
        tracer_provider: What makes the spans; None: the global one, as it is now.
        meter_provider: What makes the metrics; None: the global one, as it is now.

    Raises:
        MissingExtra: The API of OpenTelemetry is not installed.

    Example:
        >>> telemetry = getm.integrations.otel.Telemetry()
        >>> with telemetry.batch() as on_event:
        ...     for result in getm.download_all(entries, directory="data", on_event=on_event):
        ...         print(result.path)
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise MissingExtra(f'OpenTelemetry is not installed: pip install "getm[otel]" ({error})') from error
        from getm._version import __version__

        self._trace = trace
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        self._active = meter.create_up_down_counter(
            "getm.transfer.active", unit="{transfer}", description="Transfers that are under way."
        )
        self._ended = meter.create_counter(
            "getm.transfer.ended", unit="{transfer}", description="Transfers that have ended, by how they did."
        )
        self._duration = meter.create_histogram(
            "getm.transfer.duration",
            unit="s",
            description="From the request to the verdict.",
            explicit_bucket_boundaries_advisory=_DURATIONS,
        )
        self._received = meter.create_counter(
            "getm.transfer.received", unit="By", description="Bytes of objects that came over the network."
        )
        self._retries = meter.create_counter(
            "getm.transfer.retries", unit="{request}", description="Requests that were sent again, by cause."
        )
        self._stages = meter.create_counter(
            "getm.transfer.stage", unit="s", description="Where the seconds of transfers went."
        )

    @contextlib.contextmanager
    def batch(self, name: str = "getm.download_all") -> Iterator[Callable[[Event], None]]:
        """A span over one call of `download_all` or `adownload_all`, and one below it for each download.

        Downloads that have not ended when the context does were stopped: their spans end with it.

        Args:
            name: The name of the span over all of them.

        Returns:
            A context manager that gives the function for `on_event` of that call.

        Example:
            >>> with telemetry.batch("nightly") as on_event:
            ...     results = list(getm.download_all(entries, directory="data", on_event=on_event))
        """
        with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
            downloads = _Downloads(self, span)
            try:
                yield downloads.on_event
            except BaseException as error:
                self._set_error(span, error)
                raise
            finally:
                downloads.stop()

    @contextlib.contextmanager
    def stream(self, opened: Any) -> Iterator[None]:
        """A span over a transfer that was opened: what `urlopen`, `open`, `iter_content`, `aiter_content` and the like
        return. It ends with the context; have that end before the stream is closed.

        Args:
            opened: The reader, file or iterator. It is neither read nor closed.

        Raises:
            InvalidInput: `opened` is none of these.

        Example:
            >>> with getm.open("https://data.example.org/reads.bam") as file, telemetry.stream(file):
            ...     header = file.read(1000)
        """
        reader = getattr(getattr(opened, "buffer", opened), "raw", opened)
        if not hasattr(type(reader), "stats") or not hasattr(type(reader), "url"):
            raise InvalidInput(f"a reader, a file or an iterator of getm is wanted, not a {type(opened).__name__}")
        transfer = self._begin(_known(reader, "url"), time.time_ns())
        try:
            with self._trace.use_span(transfer.span, record_exception=False, set_status_on_exception=False):
                yield
        except BaseException as error:
            transfer.fail(error, _known(reader, "stats"))
            raise
        verdict, stats = _known(reader, "checksum"), _known(reader, "stats")
        transfer.describe(_known(reader, "url"))
        transfer.succeed(_known(reader, "size"), verdict, stats)

    def _begin(self, url: str | None, start_ns: int, parent: Span | None = None) -> _Transfer:
        context = None if parent is None else self._trace.set_span_in_context(parent)
        span = self._tracer.start_span(
            "GET",
            context,
            self._trace.SpanKind.CLIENT,
            {"http.request.method": "GET", **_address(url)},
            start_time=start_ns,
        )
        return _Transfer(self, span, url, start_ns)

    def _set_error(self, span: Span, error: BaseException) -> None:
        span.set_attribute("error.type", _error_type(error))
        # The message of an exception that is not getm's may have anything in it.
        message = error.message if isinstance(error, GetmError) else None
        span.set_status(self._trace.StatusCode.ERROR, message)


class _Transfer:
    """The span of one transfer, and what is counted of it."""

    def __init__(self, telemetry: Telemetry, span: Span, url: str | None, start_ns: int) -> None:
        self.span = span
        self._telemetry = telemetry
        self._start_ns = start_ns
        self._received_bytes = self._done_bytes = 0
        self._labels = _host(url)
        telemetry._active.add(1)

    def describe(self, url: str | None) -> None:
        """Where it came from, after redirects, or where that was not known at the start."""
        self.span.set_attributes(_address(url))
        self._labels = _host(url)

    def resume(self, done_bytes: int) -> None:
        """So many bytes were there."""
        self._done_bytes = done_bytes
        self.span.set_attribute("getm.resumed_bytes", done_bytes)

    def progress(self, done_bytes: int) -> None:
        """Count what has come since the last time; a download that starts over begins at 0 again."""
        if done_bytes > self._done_bytes:
            self._count(done_bytes - self._done_bytes)
        self._done_bytes = done_bytes

    def _count(self, received_bytes: int) -> None:
        self._received_bytes += received_bytes
        self._telemetry._received.add(received_bytes, self._labels)

    def retry(self, event: Retried) -> None:
        self._telemetry._retries.add(1, {**self._labels, "getm.cause": event.cause})
        why: _Attributes = {"getm.cause": event.cause, "getm.delay_s": event.delay_s, "getm.message": event.message}
        self.span.add_event("retry", why)

    def succeed(self, size: int | None, verdict: Any, stats: Stats | None) -> None:
        """It has ended, with all that was wanted."""
        if size is not None:
            self.span.set_attribute("http.response.body.size", size)
        if verdict is not None:
            self.span.set_attribute("getm.verified", verdict.verified)
            if verdict.checksum is not None:
                self.span.set_attribute("getm.checksum", str(verdict.checksum))
        self._end(stats, "done", {})

    def fail(self, error: BaseException, stats: Stats | None) -> None:
        """It has ended by `error`."""
        self._telemetry._set_error(self.span, error)
        if isinstance(error, HTTPStatusError | URLExpired) and error.status is not None:
            self.span.set_attribute("http.response.status_code", error.status)
        self._end(stats, "failed", {"error.type": _error_type(error)})

    def stop(self) -> None:
        """It was stopped before its end."""
        self._end(None, "stopped", {})

    def _end(self, stats: Stats | None, outcome: str, why: _Attributes) -> None:
        telemetry, labels = self._telemetry, {**self._labels, **why}
        end_ns = time.time_ns()
        if stats is not None:
            self._describe_stats(stats)
            if stats.received_bytes > self._received_bytes:
                self._count(stats.received_bytes - self._received_bytes)
        telemetry._active.add(-1)
        telemetry._ended.add(1, {**labels, "getm.outcome": outcome})
        telemetry._duration.record((end_ns - self._start_ns) / 1e9, labels)
        self.span.set_attribute("getm.outcome", outcome)
        self.span.end(end_ns)

    def _describe_stats(self, stats: Stats) -> None:
        limited_by, seconds = stats.time_facts()
        attributes: _Attributes = {
            "getm.received_bytes": stats.received_bytes,
            "getm.requests": stats.requests,
            "getm.connections": stats.connections,
        }
        if retries := sum(stats.retries.values()):
            attributes["http.request.resend_count"] = retries
        if limited_by is not None:
            attributes["getm.limited_by"] = limited_by
        for stage, spent_s in seconds.items():
            attributes[f"getm.stage.{stage.replace(' ', '_')}_s"] = round(spent_s, 6)
            self._telemetry._stages.add(spent_s, {**self._labels, "getm.stage": stage})
        self.span.set_attributes(attributes)


class _Downloads:
    """The downloads of a batch that are under way, by their index."""

    def __init__(self, telemetry: Telemetry, span: Span) -> None:
        self._telemetry = telemetry
        self._span = span
        self._transfers: dict[int, _Transfer] = {}
        self._outcomes = Counter[str]()

    def on_event(self, event: Event) -> None:
        """Take what happened."""
        match event:
            case Started():
                self._transfer(event.index, event.url).resume(event.resumed_bytes)
            case Progressed() if event.index in self._transfers:
                self._transfers[event.index].progress(event.done_bytes)
            case Retried():
                self._transfer(event.index, event.url).retry(event)
            case Adapted() if event.index in self._transfers:
                number: _Attributes = {"getm.connections": event.connections, "getm.reason": event.reason}
                self._transfers[event.index].span.add_event("connections", number)
            case Finished(result=result):
                transfer = self._transfer(event.index, result.url, result.seconds)
                transfer.succeed(result.size, result.checksum, result.stats)
                self._drop(event.index, "done")
            case Failed():
                self._transfer(event.index, event.url).fail(event.error, event.error.stats)
                self._drop(event.index, "failed")
            case Skipped():
                self._outcomes["skipped"] += 1
                self._telemetry._ended.add(1, {"getm.outcome": "skipped"})

    def stop(self) -> None:
        """End what is left, and count."""
        for index, transfer in [*self._transfers.items()]:
            transfer.stop()
            self._drop(index, "stopped")
        self._span.set_attributes({f"getm.{outcome}": count for outcome, count in self._outcomes.items()})

    def _drop(self, index: int, outcome: str) -> None:
        del self._transfers[index]
        self._outcomes[outcome] += 1

    def _transfer(self, index: int, url: str | None, seconds: float = 0.0) -> _Transfer:
        """That of an entry; one that nothing was heard of before began `seconds` ago."""
        if index not in self._transfers:
            start_ns = time.time_ns() - int(seconds * 1e9)
            self._transfers[index] = self._telemetry._begin(url, start_ns, self._span)
        return self._transfers[index]


def _known(reader: Any, name: str) -> Any:
    """A property of a reader; None where it is not opened yet, or the response has not come."""
    try:
        return getattr(reader, name)
    except ReaderClosed:
        return None


def _address(url: str | None) -> _Attributes:
    """Where a URL leads: without what may be a secret."""
    if not url:
        return {}
    shown = redact(url)
    parts = urlsplit(shown)
    attributes: _Attributes = {"url.full": shown, "url.scheme": parts.scheme}
    if parts.scheme in DEFAULT_PORTS and parts.hostname:
        attributes["server.address"] = parts.hostname
        attributes["server.port"] = parts.port or DEFAULT_PORTS[parts.scheme]
    return attributes


def _host(url: str | None) -> _Attributes:
    """Of its address what metrics have: hosts are few, URLs are not."""
    return {name: value for name, value in _address(url).items() if name.startswith("server.")}


def _error_type(error: BaseException) -> str:
    """The status of the server, or else the exception's class: few values, as the conventions demand."""
    if isinstance(error, HTTPStatusError):
        return str(error.status)
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
