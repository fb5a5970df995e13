"""What every dialect reads alike from a request: the body up to its limit, the deadline, the stream."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from starlette.requests import Request

from app.batcher import Ticket
from app.errors import BodyTooLarge, InvalidInput
from app.service import Service


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Raises as soon as the announced or the received size is over the limit, and leaves the rest unread."""
    refusal = BodyTooLarge(
        f"the body is larger than {max_bytes} bytes; send fewer rows at once, or send them in binary"
    )
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise refusal
    chunks = []
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise refusal
        chunks.append(chunk)
    return b"".join(chunks)


def read_ticket(request: Request) -> Ticket:
    """Counts `X-Request-Timeout-Ms` from now."""
    deadline = None
    if (text := request.headers.get("x-request-timeout-ms")) is not None:
        deadline = monotonic() + _milliseconds(text) / 1e3
    return Ticket(deadline, request.headers.get("x-stream-id"))


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        name = "X-Request-Timeout-Ms"
        raise InvalidInput((("header", name), f"{name} must be a number of milliseconds, 0 or more"))
    return value


@contextmanager
def located_in(source: str) -> Iterator[None]:
    """Errors from here say that their field is in the "body" or the "query"."""
    try:
        yield
    except InvalidInput as error:
        raise error.within(source) from None
