"""The headers that both dialects read and write alike."""

import math
from collections.abc import Iterable, Mapping

from app.errors import InvalidInput
from app.inference.jobs import Timing

BINARY = b"application/octet-stream"
JSON = b"application/json"

# Header names are in lower case.
RawHeaders = Mapping[bytes, bytes]


def read_timeout(headers: RawHeaders) -> float | None:
    """The timeout in seconds that `X-Request-Timeout-Ms` asks for, or None; raises InvalidInput."""
    text = headers.get(b"x-request-timeout-ms")
    return None if text is None else _milliseconds(text) / 1e3


def read_stream(headers: RawHeaders) -> str | None:
    """The stream that `X-Stream-Id` names. An empty name, which a variable that is not set leaves, is none: its bots
    would replace each other's frames."""
    text = headers.get(b"x-stream-id")
    return text.decode("latin-1") if text else None


def _milliseconds(text: bytes) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        name = "X-Request-Timeout-Ms"
        raise InvalidInput(((name,), f"{name} must be a number of milliseconds, 0 or more")).within("header")
    return value


def timing_lines(timing: Timing) -> bytes:
    """`Server-Timing` and the size of the batch; empty for a request that ran no model."""
    if not timing.batch_rows:
        return b""
    times_ms = timing.queue_s * 1e3, timing.infer_s * 1e3
    return b"server-timing: queue;dur=%.3f, infer;dur=%.3f\r\nx-batch-rows: %d\r\n" % (*times_ms, timing.batch_rows)


def to_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as HTTP/1.1 has them, each with the end of its line."""
    return b"".join([b"%s: %s\r\n" % header for header in headers])


def to_pairs(lines: bytes) -> list[tuple[bytes, bytes]]:
    """The headers in such lines, as ASGI has them."""
    split = (line.partition(b": ") for line in lines.splitlines())
    return [(name, value) for name, _, value in split]
