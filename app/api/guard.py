"""The one guard that every door enters: HTTP's two ways, /stream and gRPC.

    visit = guard.visit(headers, method, path, arrived)
    try:
        with visit:
            …  answer
    except ServiceError as error:
        …  render it in the words of the dialect

Entering checks the key; leaving counts, times, logs and traces, whatever happened in between. What leaves is a
ServiceError, or the cancellation of whoever waited.
"""

import logging
from collections.abc import Callable, Mapping
from time import monotonic
from types import TracebackType
from typing import Self

from app.errors import ClientLeft, ServiceError, ServiceFailed, Unauthorized, no_memory
from app.service import Service
from app.telemetry.metrics import RouteMetrics
from app.telemetry.request_context import RequestContext, current_request

logger = logging.getLogger(__name__)

CLIENT_LEFT = 499
# An orchestrator's probes have no key to send, and learn nothing; counting them would drown the requests of bots.
GRPC = "/inference.GRPCInferenceService"
PROBES = frozenset(
    ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready", f"{GRPC}/ServerLive", f"{GRPC}/ServerReady")
)
METRICS = "/metrics"


class Guard:
    """Keys and telemetry of one service."""

    def __init__(self, service: Service) -> None:
        self.telemetry, self.keys = service.telemetry, service.keys
        self._open = PROBES if service.settings.metrics_need_key else PROBES | {METRICS}
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
        """A request whose head came at `arrived` (`time.monotonic`).

        Without a `request_id` it gets the client's, or a new one. A door that learns its route only while it answers
        sets `visit.route`; one whose dialect has statuses of its own sets `visit.status_of`.
        """
        return Visit(self, headers, method, path, arrived, route, request_id)

    def has_key(self, headers: Mapping[bytes, bytes]) -> bool:
        """Asked beforehand by a door that would rather not read a stranger's body."""
        try:
            self.keys.check(headers)
        except Unauthorized:
            return False
        return True

    def needs_key(self, path: str) -> bool:
        return path not in self._open

    def counts(self, path: str) -> bool:
        return path not in self._uncounted


class Visit:
    """One request, from its head to its answer."""

    __slots__ = ("_guard", "_headers", "_token", "arrived", "context", "method", "path", "route", "status", "status_of")

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
        self.status_of: Callable[[ServiceError], int] = _own_status
        telemetry = guard.telemetry
        if guard.counts(path):
            self.context = telemetry.arrived(headers, method, path, arrived, request_id)
        else:
            self.context = RequestContext(request_id or telemetry.request_id(headers))

    def __enter__(self) -> Self:
        self._token = current_request.set(self.context)
        if self._guard.needs_key(self.path):
            try:
                self._guard.keys.check(self._headers)
            except ServiceError as error:
                # Python does not leave what it could not enter.
                self.__exit__(type(error), error, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        refusal = self._refusal(error)
        current_request.reset(self._token)
        if self._guard.counts(self.path):
            route = self.route or self._guard.telemetry.route("other", "unmatched")
            self._guard.telemetry.answered(
                self.context, route, self.method, self.path, self.status, monotonic() - self.arrived
            )
        if refusal is not None and refusal is not error:
            raise refusal from error

    def _refusal(self, error: BaseException | None) -> ServiceError | None:
        """What leaves in place of the error; sets the status that is counted."""
        if error is None:
            return None
        if isinstance(error, ClientLeft) or not isinstance(error, Exception):  # such as CancelledError
            self.status = CLIENT_LEFT
            return None
        if isinstance(error, MemoryError):
            error = no_memory()
        if isinstance(error, ServiceError):
            self._guard.telemetry.count_rejection(error)
            self.status = self.status_of(error)
            return error
        self.status = 500
        logger.exception("the service failed on a request to %s", self.path, exc_info=error)
        return ServiceFailed("the service failed on this request; its log has the reason")


def _own_status(error: ServiceError) -> int:
    return error.status
