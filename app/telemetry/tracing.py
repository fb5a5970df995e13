"""OpenTelemetry traces: a span for each request, with child spans for its waits in queues and its runs.

Tracing is on if the OTEL_* variables of OpenTelemetry's specification ask for it; the libraries come with
the extra `otel`.

The service takes all times from the monotonic clock, which never jumps, but spans need Unix time. Each request measures
the offset between the two clocks once, when its span begins, and adds it to all times of its child spans. Their order
and lengths therefore stay right even if the system clock is set while the request runs.
"""

import logging
import os
from collections.abc import Mapping
from threading import Thread
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING

from app import __version__
from bundle.install import how_to_install

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

logger = logging.getLogger(__name__)

# Tracing is on if any of these is set.
ENABLING_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTERS = ("otlp", "console", "none")
# How long shutdown waits for the last spans to be sent, so that a collector that is down cannot delay it further.
MAX_FLUSH_S = 2.0


def open_tracing() -> "Tracing | None":
    """Starts tracing, if the environment asks for it; logs why if it cannot.

    To be called after the fork, because the thread that sends the spans does not survive one.
    """
    get = os.environ.get
    exporter = get("OTEL_TRACES_EXPORTER") or "otlp"
    if not any(map(get, ENABLING_VARIABLES)) or get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none":
        return None
    protocol = next(filter(None, map(get, PROTOCOL_VARIABLES)), "http/protobuf")
    if exporter not in EXPORTERS:
        logger.error("no traces: OTEL_TRACES_EXPORTER is '%s'; there is %s", exporter, ", ".join(EXPORTERS))
    elif protocol != "http/protobuf":
        logger.error("no traces: OTLP is spoken as http/protobuf, to port 4318 of most collectors, not as %s", protocol)
    else:
        try:
            return Tracing(_provider(exporter))
        except ModuleNotFoundError as error:
            logger.error("no traces: %s is not installed; %s", error.name, how_to_install("otel"))
        except ValueError as error:
            logger.error("no traces: %s", error)
    return None


def _provider(exporter: str) -> "TracerProvider":
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    sink: SpanExporter
    if exporter == "console":
        sink = ConsoleSpanExporter()
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        sink = OTLPSpanExporter()
    name = os.environ.get("OTEL_SERVICE_NAME") or "jepa-serve"
    about = Resource.create({"service.name": name, "service.version": __version__})
    provider = TracerProvider(resource=about, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(sink))
    return provider


class Tracing:
    """Traces the requests of one process; the sampler, or the client's `traceparent`, decides which."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.propagate import extract, get_global_textmap
        from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id, set_span_in_context

        self._provider = provider
        self._fields = [field.encode() for field in get_global_textmap().fields]
        self.tracer = provider.get_tracer("jepa-serve", __version__)
        self.extract, self.within, self.hex = extract, set_span_in_context, format_trace_id
        self._kind, self.error = SpanKind.SERVER, Status(StatusCode.ERROR)

    def begin(self, headers: Mapping[bytes, bytes], method: str, path: str, arrived: float) -> "RequestTrace | None":
        """The trace of a request that arrived at `arrived` (`time.monotonic`); None if it is not sampled."""
        parent = {name.decode(): headers[name].decode("latin-1") for name in self._fields if name in headers}
        to_epoch_ns = time_ns() - monotonic_ns()
        span = self.tracer.start_span(
            method,
            self.extract(parent),
            self._kind,
            {"http.request.method": method, "url.path": path},
            start_time=to_epoch_ns + int(arrived * 1e9),
        )
        return RequestTrace(self, span, to_epoch_ns) if span.is_recording() else None

    def close(self) -> None:
        """Sends the last spans, for at most MAX_FLUSH_S."""
        flushing = Thread(target=self._provider.shutdown, daemon=True)
        flushing.start()
        flushing.join(MAX_FLUSH_S)


class RequestTrace:
    """The spans of one request; its methods take times of `time.monotonic`."""

    def __init__(self, tracing: Tracing, span: "Span", to_epoch_ns: int) -> None:
        self._tracing, self._span, self._to_epoch_ns = tracing, span, to_epoch_ns
        self.trace_id = tracing.hex(span.get_span_context().trace_id)

    def ran(
        self, queue: str, queued_at: float | None, began: float, infer_s: float, batch_rows: int, failed: bool
    ) -> None:
        """Adds a run with rows of this request; `queued_at` is None if earlier rows of it were in another run."""
        about: dict[str, str | int] = {"jepa.queue": queue, "jepa.batch.rows": batch_rows}
        if queued_at is not None:
            self._add("queue", about, queued_at, began, failed=False)
        self._add("infer", about, began, began + infer_s, failed)

    def _add(self, name: str, about: dict[str, str | int], start: float, end: float, failed: bool) -> None:
        within = self._tracing.within(self._span)
        span = self._tracing.tracer.start_span(name, within, attributes=about, start_time=self._ns(start))
        if failed:
            span.set_status(self._tracing.error)
        span.end(self._ns(end))

    def _ns(self, moment: float) -> int:
        """Unix time in nanoseconds."""
        return self._to_epoch_ns + int(moment * 1e9)

    def end(self, request_id: str, method: str, route: str, status: int) -> None:
        """Ends the span; `route` is the template, which is known only now."""
        self._span.update_name(f"{method} {route}")
        self._span.set_attributes(
            {"http.route": route, "http.response.status_code": status, "jepa.request_id": request_id}
        )
        if status >= 500:
            self._span.set_status(self._tracing.error)
        self._span.end()
