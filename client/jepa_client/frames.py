"""Encodes frames as WebSocket messages and decodes the messages that come back. Sends nothing itself."""

import logging
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
from numpy.typing import ArrayLike

from jepa_client.answers import MAX_ANSWER_BYTES, Answer, parsed
from jepa_client.errors import (
    BodyTooLarge,
    DeadlineExpired,
    InvalidInput,
    JepaError,
    ServiceUnreachable,
    TooSlow,
    UnexpectedAnswer,
    refusal,
    told,
)
from jepa_client.inputs import OF_ACTIONS, Inputs, beside, to_inputs
from jepa_client.rows import FLOAT32_LE, Rows, from_bytes, to_rows
from jepa_client.service import Service

NUMBER = struct.Struct("<I")
# By the close codes of RFC 6455.
CLOSED_FOR: Mapping[int, type[JepaError]] = {1008: TooSlow, 1009: BodyTooLarge}


class Received(NamedTuple):
    """The answer to one frame: embeddings or forecasts as bytes, or the error that the service refused it with."""

    number: int
    content: bytes | JepaError

    def rows(self, sent: tuple[int, ...]) -> Rows:
        """One row for each of those of that shape; raises the error."""
        if isinstance(self.content, JepaError):
            raise self.content
        return from_bytes(self.content, sent)


class Frames:
    """The frames of one stream, numbered so that each answer can be matched to its frame."""

    def __init__(self, service: Service, params: Mapping[str, str], answer: str = "embed") -> None:
        """`answer` is the method of a stream that its frames are sent by."""
        base = service.address
        path = f"{base.path.rstrip('/')}/stream"
        self.url = base.copy_with(scheme={"http": "ws", "https": "wss"}[base.scheme], path=path)
        self._params, self._answer = params, answer
        self.timeout = service.timeout
        self._service = service
        self._number = 0
        # How many numbers a row has, by the service.
        self._width: int | None = None

    def connecting(self) -> dict[str, Any]:
        """Arguments for websockets' `connect`."""
        service = self._service
        headers = service.headers() | {"X-Request-Timeout-Ms": f"{max(1, round(self.timeout * 1000))}"}
        return {
            "uri": str(self.url.copy_with(params=self._params)),
            "additional_headers": headers,
            "ssl": service.trust if self.url.scheme == "wss" else None,
            "proxy": None if service.via is None else str(service.via),
            # Floats hardly compress.
            "compression": None,
            "max_size": MAX_ANSWER_BYTES,
            "close_timeout": 1,
            "logger": _WithoutHeaders(logging.getLogger("jepa_client.stream"), {}),
        }

    def message(
        self, features: ArrayLike, answer: str = "embed", actions: Inputs | None = None
    ) -> tuple[int, tuple[int, ...], bytes]:
        """The frame's number, the shape of the rows that are answered, and the message to send; TypeError if the stream
        gives other answers, and ValueError if it was opened for other actions."""
        if answer != self._answer:
            raise TypeError(
                f"this stream was opened for {self._answer}(…); for {answer}(…) open one with stream(answer={answer!r})"
            )
        rows = to_rows("features", features)
        sent = beside(rows, None if actions is None else to_inputs(actions, rows, self._frames_of_actions))
        if sent.params != (opened := {name: self._params[name] for name in OF_ACTIONS if name in self._params}):
            raise ValueError(
                f"each frame of this stream comes with {_said(opened)}, and this one with {_said(sent.params)}"
            )
        # Read once, since event loops in other threads may count on meanwhile.
        number = self._number = (self._number + 1) % 2**32
        return number, sent.shape, NUMBER.pack(number) + sent.content

    def check_horizon(self, horizon: float | None) -> None:
        """Raises ValueError unless it is None or the one that the stream was opened with."""
        opened = self._params.get("horizon")
        if horizon is not None and (opened is None or float(opened) != horizon):
            raise ValueError(
                f"this stream was opened with horizon={opened}; open one with stream(horizon={horizon}, …)"
            )

    @property
    def _frames_of_actions(self) -> int | None:
        text = self._params.get("actions")
        return None if text is None else int(text)

    def opened(self, headers: Mapping[str, str]) -> None:
        """Takes from the answer to the handshake how wide a row is; an older service does not say."""
        width = headers.get("X-Row-Width", "")
        self._width = int(width) if width.isdecimal() else None

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises InvalidInput for rows of another width than the service takes, which it would read as other rows."""
        width, takes = shape[-1], self._width
        if takes not in (None, width):
            hint = f"; if number {width} of each row is padding, leave it out" if width - 1 == takes else ""
            raise InvalidInput.noticed(f"features has {width} numbers a row, the model takes {takes}{hint}")

    def read(self, message: str | bytes) -> Received:
        """What a message says; UnexpectedAnswer if it answers no frame, and it is not known then what the next ones
        answer."""
        if isinstance(message, bytes):
            floats = len(message) - NUMBER.size
            if floats > 0 and floats % FLOAT32_LE.itemsize == 0:
                return Received(NUMBER.unpack_from(message)[0], message[NUMBER.size :])
        else:
            match parsed(message):
                case {"seq": int(number), "status": int(status)} if 400 <= status <= 599:
                    return Received(number, refusal(Answer(str(self.url), status, {}, message.encode())))
        kind = "text" if isinstance(message, str) else "bytes"
        raise UnexpectedAnswer(
            f"{self.url} sent {len(message)} {kind} that answer no frame, which is no jepa-serve; is base_url right?"
        )

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> JepaError:
        """The error for a refused handshake."""
        return refusal(Answer(str(self.url), status, httpx.Headers(headers), body))

    def ended(self, code: int, reason: str) -> JepaError:
        """The error for a connection that closed before the frame was answered."""
        kind = CLOSED_FOR.get(code, ServiceUnreachable)
        return kind(f"{self.url} was closed before this frame was answered ({code}{reason and ': '}{reason})")

    def unreachable(self, reason: Exception) -> ServiceUnreachable:
        return ServiceUnreachable(f"no stream opens at {self.url}: {told(reason)}")

    def too_late(self) -> DeadlineExpired:
        return DeadlineExpired.noticed(str(self.url), self.timeout)


def _said(params: Mapping[str, str]) -> str:
    return " and ".join(f"{name}={value}" for name, value in params.items()) or "no actions"


class _WithoutHeaders(logging.LoggerAdapter[logging.Logger]):
    """A log for websockets, which writes all headers, and so the key, at the level of debugging."""

    def isEnabledFor(self, level: int) -> bool:
        return level > logging.DEBUG and super().isEnabledFor(level)
