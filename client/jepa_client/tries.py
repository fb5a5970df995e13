"""Retries a call where that is safe and its deadline allows."""

import random
from time import monotonic
from typing import Any

import httpx

from jepa_client.calls import Call
from jepa_client.errors import (
    DeadlineExpired,
    JepaError,
    NotReady,
    QueueFull,
    ServiceUnreachable,
    TooManyConnections,
    refusal,
)
from jepa_client.service import Service

PASSING = (QueueFull, NotReady, TooManyConnections, ServiceUnreachable)
# Doubles with each try. The actual pause is drawn at random below it, so that bots refused together do not all retry at
# the same moment.
FIRST_PAUSE_S = 0.02


class Tries:
    """The tries of one call, whose deadline starts with this object."""

    def __init__(self, service: Service, call: Call[Any]) -> None:
        self._deadline = monotonic() + service.timeout
        self._service = service
        self._call = call
        self._retries = 0 if call.once else service.max_retries
        self._pause_s = FIRST_PAUSE_S

    def request(self) -> dict[str, Any]:
        """Arguments for httpx's `request`, with the remaining time as the timeout."""
        call, left = self._call, self._deadline - monotonic()
        if left <= 0:
            raise self._too_late()
        # Rounded to milliseconds, consecutive heads are often identical, and the service parses those only once.
        return {
            "method": call.method,
            "url": call.path,
            "params": call.params,
            "headers": {**call.headers, "X-Request-Timeout-Ms": f"{max(1, round(left * 1000))}"},
            "content": call.content,
            # httpx applies it to each step, so a call that has to connect first may take somewhat longer.
            "timeout": left,
        }

    def pause(self, failure: httpx.RequestError | JepaError) -> float:
        """Seconds to wait before the next try; raises the error if there is none."""
        error = failure if isinstance(failure, JepaError) else self._named(failure)
        # A call computes and changes nothing, so it is safe to resend after a lost answer. 409 and 504 are not retried,
        # because by then nobody wants the answer.
        pause_s = (error.retry_after or 0) + random.uniform(0, self._pause_s)
        may_retry = isinstance(error, PASSING) and self._retries > 0
        if not may_retry or monotonic() + pause_s >= self._deadline:
            raise error from (None if error is failure else failure)
        self._retries -= 1
        self._pause_s *= 2
        return pause_s

    def _named(self, failure: httpx.RequestError) -> JepaError:
        if isinstance(failure, httpx.TimeoutException) and not isinstance(failure, httpx.ConnectTimeout):
            return self._too_late()
        reason = str(failure) or type(failure).__name__
        return ServiceUnreachable(f"no service answers at {self._service.base_url}: {reason}")

    def _too_late(self) -> DeadlineExpired:
        return DeadlineExpired.noticed(f"{self._call.path} of {self._service.base_url}", self._service.timeout)


def checked(answer: httpx.Response) -> httpx.Response:
    """Raises the error of a refused request."""
    if answer.status_code != 200:
        raise refusal(answer)
    return answer
