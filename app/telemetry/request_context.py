"""The request that the current code works on, so that log lines and traces can name it."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class Trace(Protocol):
    """Records the runs of one request; `app.telemetry.tracing.RequestTrace` is the implementation."""

    trace_id: str

    def ran(
        self, queue: str, queued_at: float | None, began: float, infer_s: float, batch_rows: int, failed: bool
    ) -> None: ...

    def end(self, request_id: str, method: str, route: str, status: int) -> None: ...


@dataclass(slots=True)
class RequestContext:
    """What logs and traces know about one request."""

    request_id: bytes
    trace: Trace | None = None


# None outside a request, for example while a model loads.
current_request: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)
