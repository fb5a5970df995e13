"""Prometheus metrics, request ids and access logs, around the whole application."""

import asyncio
import logging
import platform
import re
import uuid
from collections.abc import Iterator
from itertools import count
from time import perf_counter

import onnxruntime
import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.errors import ServiceError
from app.registry import Registry

access_log = logging.getLogger("app.access")

# 8.3, 16.7 and 33.3 ms are the deadlines of 120, 60 and 30 Hz: the share of frames in time is one division.
LATENCY_S = (
    *(1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3),
    *(8.3e-3, 16.7e-3, 25e-3, 33.3e-3, 50e-3, 0.1, 0.25, 0.5, 1, 2.5),
)
BATCH_ROWS = tuple(2**i for i in range(11))
INFO_LABELS = ("model", "version", "precision", "precision_reason", "schema_hash")
LAG_EVERY_S = 0.25
PROBES = frozenset(("/livez", "/readyz", "/metrics"))
REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)


class Telemetry:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "jepa_http_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "jepa_http_request_duration_seconds",
            "From the request's head to the answer's end",
            ["method", "route"],
            buckets=LATENCY_S,
            registry=registry,
        )
        self.in_flight = Gauge("jepa_http_requests_in_flight", "Requests being answered", registry=registry)
        self.rejected = Counter("jepa_requests_rejected", "Requests refused, by reason", ["reason"], registry=registry)
        self.loop_lag = Histogram(
            "jepa_event_loop_lag_seconds", "How late the event loop wakes", buckets=LATENCY_S, registry=registry
        )
        labels = ["model", "graph"]
        self.rows = Counter("jepa_infer_rows", "Rows computed", labels, registry=registry)
        self.runs = Counter(
            "jepa_infer_executions", "Runs; rows over runs is the mean batch", labels, registry=registry
        )
        self.batch_rows = Histogram("jepa_batch_rows", "Rows in a run", labels, buckets=BATCH_ROWS, registry=registry)
        self.infer_seconds = Histogram(
            "jepa_infer_duration_seconds", "Length of a run", labels, buckets=LATENCY_S, registry=registry
        )
        self.queue_seconds = Histogram(
            "jepa_queue_duration_seconds", "Wait of a request for its run", labels, buckets=LATENCY_S, registry=registry
        )
        self.releases = Counter(
            "jepa_batch_release",
            "Runs by what ended their gathering: all that waited (idle) or the largest run allowed (full)",
            [*labels, "reason"],
            registry=registry,
        )
        Gauge("jepa_build_info", "Always 1", ["version", "python", "onnxruntime"], registry=registry).labels(
            __version__, platform.python_version(), onnxruntime.__version__
        ).set(1)
        ProcessCollector(registry=registry)

    def graph(self, model: str, graph: str) -> "GraphMetrics":
        return GraphMetrics(self, model, graph)

    def watch(self, models: Registry) -> None:
        self.registry.register(_Models(models))

    def count_rejection(self, error: ServiceError) -> None:
        self.rejected.labels(error.slug.replace("-", "_")).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)

    async def measure_loop_lag(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self.loop_lag.observe(max(0.0, loop.time() - due))


class GraphMetrics:
    """Watches one queue; labels are looked up once, as a run may take no longer than they do."""

    def __init__(self, telemetry: Telemetry, model: str, graph: str) -> None:
        self._rows = telemetry.rows.labels(model, graph)
        self._runs = telemetry.runs.labels(model, graph)
        self._batch_rows = telemetry.batch_rows.labels(model, graph)
        self._infer_seconds = telemetry.infer_seconds.labels(model, graph)
        self._queue_seconds = telemetry.queue_seconds.labels(model, graph)
        self._full = telemetry.releases.labels(model, graph, "full")
        self._idle = telemetry.releases.labels(model, graph, "idle")

    def ran(self, rows: int, full: bool, infer_s: float, waits_s: list[float]) -> None:
        self._rows.inc(rows)
        self._runs.inc()
        self._batch_rows.observe(rows)
        self._infer_seconds.observe(infer_s)
        for wait_s in waits_s:
            self._queue_seconds.observe(wait_s)
        (self._full if full else self._idle).inc()


class _Models(Collector):
    """Read from the models at each scrape, so that no gauge can drift from what it counts."""

    def __init__(self, models: Registry) -> None:
        self._models = models

    def collect(self) -> Iterator[GaugeMetricFamily]:
        queue_rows = GaugeMetricFamily("jepa_queue_rows", "Rows that wait", labels=["model", "graph"])
        info = GaugeMetricFamily("jepa_model_info", "Always 1", labels=INFO_LABELS)
        load = GaugeMetricFamily("jepa_model_load_duration_seconds", "Time the load took", labels=["model"])
        for name, model in self._models.models.items():
            for graph, queue in model.engine.queues.items():
                queue_rows.add_metric([name, graph], queue.queue_rows)
            manifest = model.bundle.manifest
            about = [model.precision, model.precision_reason, manifest.schema_hash]
            info.add_metric([name, str(manifest.version), *about], 1)
            load.add_metric([name], model.load_s)
        yield from (queue_rows, info, load)


class TelemetryMiddleware:
    """Counts and times requests, and gives each an id: the client's `X-Request-Id`, or a new one."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self.app = app
        self.telemetry = telemetry
        # A random UUID for each request costs more than all the rest of this class.
        self._process_id = uuid.uuid4().hex[:12]
        self._count = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self.app(scope, receive, send)
            return
        request_id = Headers(scope=scope).get("x-request-id", "")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = f"{self._process_id}-{next(self._count)}"
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        started = perf_counter()
        self.telemetry.in_flight.inc()
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            self.telemetry.in_flight.dec()
            self._record(scope, request_id, status, perf_counter() - started)

    def _record(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        # The template of the route, never the path: labels must not grow with what clients send.
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if route != "unmatched" else "other"
        self.telemetry.requests.labels(method, route, status).inc()
        self.telemetry.request_seconds.labels(method, route).observe(seconds)
        if access_log.isEnabledFor(logging.INFO):
            line = {
                "request_id": request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(seconds * 1e3, 3),
            }
            access_log.info(orjson.dumps(line).decode())
