"""Whose request the code works for that runs now: for lines of the log, and for traces where there are any."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class Trace(Protocol):
    """Takes down the runs of one request, as `app.telemetry.tracing.RequestTrace` does."""

    trace_id: str

    def ran(
        self, queue: str, queued_at: float | None, began: float, infer_s: float, batch_rows: int, failed: bool
    ) -> None: ...

    def end(self, request_id: str, method: str, route: str, status: int) -> None: ...


@dataclass(slots=True)
class RequestContext:
    request_id: bytes
    trace: Trace | None = None


# Beside requests, as in threads that load models, nobody is.
current_request: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)
