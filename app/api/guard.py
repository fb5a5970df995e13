"""The guard that every request passes, whether it comes over HTTP (short way or FastAPI), /stream or gRPC.

    visit = guard.visit(headers, method, path, arrived)
    try:
        with visit:
            …  answer
    except ServiceError as error:
        …  render it in the dialect's error format

Entering checks the key, and what a browser says of the page that asks, and sets the request's context; leaving counts,
times, logs and traces the request, whatever happened in between. Any other exception is logged and leaves as
ServiceFailed, so that only a ServiceError, ClientLeft or a cancellation reaches the caller. A call on the short way
(app.api.call) does the same by the guard's own methods, as it needs no context to go back to.
"""

import logging
from collections.abc import Callable, Mapping
from time import monotonic
from types import TracebackType
from typing import Self

from app.api.browsers import Browsers
from app.api.problems import status_of
from app.errors import ClientLeft, ServiceError, ServiceFailed, Unauthorized, no_memory
from app.service import Service
from app.telemetry.logs import MAX_TEXT_CHARS
from app.telemetry.metrics import RouteMetrics
from app.telemetry.request_context import RequestContext, current_request

logger = logging.getLogger(__name__)

# nginx's status for a client that closed the connection before it got an answer.
CLIENT_LEFT = 499
# Orchestrators send no key with their probes, and the answers reveal nothing. Probes are not counted either: there are
# so many that they would drown the requests of bots in the metrics.
GRPC = "/inference.GRPCInferenceService"
HEALTH = "/grpc.health.v1.Health"
GRPC_PROBES = (f"{GRPC}/ServerLive", f"{GRPC}/ServerReady", f"{HEALTH}/Check")
PROBES = frozenset(("/livez", "/readyz", "/v2/health/live", "/v2/health/ready", *GRPC_PROBES))
METRICS = "/metrics"
# Methods that change nothing (RFC 9110, 9.2.1).
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
HANDSHAKE = b"sec-websocket-key"


class Guard:
    """Checks the keys and records the telemetry of one service."""

    def __init__(self, service: Service, open_paths: frozenset[str] = frozenset()) -> None:
        """`open_paths` need no key, like probes, but are counted."""
        self.telemetry, self.keys = service.telemetry, service.keys
        self._browsers = Browsers(service.settings)
        self._open = PROBES | open_paths | (frozenset() if service.settings.metrics_need_key else {METRICS})
        self._uncounted = PROBES | {METRICS}

    def visit(
        self,
        headers: Mapping[bytes, bytes],
        method: str,
        path: str,
        arrived: float,
        *,
        route: RouteMetrics | None = None,
        request_id: bytes | None = None,
    ) -> "Visit":
        """The visit of a request whose head arrived at `arrived` (`time.monotonic`).

        Without a `request_id` the visit takes the one the client sent, or makes a new one. A caller that learns the
        route only while answering sets `visit.route`; one whose dialect has its own statuses sets `visit.status_of`.
        """
        return Visit(self, headers, method, path, arrived, route, request_id)

    def turn_away(
        self, headers: Mapping[bytes, bytes], route: RouteMetrics, arrived: float, error: ServiceError
    ) -> bytes:
        """Records a request that is refused before anything is done for it, in a fraction of a visit's time; returns
        its id."""
        method, path = route.method, route.route
        context = self.telemetry.arrived(headers, method, path, arrived)
        self.telemetry.count_rejection(error)
        self.telemetry.answered(context, route, method, path, error.status, monotonic() - arrived)
        return context.request_id

    def check(self, headers: Mapping[bytes, bytes], method: str, path: str) -> None:
        """Raises UnknownHost, ForeignOrigin or Unauthorized where the request is not let in."""
        if path in PROBES:
            return
        # A page may read what a WebSocket sends, wherever it was opened.
        changes = method not in SAFE_METHODS or HANDSHAKE in headers
        self._browsers.check(headers, changes=changes)
        if path not in self._open:
            self.keys.check(headers)

    def has_key(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the keys admit these headers; lets a caller leave the body of an unauthorized request unread."""
        try:
            self.keys.check(headers)
        except Unauthorized:
            return False
        return True

    def counts(self, path: str) -> bool:
        return path not in self._uncounted

    def refusal(
        self, error: BaseException, path: str, status_of: Callable[[ServiceError], int] = status_of
    ) -> tuple[ServiceError | None, int]:
        """What a request that ended in `error` is refused with, None where nobody waits for that, and the status to
        count."""
        # CancelledError, which is no Exception, also means that nobody waits for the answer.
        if isinstance(error, ClientLeft) or not isinstance(error, Exception):
            return None, CLIENT_LEFT
        if isinstance(error, MemoryError):
            error = no_memory()
        if isinstance(error, ServiceError):
            self.telemetry.count_rejection(error)
            return error, status_of(error)
        logger.exception("the service failed on a request to %s", path[:MAX_TEXT_CHARS], exc_info=error)
        return ServiceFailed("the service failed on this request; its log has the reason"), 500


class Visit:
    """One request, from its head to its answer; a context manager."""

    __slots__ = (
        *("_guard", "_headers", "_is_counted", "_token"),
        *("arrived", "context", "method", "path", "route", "status", "status_of"),
    )

    def __init__(
        self,
        guard: Guard,
        headers: Mapping[bytes, bytes],
        method: str,
        path: str,
        arrived: float,
        route: RouteMetrics | None,
        request_id: bytes | None,
    ) -> None:
        self._guard, self._headers = guard, headers
        self.method, self.path, self.arrived, self.route = method, path, arrived, route
        self.status = 200
        self.status_of: Callable[[ServiceError], int] = status_of
        telemetry, self._is_counted = guard.telemetry, route is not None or guard.counts(path)
        if self._is_counted:
            self.context = telemetry.arrived(headers, method, path, arrived, request_id)
        else:
            self.context = RequestContext(request_id or telemetry.request_ids.of(headers))

    def __enter__(self) -> Self:
        self._token = current_request.set(self.context)
        try:
            self._guard.check(self._headers, self.method, self.path)
        except ServiceError as error:
            # Python does not call __exit__ when __enter__ raises.
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        refusal = None
        if error is not None:
            refusal, self.status = self._guard.refusal(error, self.path, self.status_of)
        current_request.reset(self._token)
        if self._is_counted:
            telemetry = self._guard.telemetry
            route = self.route or telemetry.route("other", "unmatched")
            telemetry.answered(self.context, route, self.method, self.path, self.status, monotonic() - self.arrived)
        if refusal is not None and refusal is not error:
            raise refusal from error
