"""The deadlines of a queue's jobs, on one timer."""

import asyncio
import weakref
from time import monotonic

import numpy as np
import pytest

from app.inference.expiries import Expiries
from app.inference.jobs import ANY_TIME, NOT_RUN, Job

pytestmark = pytest.mark.anyio


def waiting() -> Job:
    return Job((np.zeros((1, 1), np.float32),), 1, ANY_TIME, monotonic(), asyncio.get_running_loop().create_future())


class Queue:
    def __init__(self) -> None:
        self.expired: list[Job] = []
        self.expiries = Expiries(self.expire, monotonic)

    def expire(self, job: Job) -> None:
        self.expired.append(job)
        self.expiries.remove(job)
        job.future.set_result((job.inputs[0], NOT_RUN))


async def test_a_queue_that_nobody_holds_goes_at_once_though_a_deadline_is_to_come() -> None:
    queue = Queue()
    queue.expiries.add(waiting(), monotonic() + 60)
    left = weakref.ref(queue)
    del queue
    assert left() is None


async def test_jobs_expire_at_their_deadlines_in_whatever_order_they_came_and_none_that_was_removed() -> None:
    queue = Queue()
    expired, expiries = queue.expired, queue.expiries
    last, first, answered, second = (waiting() for _ in range(4))
    now = monotonic()
    for job, after_s in ((last, 0.06), (first, 0.02), (answered, 0.03), (second, 0.04)):
        expiries.add(job, now + after_s)
    expiries.remove(answered)
    await last.future
    assert expired == [first, second, last]
    # Once none waits there is no timer either, and the next deadline sets one.
    again = waiting()
    expiries.add(again, monotonic() + 0.002)
    await again.future
    assert expired[-1] is again
    assert not answered.future.done()
