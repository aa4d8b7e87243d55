"""OpenTelemetry: what the SDK exports of transfers, and that nothing of it is a secret."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import getm
from getm.integrations.otel import Telemetry
from getm.testing import FaultServer, Reply, failure

DATA = bytes(range(256)) * 400
SECRET = "s3cr3t"
CRC32C = "7dc4b28a"


class Exported:
    """The SDK with exporters into memory, and what they have."""

    def __init__(self) -> None:
        self._spans, self._metrics = InMemorySpanExporter(), InMemoryMetricReader()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        meters = MeterProvider([self._metrics], shutdown_on_exit=False)
        self.telemetry = Telemetry(tracer_provider=tracers, meter_provider=meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def metric(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """The labels and the value (of a histogram: the count) of each series of one metric."""
        data = json.loads(self.text())["metrics"]
        points = [
            point
            for resource in data["resource_metrics"]
            for scope in resource["scope_metrics"]
            for metric in scope["metrics"]
            if metric["name"] == name
            for point in metric["data"]["data_points"]
        ]
        return [(point["attributes"], point.get("value", point.get("count"))) for point in points]

    def text(self) -> str:
        """All of it."""
        metrics = self._metrics.get_metrics_data()
        parts = [json.loads(span.to_json()) for span in self.spans]
        return json.dumps({"spans": parts, "metrics": None if metrics is None else json.loads(metrics.to_json())})


@pytest.fixture
def exported() -> Exported:
    return Exported()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def download(
    session: getm.Session, exported: Exported, entries: list[getm.Entry], folder: Path, **arguments: Any
) -> list[Any]:
    with exported.telemetry.batch("nightly") as on_event:
        chosen = {"continue_after_error": True, "on_event": on_event, **arguments}
        return list(session.download_all(entries, directory=folder, **chosen))


def test_a_batch_has_a_span_and_each_of_its_downloads(
    exported: Exported, fault_server: FaultServer, shared_session: Callable[..., getm.Session], tmp_path: Path
) -> None:
    good = fault_server.serve("/good.bin", failure(503, retry_after="0"), Reply(body=DATA)) + f"?signature={SECRET}"
    bad = fault_server.serve("/bad.bin", failure(403)) + f"?signature={SECRET}"
    entries = [getm.Entry(good, "good.bin", checksum="crc32c:" + CRC32C), getm.Entry(bad, "bad.bin")]
    session = shared_session(headers={"Authorization": f"Bearer {SECRET}"})
    download(session, exported, entries, tmp_path)

    by_url = {str(attributes(span).get("url.full")): span for span in exported.spans}
    batch = by_url["None"]
    assert (batch.name, batch.kind, attributes(batch)) == (
        "nightly",
        SpanKind.INTERNAL,
        {"getm.done": 1, "getm.failed": 1},
    )
    span = by_url[fault_server.url("/good.bin")]
    assert (span.name, span.kind, span.status.status_code) == ("GET", SpanKind.CLIENT, StatusCode.UNSET)
    assert span.parent is not None and batch.context is not None
    assert span.parent.span_id == batch.context.span_id
    assert span.start_time is not None and span.end_time is not None and span.start_time < span.end_time
    known = attributes(span)
    assert (
        known.items()
        >= {
            "http.request.method": "GET",
            "http.request.resend_count": 1,
            "http.response.body.size": len(DATA),
            "server.address": "127.0.0.1",
            "server.port": fault_server.port,
            "url.scheme": "http",
            "getm.checksum": f"crc32c:{CRC32C}",
            "getm.outcome": "done",
            "getm.received_bytes": len(DATA),
            "getm.requests": 2,
            "getm.verified": True,
        }.items()
    )
    assert any(name.startswith("getm.stage.") for name in known)
    (retry,) = [event for event in span.events if event.name == "retry"]
    assert retry.attributes is not None and retry.attributes["getm.cause"] == "status"

    span = by_url[fault_server.url("/bad.bin")]
    assert span.status.status_code is StatusCode.ERROR and "403" in str(span.status.description)
    assert attributes(span).items() >= {"error.type": "403", "http.response.status_code": 403}.items()

    host = {"server.address": "127.0.0.1", "server.port": fault_server.port}
    assert exported.metric("getm.transfer.received") == [(host, len(DATA))]
    assert exported.metric("getm.transfer.active") == [({}, 0)]
    assert exported.metric("getm.transfer.retries") == [(host | {"getm.cause": "status"}, 1)]
    ended = sorted((labels["getm.outcome"], count) for labels, count in exported.metric("getm.transfer.ended"))
    assert ended == [("done", 1), ("failed", 1)]
    assert (host | {"error.type": "403"}, 1) in exported.metric("getm.transfer.duration")
    assert sum(seconds for _, seconds in exported.metric("getm.transfer.stage")) > 0
    assert SECRET not in exported.text()


def test_resumed_skipped_and_stopped_downloads(
    exported: Exported, fault_server: FaultServer, shared_session: Callable[..., getm.Session], tmp_path: Path
) -> None:
    session = shared_session()
    (tmp_path / "there.bin").write_bytes(DATA)
    there = fault_server.serve("/there.bin", Reply(body=DATA))
    download(session, exported, [getm.Entry(there, "there.bin")], tmp_path, existing="keep")
    assert exported.metric("getm.transfer.ended") == [({"getm.outcome": "skipped"}, 1)]
    assert [attributes(span) for span in exported.spans] == [{"getm.skipped": 1}]

    large, gate = DATA * 30, fault_server.gate()
    stalled = fault_server.serve("/x.bin", Reply(body=large, stall_at=2_000_000, gate=fault_server.gate()))
    held = fault_server.serve("/one.bin", Reply(body=b"1", hold=gate))
    with exported.telemetry.batch() as on_event:

        def hear(event: getm.Event) -> None:
            on_event(event)
            if isinstance(event, getm.Started) and event.index == 0:
                gate.open()

        entries = [getm.Entry(stalled, "x.bin"), getm.Entry(held, "one.bin")]
        for result in session.download_all(entries, directory=tmp_path, jobs=2, on_event=hear):
            assert result.index == 1
            break
    outcomes = {attributes(span).get("url.full"): attributes(span).get("getm.outcome") for span in exported.spans}
    assert outcomes[held] == "done"
    assert outcomes[stalled] == "stopped"
    assert attributes(exported.spans[-1]) == {"getm.done": 1, "getm.stopped": 1}
    assert exported.metric("getm.transfer.active") == [({}, 0)]


async def test_a_stream_that_was_opened(
    exported: Exported, fault_server: FaultServer, shared_session: Callable[..., getm.Session]
) -> None:
    session, telemetry = shared_session(), exported.telemetry
    url = fault_server.serve("/a.bin", Reply(body=DATA)) + f"?signature={SECRET}"
    with session.urlopen(url, checksum=f"crc32c:{CRC32C}") as reader, telemetry.stream(reader):
        assert reader.read() == DATA
    with session.open(url, "r", encoding="latin-1") as text, telemetry.stream(text):
        assert len(text.read()) == len(DATA)
    parts = session.aiter_content(url)
    with telemetry.stream(parts):
        assert sum([len(part) async for part in parts]) == len(DATA)
    spans = [attributes(span) for span in exported.spans]
    assert [span["url.full"] for span in spans] == [fault_server.url("/a.bin")] * 3
    assert [span["http.response.body.size"] for span in spans] == [len(DATA)] * 3
    assert [span["getm.verified"] for span in spans] == [True, False, False]
    assert SECRET not in exported.text()


def test_a_stream_that_fails(
    exported: Exported, fault_server: FaultServer, shared_session: Callable[..., getm.Session]
) -> None:
    session, telemetry = shared_session(), exported.telemetry
    # More than a ring has room for: the mismatch cannot be known before it is read.
    url = fault_server.serve("/a.bin", Reply(body=DATA * 200))
    with (
        pytest.raises(getm.ChecksumMismatch),
        session.urlopen(url, checksum="crc32c:00000000") as reader,
        telemetry.stream(reader),
    ):
        while reader.read(1 << 20):
            pass
    with pytest.raises(ZeroDivisionError), session.urlopen(url) as reader, telemetry.stream(reader):
        1 / 0  # noqa: B018
    first, second = exported.spans
    assert attributes(first)["error.type"] == "getm.errors.ChecksumMismatch"
    assert (attributes(second)["error.type"], second.status.description) == ("ZeroDivisionError", None)
    assert exported.metric("getm.transfer.active") == [({}, 0)]
    with pytest.raises(getm.InvalidInput, match="not a bytes"), telemetry.stream(b"data"):
        pass


def test_without_an_sdk_nothing_happens(
    fault_server: FaultServer, shared_session: Callable[..., getm.Session], tmp_path: Path
) -> None:
    url = fault_server.serve("/a.bin", Reply(body=DATA))
    with Telemetry().batch() as on_event:
        (result,) = shared_session().download_all([getm.Entry(url, "a.bin")], directory=tmp_path, on_event=on_event)
    assert (tmp_path / "a.bin").read_bytes() == DATA and result.index == 0


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(getm.MissingExtra, match=r"getm\[otel\]"):
        Telemetry()


def test_it_is_loaded_by_those_who_ask_for_it() -> None:
    program = "import sys, getm.integrations.otel; getm.read; print('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE).stdout == b"False\n"
