"""One deadline for a whole call over httpx, whose timeouts are for each read and each write."""

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import httpx

# Of a larger body, each part of this size is written with what is left of the deadline.
WRITE_BYTES = 65536


class Deadline(float):
    """A timeout in seconds, as httpx takes it, that knows the moment (`monotonic`) at which the call must be over."""

    moment: float

    @classmethod
    def at(cls, moment: float) -> "Deadline":
        deadline = cls(max(0.0, moment - monotonic()))
        deadline.moment = moment
        return deadline


def within(moment: float) -> dict[str, Any]:
    """The `extensions` of a request that keep httpx.Client to a deadline; resolving the host's name is not bounded."""
    return {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), Deadline.at(moment)), "trace": _on_event}


def _on_event(event: str, about: dict[str, Any]) -> None:
    # Each new stream of bytes to the service (httpcore.NetworkStream) is made to look at the deadline of the request
    # that it is read for. httpcore reads until a response is whole, each time with the same timeout.
    if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
        stream = about["return_value"]
        stream.read = partial(_read, stream.read)
        stream.write = partial(_write, stream.write)


def _read(read: Callable[..., bytes], max_bytes: int, timeout: float | None = None) -> bytes:
    return read(max_bytes, _left(timeout))


def _write(write: Callable[..., None], buffer: bytes, timeout: float | None = None) -> None:
    for start in range(0, len(buffer), WRITE_BYTES):
        write(buffer[start : start + WRITE_BYTES], _left(timeout))


def _left(timeout: float | None) -> float | None:
    if not isinstance(timeout, Deadline):
        return timeout
    left = timeout.moment - monotonic()
    if left <= 0:
        raise httpx.ReadTimeout("the deadline of the call has passed")
    return left
