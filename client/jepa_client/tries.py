"""Tries: a call may be sent more than once, where that is safe and its deadline allows it."""

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
FIRST_PAUSE_S = 0.02  # doubled with each try; drawn below that, so that bots refused together do not return together


class Tries:
    """Of one call. Its deadline counts from here."""

    def __init__(self, service: Service, call: Call[Any]) -> None:
        self._deadline = monotonic() + service.timeout
        self._service = service
        self._call = call
        self._retries = 0 if call.once else service.max_retries
        self._pause_s = FIRST_PAUSE_S

    def request(self) -> dict[str, Any]:
        """Arguments of httpx's `request`, the time that is left among them."""
        call, left = self._call, self._deadline - monotonic()
        if left <= 0:
            raise self._too_late()
        # In whole milliseconds: the service need not parse a head again that is the same as the last.
        return {
            "method": call.method,
            "url": call.path,
            "params": call.params,
            "headers": {**call.headers, "X-Request-Timeout-Ms": f"{max(1, round(left * 1000))}"},
            "content": call.content,
            "timeout": left,  # for httpx that of each step: a call that has to connect first may take somewhat longer
        }

    def pause(self, failure: httpx.RequestError | JepaError) -> float:
        """Seconds until the next try; raises where there is none."""
        error = failure if isinstance(failure, JepaError) else self._named(failure)
        # A call computes and changes nothing, so one whose answer was lost may be sent again. But 409 and 504 say that
        # nobody wants the answer any more.
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
    """Raises what the service refused with."""
    if answer.status_code != 200:
        raise refusal(answer)
    return answer
