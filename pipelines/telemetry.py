"""OpenTelemetry: a span per step and counters of rows, sent where OTEL_EXPORTER_OTLP_ENDPOINT says."""

from __future__ import annotations

import os
from typing import Any

from pipelines.progress import Reporter
from schemas.errors import RecipeError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def observed(inner: Reporter) -> Reporter:
    """`inner`, and telemetry beside it where an endpoint is configured."""
    return Observed(inner) if any(os.environ.get(name) for name in _ENDPOINTS) else inner


class Observed:
    """Passes everything on (the Reporter protocol), and makes a span of every step.

    Spans are called after their step and carry `curatrix.rows` and `curatrix.summary`; warnings are their events. The
    counter `curatrix.rows` has the attribute `step`. Raises RecipeError where the SDK is not installed.
    """

    def __init__(self, inner: Reporter) -> None:
        self._inner = inner
        self._tracer, self._rows, self._flush = _providers()
        self._span: Any = None
        self._step, self._done = "", 0

    def start(self, step: str, total: int | None = None) -> None:
        """Open a span and pass on; a step that was never finished ends here."""
        self._end()
        self._step, self._done = step, 0
        self._span = self._tracer.start_span(step, attributes={} if total is None else {"curatrix.rows_in": total})
        self._inner.start(step, total)

    def advance(self, rows: int) -> None:
        """Count and pass on."""
        self._done += rows
        self._rows.add(rows, {"step": self._step})
        self._inner.advance(rows)

    def tell(self, doing: str) -> None:
        """Pass on."""
        self._inner.tell(doing)

    def finish(self, summary: str) -> None:
        """Close the span and pass on."""
        if self._span is not None:
            self._span.set_attribute("curatrix.summary", summary)
        self._end()
        self._flush()
        self._inner.finish(summary)

    def warn(self, text: str) -> None:
        """Note the warning on the span and pass on."""
        if self._span is not None:
            self._span.add_event("warning", {"text": text})
        self._inner.warn(text)

    def _end(self) -> None:
        if self._span is not None:
            self._span.set_attribute("curatrix.rows", self._done)
            self._span.end()
        self._span = None


def _providers() -> tuple[Any, Any, Any]:
    """A tracer, the counter of rows, and what sends both at once."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise RecipeError(
            f"{_ENDPOINTS[0]} is set, but OpenTelemetry is missing: pip install 'curatrix[telemetry]', or unset it"
        ) from error
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "curatrix")})
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    metrics = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource=resource)

    def flush() -> None:
        traces.force_flush(5_000)
        metrics.force_flush(5_000)

    return traces.get_tracer("curatrix"), metrics.get_meter("curatrix").create_counter("curatrix.rows"), flush
