"""The request that the current code works on, so that log lines and traces can name it."""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from typing import Protocol
from uuid import uuid4

CLIENTS_ID = re.compile(rb"[\w.:/+=-]{1,128}")


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


class RequestIds:
    """The ids of the requests of one process; to be made once it is forked."""

    def __init__(self) -> None:
        # One random UUID for all of them: one per request would cost more than all other counting.
        self._process, self._numbers = uuid4().hex[:12].encode(), count(1)

    def of(self, headers: Mapping[bytes, bytes]) -> bytes:
        """The client's `X-Request-Id` if it cannot break headers or log lines, otherwise a new one."""
        given = headers.get(b"x-request-id")
        return given if given and CLIENTS_ID.fullmatch(given) else b"%s-%d" % (self._process, next(self._numbers))


# None outside a request, for example while a model loads.
current_request: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)
