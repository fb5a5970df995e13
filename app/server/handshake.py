"""How a connection becomes a stream: the request passes the guard like any other."""

from time import monotonic

from app.api.answer import Answer
from app.api.guard import Guard
from app.api.handlers import Handlers
from app.api.problems import PROBLEMS
from app.errors import ServiceError
from app.server.framing import Head
from app.server.stream import PATH, Stream, open_stream


def shake_hands(guard: Guard, handlers: Handlers, head: Head) -> tuple[Stream | Answer, bytes]:
    """The stream, or the answer that refuses it, and the id of the request."""
    path = PATH.decode()
    visit = guard.visit(head.headers, "GET", path, monotonic(), route=guard.telemetry.route("GET", path))
    request_id = visit.context.request_id
    try:
        with visit:
            visit.status = 101
            return open_stream(handlers, head.url, head.lines, request_id), request_id
    except ServiceError as error:
        return PROBLEMS.written(error), request_id
