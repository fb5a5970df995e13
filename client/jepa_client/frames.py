"""Encodes frames as WebSocket messages and decodes the messages that come back. Sends nothing itself."""

import struct
from collections.abc import Mapping
from typing import Any

import httpx
from numpy.typing import ArrayLike

from jepa_client.errors import BodyTooLarge, DeadlineExpired, JepaError, ServiceUnreachable, TooSlow, refusal
from jepa_client.rows import Rows, from_bytes, to_rows
from jepa_client.service import Service

NUMBER = struct.Struct("<I")
# By the close codes of RFC 6455.
CLOSED_FOR: Mapping[int, type[JepaError]] = {1008: TooSlow, 1009: BodyTooLarge}


class Frames:
    """The frames of one stream, numbered so that each answer can be matched to its frame."""

    def __init__(self, service: Service, params: Mapping[str, str]) -> None:
        base = httpx.URL(service.base_url)
        path = f"{base.path.rstrip('/')}/stream"
        self.url = base.copy_with(scheme={"http": "ws", "https": "wss"}[base.scheme], path=path)
        self._params = params
        self.timeout = service.timeout
        self._options = service.options()
        self._number = 0

    def connecting(self) -> dict[str, Any]:
        """Arguments for websockets' `connect`."""
        headers = self._options["headers"] | {"X-Request-Timeout-Ms": f"{max(1, round(self.timeout * 1000))}"}
        return {
            "uri": str(self.url.copy_with(params=self._params)),
            "additional_headers": headers,
            "proxy": True if self._options["trust_env"] else None,
            # Floats hardly compress.
            "compression": None,
            "max_size": None,
            "close_timeout": 1,
        }

    def message(self, features: ArrayLike) -> tuple[int, Rows, bytes]:
        """The frame's number, its rows, and the message to send."""
        rows = to_rows("features", features)
        self._number = (self._number + 1) % 2**32
        return self._number, rows, NUMBER.pack(self._number) + rows.tobytes()

    def number_of(self, received: str | bytes) -> int:
        if isinstance(received, bytes):
            number: int = NUMBER.unpack_from(received)[0]
            return number
        return int(self._problem(received).json()["seq"])

    def read(self, received: str | bytes, rows: Rows) -> Rows:
        """The embeddings of the rows; raises the error that the service refused them with."""
        if isinstance(received, str):
            raise refusal(self._problem(received))
        return from_bytes(received[NUMBER.size :], rows.shape)

    def _problem(self, text: str) -> httpx.Response:
        status = httpx.Response(200, text=text).json()["status"]
        return httpx.Response(status, text=text, request=httpx.Request("GET", self.url))

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> JepaError:
        """The error for a refused handshake."""
        return refusal(httpx.Response(status, headers=headers, content=body, request=httpx.Request("GET", self.url)))

    def ended(self, code: int, reason: str) -> JepaError:
        """The error for a connection that closed before the frame was answered."""
        kind = CLOSED_FOR.get(code, ServiceUnreachable)
        return kind(f"{self.url} was closed before this frame was answered ({code}{reason and ': '}{reason})")

    def unreachable(self, reason: Exception) -> ServiceUnreachable:
        return ServiceUnreachable(f"no stream opens at {self.url}: {str(reason) or type(reason).__name__}")

    def too_late(self) -> DeadlineExpired:
        return DeadlineExpired.noticed(str(self.url), self.timeout)
