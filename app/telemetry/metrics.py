"""Metrics of requests and runs, and what is recorded when a request begins and ends."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from app.errors import ServiceError
from app.system.counters import Cell, Ledger
from app.telemetry.drift import Drift
from app.telemetry.logs import MAX_TEXT_CHARS, access_log
from app.telemetry.ports import PortConnections
from app.telemetry.request_context import RequestContext, RequestIds
from app.telemetry.tracing import Tracing, open_tracing
from bundle.reader import Bundle

# Bucket edges in seconds. 8.3, 16.7 and 33.3 ms are one frame at 120, 60 and 30 Hz, so that the share of frames that
# were answered in time is a ratio of two counters.
LATENCY_S = (
    *(1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3),
    *(8.3e-3, 16.7e-3, 25e-3, 33.3e-3, 50e-3, 0.1, 0.25, 0.5, 1, 2.5),
)
BATCH_ROWS = tuple(2.0**i for i in range(11))


class Telemetry:
    """The metrics of one service, summed over all its processes."""

    def __init__(self) -> None:
        self.ledger = ledger = Ledger()
        self.requests = ledger.counter("jepa_http_requests", "Requests answered", "method", "route", "status")
        self.request_seconds = ledger.histogram(
            "jepa_http_request_duration_seconds",
            "Time from the head of a request to the end of its answer",
            "method",
            "route",
            edges=LATENCY_S,
        )
        self.in_flight = ledger.gauge("jepa_http_requests_in_flight", "Requests being answered").cell()
        self.connections = ledger.gauge("jepa_http_connections", "Open connections").cell()
        self.connections_closed = ledger.counter("jepa_http_connections_closed", "Connections that ended").cell()
        self.buffered_bytes = ledger.gauge(
            "jepa_http_buffered_bytes",
            "Bytes of bodies under way and of unread answers, beyond 64 KiB of each connection",
        ).cell()
        self.grpc_connections = PortConnections("jepa_grpc_connections", "Open connections to the gRPC port")
        self.streams = ledger.gauge("jepa_streams", "Open streams").cell()
        self.log_lines_lost = ledger.counter("jepa_log_lines_lost", "Log lines dropped for want of room").cell()
        self.rejected = ledger.counter("jepa_requests_rejected", "Requests refused, by reason", "reason")
        self.loop_lag = ledger.histogram(
            "jepa_event_loop_lag_seconds", "How late the event loop wakes up from a timer", edges=LATENCY_S
        ).distribution()
        labels = ("model", "graph")
        self.rows = ledger.counter("jepa_infer_rows", "Rows computed", *labels)
        self.runs = ledger.counter("jepa_infer_executions", "Runs; rows over runs is the mean batch", *labels)
        self.batch_rows = ledger.histogram("jepa_batch_rows", "Rows of a run", *labels, edges=BATCH_ROWS)
        self.infer_seconds = ledger.histogram(
            "jepa_infer_duration_seconds", "Duration of a run", *labels, edges=LATENCY_S
        )
        self.queue_seconds = ledger.histogram(
            "jepa_queue_duration_seconds", "Time a request waits in the queue for its run", *labels, edges=LATENCY_S
        )
        self.queue_rows = ledger.gauge("jepa_queue_rows", "Rows in the queue", *labels)
        self.releases = ledger.counter(
            "jepa_batch_release",
            "Runs by why their batch was closed: it held all that waited (idle) or as much as is allowed (full)",
            *labels,
            "reason",
        )
        self.loads = ledger.counter(
            "jepa_model_loads",
            "Models loaded, refused and unloaded, counted in each process",
            "model",
            "outcome",
        )
        self._loads_stuck = ledger.gauge(
            "jepa_model_loads_stuck", "Loads of models past their limit that have not come back"
        ).cell()
        self._loads_blocked = ledger.gauge(
            "jepa_model_loads_blocked", "Processes that cannot load models; their log and /readyz say why"
        ).cell()
        self._tracing: Tracing | None = None
        self._routes: dict[tuple[str, str], RouteMetrics] = {}
        self._by_slug: dict[str, Cell] = {}
        self._registry = CollectorRegistry()
        self._registry.register(ledger)
        self._registry.register(_Processes(ledger))
        self._registry.register(self.grpc_connections)

    def begin(self, models: Collector) -> None:
        """Starts recording in a worker process, after its models are loaded; `models` collects their gauges."""
        self.ledger.turn()
        self._registry.register(models)
        self._tracing = open_tracing()
        self.request_ids = RequestIds()

    def close(self) -> None:
        """Sends the traces that are still buffered."""
        if self._tracing is not None:
            self._tracing.close()

    def graph(self, model: str, graph: str) -> "GraphMetrics":
        return GraphMetrics(self, model, graph)

    def drift(self, bundle: Bundle) -> Drift:
        return Drift(self.ledger, bundle.manifest, bundle.novelty)

    def count_load(self, model: str, outcome: str) -> None:
        # Where there is no room for another model's counters, the log still says what became of it.
        with suppress(MemoryError):
            self.loads.cell(model, outcome).add()

    def show_loads(self, stuck: int, is_blocked: bool) -> None:
        self._loads_stuck.set(stuck)
        self._loads_blocked.set(is_blocked)

    def route(self, method: str, route: str) -> "RouteMetrics":
        if (method, route) not in self._routes:
            self._routes[method, route] = RouteMetrics(self, method, route)
        return self._routes[method, route]

    def count_rejection(self, error: ServiceError) -> None:
        if error.slug not in self._by_slug:
            self._by_slug[error.slug] = self.rejected.cell(error.slug.replace("-", "_"))
        self._by_slug[error.slug].add()

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def arrived(
        self,
        headers: Mapping[bytes, bytes],
        method: str,
        path: str,
        moment: float,
        request_id: bytes | None = None,
    ) -> RequestContext:
        """The context of a request whose head arrived at `moment` (`time.monotonic`), with `request_id` if given."""
        self.in_flight.add()
        context = RequestContext(request_id or self.request_ids.of(headers))
        if self._tracing is not None:
            context.trace = self._tracing.begin(headers, method, path, moment)
        return context

    def answered(
        self, context: RequestContext, route: "RouteMetrics", method: str, path: str, status: int, seconds: float
    ) -> None:
        """Counts, traces and logs a request that has its answer."""
        self.in_flight.add(-1)
        route.answered(status, seconds)
        if context.trace is not None:
            context.trace.end(context.request_id.decode(), method, route.route, status)
        if access_log.isEnabledFor(logging.INFO):
            path = path[:MAX_TEXT_CHARS]
            fields = {"method": method, "path": path, "status": status, "ms": round(seconds * 1e3, 3)}
            access_log.info("%s %s %d", method, path, status, extra={"context": context, "fields": fields})


class RouteMetrics:
    """Counts and times the answers of one route."""

    def __init__(self, telemetry: Telemetry, method: str, route: str) -> None:
        self._requests, self.method, self.route = telemetry.requests, method, route
        self._seconds = telemetry.request_seconds.distribution(method, route)
        self._by_status: dict[int, Cell] = {}

    def answered(self, status: int, seconds: float) -> None:
        if (cell := self._by_status.get(status)) is None:
            cell = self._by_status[status] = self._requests.cell(self.method, self.route, str(status))
        cell.add()
        self._seconds.observe(seconds)


class GraphMetrics:
    """Counts the runs of one graph's queue."""

    def __init__(self, telemetry: Telemetry, model: str, graph: str) -> None:
        self._rows = telemetry.rows.cell(model, graph)
        self._runs = telemetry.runs.cell(model, graph)
        self._batch_rows = telemetry.batch_rows.distribution(model, graph)
        self._infer_seconds = telemetry.infer_seconds.distribution(model, graph)
        self._queue_seconds = telemetry.queue_seconds.distribution(model, graph)
        self._full = telemetry.releases.cell(model, graph, "full")
        self._idle = telemetry.releases.cell(model, graph, "idle")
        self.waiting = telemetry.queue_rows.cell(model, graph).set

    def ran(self, rows: int, full: bool, infer_s: float, waits_s: list[float]) -> None:
        self._rows.add(rows)
        self._runs.add()
        self._batch_rows.observe(rows)
        self._infer_seconds.observe(infer_s)
        self._queue_seconds.observe(*waits_s)
        (self._full if full else self._idle).add()


class _Processes(Collector):
    """The `process_*` metrics, summed over all worker processes; the start time is that of the first."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        found: dict[str, list[Metric]] = {}
        for pid in {sheet.pid for sheet in self._ledger.sheets} - {0}:
            for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                found.setdefault(metric.name, []).append(metric)
        for name, metrics in found.items():
            (sample,) = metrics[0].samples
            values = [metric.samples[0].value for metric in metrics]
            total = min(values) if name == "process_start_time_seconds" else sum(values)
            metrics[0].samples = [sample._replace(value=total)]
            yield metrics[0]
