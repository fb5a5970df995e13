"""Frames: how each becomes a message of a WebSocket, and what the messages that come back say. Sends nothing."""

import struct
from collections.abc import Mapping
from typing import Any

import httpx
from numpy.typing import ArrayLike

from jepa_client.errors import BodyTooLarge, DeadlineExpired, JepaError, ServiceUnreachable, TooSlow, refusal
from jepa_client.rows import Rows, from_bytes, to_rows
from jepa_client.service import Service

NUMBER = struct.Struct("<I")
CLOSED_FOR: Mapping[int, type[JepaError]] = {1008: TooSlow, 1009: BodyTooLarge}  # codes of RFC 6455


class Frames:
    """Of one stream: numbers them, so that an answer finds its frame."""

    def __init__(self, service: Service, params: Mapping[str, str]) -> None:
        base = httpx.URL(service.base_url)
        path = f"{base.path.rstrip('/')}/stream"
        self.url = base.copy_with(scheme={"http": "ws", "https": "wss"}[base.scheme], path=path)
        self._params = params
        self.timeout = service.timeout
        self._options = service.options()
        self._number = 0

    def connecting(self) -> dict[str, Any]:
        """Arguments of websockets' `connect`."""
        headers = self._options["headers"] | {"X-Request-Timeout-Ms": f"{max(1, round(self.timeout * 1000))}"}
        return {
            "uri": str(self.url.copy_with(params=self._params)),
            "additional_headers": headers,
            "proxy": True if self._options["trust_env"] else None,
            "compression": None,  # floats hardly shrink
            "max_size": None,
            "close_timeout": 1,
        }

    def message(self, features: ArrayLike) -> tuple[int, Rows, bytes]:
        """The number of a frame, its rows, and what is sent of them."""
        rows = to_rows("features", features)
        self._number = (self._number + 1) % 2**32
        return self._number, rows, NUMBER.pack(self._number) + rows.tobytes()

    def number_of(self, received: str | bytes) -> int:
        if isinstance(received, bytes):
            number: int = NUMBER.unpack_from(received)[0]
            return number
        return int(self._problem(received).json()["seq"])

    def read(self, received: str | bytes, rows: Rows) -> Rows:
        """The embeddings of rows; raises what they were refused with."""
        if isinstance(received, str):
            raise refusal(self._problem(received))
        return from_bytes(received[NUMBER.size :], rows.shape)

    def _problem(self, text: str) -> httpx.Response:
        status = httpx.Response(200, text=text).json()["status"]
        return httpx.Response(status, text=text, request=httpx.Request("GET", self.url))

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> JepaError:
        """What a handshake was answered with."""
        return refusal(httpx.Response(status, headers=headers, content=body, request=httpx.Request("GET", self.url)))

    def ended(self, code: int, reason: str) -> JepaError:
        """Why the answer to a frame does not come any more."""
        kind = CLOSED_FOR.get(code, ServiceUnreachable)
        return kind(f"{self.url} was closed before this frame was answered ({code}{reason and ': '}{reason})")

    def unreachable(self, reason: Exception) -> ServiceUnreachable:
        return ServiceUnreachable(f"no stream opens at {self.url}: {str(reason) or type(reason).__name__}")

    def too_late(self) -> DeadlineExpired:
        return DeadlineExpired.noticed(str(self.url), self.timeout)
