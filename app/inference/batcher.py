"""One queue per graph. What waited while the last run was busy goes into the next, unless `Coalescer` puts it off.

    submit() ─► queue ─► _dispatch, once a turn of the event loop ─┬─► a short run: on the loop ──────┬─► own rows
                                                                   └─► else: on one of BatchThreads ──┘

Queue and jobs belong to the event loop; threads see only arrays. What is counted is rows, never requests.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Protocol

import numpy as np

from app.errors import DeadlineExpired, ModelFailed, QueueFull, ServiceError, Superseded
from app.inference.admission import Admission
from app.inference.batch_limits import MAX_LOOP_BLOCK_S, BatchLimits
from app.inference.coalescer import Coalescer
from app.inference.expiries import Expiries
from app.inference.fair_queue import FairQueue
from app.inference.jobs import ANY_TIME, Job, Outcome, Slice, Ticket, Timing, execute
from app.inference.threads import BatchThreads
from app.inference.unread import Unread
from app.rows import Array, Run
from app.system.streams import Streams
from app.telemetry.request_context import current_request

# One part in so many of the queue is for requests that fit into one run.
SMALL_SHARE = 8


class Observer(Protocol):
    """Is told of every run: its rows, whether it was as large as allowed, how long it took, and how long its callers
    had waited; and of the rows that are left in the queue once a run was sent off."""

    def ran(self, rows: int, full: bool, infer_s: float, waits_s: list[float]) -> None: ...

    def waiting(self, rows: int) -> None: ...


class Batcher:
    """The queue of one graph; see the docstring of the module."""

    def __init__(
        self,
        run: Run,
        limits: BatchLimits,
        threads: BatchThreads,
        streams: Streams,
        *,
        max_queue_rows: int,
        observer: Observer | None = None,
        name: str = "",
        unread: Unread | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """All queues of a process share `threads` and `unread`, those of a `name` in all processes share `streams`."""
        self.limits = limits
        self.max_queue_rows = max_queue_rows
        self._run = run
        self._name = name
        self._threads = threads
        self._streams = streams
        self._observer, self._clock = observer, clock
        self._queue = FairQueue(limits.max_rows)
        self._unread = unread or Unread(clock)
        self.admission = Admission(self._queue, threads.count, self._unread)
        self._expiries = Expiries(self._expire, clock)
        # The job of each stream that is in the queue; there is at most one.
        self._newest: dict[str, Job] = {}
        self._coalescer = Coalescer(limits, clock)
        # Whether `_end_turn` is called at the end of this turn of the loop.
        self._dispatch_is_due = False
        # When the last run on the loop was over, or was handed to a thread.
        self._left_at = 0.0

    @property
    def queue_rows(self) -> int:
        """Rows in the queue, without those of its jobs that are in a run already."""
        return self._queue.rows

    async def submit(self, *inputs: Array, ticket: Ticket = ANY_TIME) -> tuple[Array, Timing]:
        """Arrays [B, …], alike in B → their answer [B, D], as if they had been run alone.

        DeadlineExpired, Superseded and QueueFull say why rows were not computed, ModelFailed that the graph failed.
        """
        loop = asyncio.get_running_loop()
        job = Job(inputs, len(inputs[0]), ticket, self._clock(), loop.create_future(), current_request.get())
        self._admit(job)
        self._coalescer.arrived(job.queued_at)
        if self._queue.jobs == 1 and self._coalescer.expects_none:
            self._dispatch()
        if not self._dispatch_is_due:
            self._dispatch_soon(loop)
        if ticket.deadline is not None:
            self._expiries.add(job, ticket.deadline)
        try:
            return await job.future
        except BaseException:
            # Cancelled, or refused where it waited.
            job.future.cancel()
            self._remove(job)
            raise
        finally:
            if ticket.deadline is not None:
                self._expiries.remove(job)

    def _dispatch_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """At the end of this turn of the loop, when everything that came in it is in the queue."""
        self._dispatch_is_due = True
        loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._dispatch_is_due = False
        first, none_came = self._queue.first(), not self._coalescer.arrivals
        if self._coalescer.puts_off(self._queue.rows, self._clock() if first is None else first.queued_at):
            self._dispatch_soon(asyncio.get_running_loop())
        elif first is not None or none_came:
            self._dispatch()

    def _admit(self, job: Job) -> None:
        deadline, stream, _ = job.ticket
        if deadline is not None:
            was_let_in, left_s = self.admission.has_come() and job.rows == 1, deadline - job.queued_at
            if left_s <= 0:
                raise DeadlineExpired("the deadline had passed before the rows reached the queue")
        older = None if stream is None else self._newest.get(stream)
        if older is not None:
            self._refuse(older, _superseded())
        queued, room = self._queue.rows, self.max_queue_rows
        if queued and job.rows > self.limits.max_rows:
            # Callers of many rows leave some room to those of few.
            room -= room // SMALL_SHARE
        if queued + job.rows > room:
            raise QueueFull(queued, f"the queue takes {room}")
        if older is None:
            if deadline is not None and not was_let_in and (refusal := self.admission.refusal(left_s, job.rows)):
                raise refusal
            self.admission.let_in(job)
        self._queue.put(job, instead_of=older)
        if stream is not None:
            self._newest[stream] = job
            self._streams.put((self._name, stream), job.queued_at)

    def _remove(self, job: Job) -> None:
        """Takes a job that was given up out of the queue, if it is still there."""
        if job.waits:
            self._queue.remove(job)
            self._forget_stream(job)

    def _expire(self, job: Job) -> None:
        self._refuse(job, DeadlineExpired("the deadline passed before the answer was there"))

    def _refuse(self, job: Job, error: ServiceError) -> None:
        self._remove(job)
        # The caller may have left a moment ago.
        if not job.future.done():
            job.future.set_exception(error)

    def _forget_stream(self, job: Job) -> None:
        if job.ticket.stream is not None:
            del self._newest[job.ticket.stream]

    def _dispatch(self) -> None:
        began = self._clock()
        # Runs get as much of the loop as whatever it did since the last one; at one a turn, a loop that reads and
        # refuses hundreds of requests a turn would hardly run anything.
        busy_s = min(began - self._left_at, MAX_LOOP_BLOCK_S)
        ends_at = began + busy_s
        while self._queue.rows:
            if self._stays_on_the_loop(busy_s):
                if batch := self._take():
                    outcome = execute(self._run, batch, self._clock)
                    self._deliver(batch, outcome, outcome.infer_s)
                    self._left_at = self._clock()
                    self._unread.went_on(began, self._left_at)
                if self._queue.rows and self._left_at >= ends_at:
                    # The next run can wait until these answers are written and newcomers are read.
                    if not self._dispatch_is_due:
                        self._dispatch_soon(asyncio.get_running_loop())
                    break
            elif self._threads.acquire(self._dispatch):
                if batch := self._take():
                    self._send_off(batch)
                    self._left_at = self._clock()
                else:
                    self._threads.release()
            else:
                break
        if self._observer is not None:
            self._observer.waiting(self._queue.rows)

    def _send_off(self, batch: list[Slice]) -> None:
        sent_at = self._clock()
        try:
            running = self._threads.run(partial(execute, self._run, batch, self._clock))
        except (RuntimeError, MemoryError) as error:
            # No thread can be started, or the service has ended.
            self._threads.release()
            failure = ModelFailed(f"the model could not be run ({error}); send this again later")
            self._deliver(batch, Outcome([failure] * len(batch), sent_at, 0.0), 0.0)
        else:
            running.add_done_callback(partial(self._finish, batch, sent_at))

    def _stays_on_the_loop(self, busy_s: float) -> bool:
        """Whether the next run is short enough to be computed here: where one batch thread would take the core from the
        loop, by its own length; where several threads share what waits, by the length of all of it."""
        queued = self._queue.rows
        next_run = min(queued, self.limits.max_rows)
        counted = next_run if self._threads.count == 1 else queued
        return counted <= self.limits.inline_rows or self.admission.outlasts_run(busy_s, next_run)

    def _take(self) -> list[Slice]:
        """The next run: whole jobs in their turn, and as much of jobs larger than a run as there is room for."""
        queue, now = self._queue, self._clock()
        batch: list[Slice] = []
        room = self.limits.max_rows
        while room and (job := queue.first()) is not None:
            left = job.rows - job.taken
            if job.future.done():
                # Cancelled, or another piece of it failed.
                self._remove(job)
                continue
            if job.ticket is not ANY_TIME and (refusal := self._refusal(job, now)):
                self._refuse(job, refusal)
                continue
            if left > room and job.rows <= self.limits.max_rows:
                break
            if job.taken == 0:
                job.queue_s = now - job.queued_at
            rows = left if left < room else room
            batch.append(queue.take(rows))
            room -= rows
            if job.taken == job.rows and job.ticket.stream is not None:
                self._forget_stream(job)
        self.admission.began(batch, now)
        return batch

    def _refusal(self, job: Job, now: float) -> ServiceError | None:
        """Why the rows of a job are not worth a run any more; None where they are."""
        deadline, stream = job.ticket.deadline, job.ticket.stream
        # A run that ends after the deadline is wasted, so rows are refused that would be late if it took as long as
        # runs did lately. A job that is alone is tried all the same, or one slow run would have all refused for ever.
        if deadline is not None and deadline <= now + (self.admission.turnaround_s if self._queue.jobs > 1 else 0.0):
            return DeadlineExpired("the deadline passed while the rows waited, or would have before their run was over")
        if stream is not None and not job.taken and self._streams.has_newer((self._name, stream), job.queued_at):
            return _superseded()
        return None

    def _finish(self, batch: list[Slice], sent_at: float, running: "asyncio.Future[Outcome]") -> None:
        # The thread is given its next run first, and computes while answers are written.
        self._threads.release(running)
        self._deliver(batch, running.result(), self._clock() - sent_at)

    def _deliver(self, batch: list[Slice], outcome: Outcome, turnaround_s: float) -> None:
        batch_rows = sum(piece.stop - piece.start for piece in batch)
        self.admission.ran(outcome.infer_s, batch_rows, turnaround_s)
        for (job, start, stop), answer in zip(batch, outcome.answers, strict=True):
            if job.future.done():
                # Cancelled, expired, or another piece of it failed.
                continue
            if job.context is not None and job.context.trace is not None:
                queued_at, failed = None if start else job.queued_at, isinstance(answer, ModelFailed)
                job.context.trace.ran(self._name, queued_at, outcome.began, outcome.infer_s, batch_rows, failed)
            if isinstance(answer, ModelFailed):
                job.future.set_exception(answer)
                continue
            job.infer_s += outcome.infer_s
            job.done += stop - start
            if stop - start < job.rows:
                job.parts = job.parts or {}
                job.parts[start] = answer
            if job.done == job.rows:
                rows = answer if job.parts is None else np.concatenate([job.parts[at] for at in sorted(job.parts)])
                job.future.set_result((rows, Timing(job.queue_s, job.infer_s, batch_rows)))
        # Of a job that needs several runs, only the last answers its caller.
        self._coalescer.answered(sum(piece.stop == piece.job.rows for piece in batch))
        if self._observer is not None:
            waits_s = [piece.job.queue_s for piece in batch if piece.start == 0]
            self._observer.ran(batch_rows, batch_rows == self.limits.max_rows, outcome.infer_s, waits_s)


def _superseded() -> Superseded:
    return Superseded("a newer frame of the same X-Stream-Id came while this one waited")
