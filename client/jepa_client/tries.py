"""Retries a call where that is safe and its deadline allows."""

import random
from collections.abc import Mapping
from http.client import HTTPException
from time import monotonic
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import httpx

from jepa_client.answers import MAX_ANSWER_BYTES, Answer
from jepa_client.calls import Call
from jepa_client.errors import (
    BuffersFull,
    DeadlineExpired,
    JepaError,
    NotReady,
    QueueFull,
    ServiceUnreachable,
    TooManyConnections,
    UnexpectedAnswer,
    refusal,
    told,
)
from jepa_client.service import Service

T = TypeVar("T")
# What sending raises, over the standard library and over httpx.
Failure = OSError | HTTPException | httpx.RequestError | JepaError
PASSING = (QueueFull, NotReady, TooManyConnections, BuffersFull, ServiceUnreachable)
# Doubles with each try. The actual pause is drawn at random below it, so that bots refused together do not all retry at
# the same moment.
FIRST_PAUSE_S = 0.02


class Tries(Generic[T]):
    """The tries of one call, whose deadline starts with this object."""

    def __init__(self, service: Service, call: Call[T]) -> None:
        self.deadline = monotonic() + service.timeout
        self._service = service
        self._call = call
        self._retries = 0 if call.once else service.max_retries
        self._pause_s = FIRST_PAUSE_S

    def request(self) -> dict[str, Any]:
        """Arguments for the client's way to send, which adds the timeout."""
        call, left = self._call, self.left_s()
        if left <= 0:
            raise self._too_late()
        # Rounded to milliseconds, consecutive heads are often identical, and the service parses those only once.
        return {
            "method": call.method,
            # Joined here, since httpx takes far longer for it.
            "url": f"{call.path}?{urlencode(call.params, quote_via=quote)}" if call.params else call.path,
            "headers": {**call.headers, "X-Request-Timeout-Ms": f"{max(1, round(left * 1000))}"},
            "content": call.content,
        }

    def left_s(self) -> float:
        return self.deadline - monotonic()

    def grow(self, body: bytearray, part: bytes) -> None:
        """Adds the next part of an answer's body, which may not take more than MAX_ANSWER_BYTES in all."""
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise UnexpectedAnswer(
                f"{self._url()} answered with more than {MAX_ANSWER_BYTES} bytes; if it is a jepa-serve, send fewer "
                "rows at a time"
            )

    def read(self, status: int, headers: Mapping[str, str], body: bytearray) -> T:
        """The result of the call; raises the error of a refused request."""
        answer = Answer(self._url(), status, headers, bytes(body))
        if status != 200:
            raise refusal(answer)
        if (coding := headers.get("content-encoding", "identity")) != "identity":
            raise UnexpectedAnswer(
                f"{answer.url} answered in {coding}, which was not asked for; a proxy on the way compresses answers"
            )
        return self._call.read(answer)

    def pause(self, failure: Failure) -> float:
        """Seconds to wait before the next try; raises the error if there is none."""
        error = failure if isinstance(failure, JepaError) else self._named(failure)
        # A call computes and changes nothing, so it is safe to resend after a lost answer. 409 and 504 are not retried,
        # because by then nobody wants the answer.
        pause_s = (error.retry_after or 0) + random.uniform(0, self._pause_s)
        may_retry = isinstance(error, PASSING) and self._retries > 0
        if not may_retry or monotonic() + pause_s >= self.deadline:
            raise error from (None if error is failure else failure)
        self._retries -= 1
        self._pause_s *= 2
        return pause_s

    def _named(self, failure: Failure) -> JepaError:
        if isinstance(failure, httpx.TimeoutException | TimeoutError):
            return self._too_late()
        return ServiceUnreachable(f"no service answers at {self._service.address}: {told(failure)}")

    def _too_late(self) -> DeadlineExpired:
        return DeadlineExpired.noticed(f"{self._call.path} of {self._service.address}", self._service.timeout)

    def _url(self) -> str:
        return str(self._service.address).rstrip("/") + self._call.path
