"""What dialects read alike from a request: the body up to its limit, compressed or not, and the deadline."""

import math
import zlib
from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from app.errors import BodyTooLarge, InvalidInput, MalformedBody, UnsupportedMediaType
from app.service import Service

RawHeaders = Mapping[bytes, bytes]  # names in lower case

# By their name in HTTP, the `wbits` of zlib; what HTTP calls deflate is zlib's format.
CODINGS = {b"gzip": 31, b"deflate": 15}


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def read_body(headers: RawHeaders, receive: Receive, max_bytes: int) -> bytes:
    """Raises as soon as the announced or the received size is over the limit, and leaves the rest unread."""
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    received = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        received += len(chunks[-1])
        if received > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def inflate(body: bytes, coding: bytes, max_bytes: int) -> bytes:
    """What was sent with `Content-Encoding: coding`; no more than `max_bytes` and one are unpacked."""
    if coding not in CODINGS:
        raise UnsupportedMediaType("this Content-Encoding is not understood; send gzip, deflate, or the body as it is")
    unpacked = zlib.decompressobj(CODINGS[coding])
    try:
        content = unpacked.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise MalformedBody(f"the body is not {coding.decode()}, as its Content-Encoding says: {error}") from None
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    if not unpacked.eof or unpacked.unused_data:
        raise MalformedBody(f"the {coding.decode()} body ends too early or goes on too long; send one whole stream")
    return content


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {max_bytes} bytes; send fewer rows at once, or send them in binary")


def read_timeout(headers: RawHeaders) -> float | None:
    """Seconds, from `X-Request-Timeout-Ms`."""
    text = headers.get(b"x-request-timeout-ms")
    return None if text is None else _milliseconds(text) / 1e3


def _milliseconds(text: bytes) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        name = "X-Request-Timeout-Ms"
        raise InvalidInput(((name,), f"{name} must be a number of milliseconds, 0 or more")).within("header")
    return value
