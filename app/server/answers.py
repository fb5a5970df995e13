"""Answers as bytes of HTTP/1.1, and the end of a connection after the last one."""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus

from app.api.answer import Answer
from app.api.headers import to_lines

STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
# What uvicorn answers, too.
NOT_HTTP = Answer(
    400,
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 30\r\n",
    b"Invalid HTTP request received.",
)


def to_bytes(
    answer: Answer, default_headers: Sequence[tuple[bytes, bytes]], request_id: bytes, keep_alive: bool
) -> bytes:
    """The whole message. uvicorn's `default_headers` hold the date; it replaces that list every second."""
    status, lines, body = answer
    end = b"" if keep_alive else b"connection: close\r\n"
    default_lines = _default_lines(tuple(default_headers))
    about = STATUS_LINES[status], default_lines, lines, request_id, end, body
    return b"%s%s%sx-request-id: %s\r\n%s\r\n%s" % about


# The list is a new one every second.
_default_lines = lru_cache(maxsize=1)(to_lines)


def hang_up(transport: asyncio.Transport, linger_s: float, patience_s: float) -> None:
    """Closes this side of the connection, and `linger_s` later the other: closing both while the client still sends
    would reset it, and answers on their way would be lost. It has `patience_s` to read those before the last one."""
    if not transport.can_write_eof():
        transport.close()
        return
    transport.write_eof()
    loop = asyncio.get_running_loop()
    given_up_at = loop.time() + patience_s

    def end() -> None:
        if transport.get_write_buffer_size() and loop.time() < given_up_at:
            loop.call_later(linger_s, end)
        else:
            transport.abort()

    loop.call_later(linger_s, end)
