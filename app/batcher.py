"""One queue per graph. What waited while the last run was busy goes into the next; nothing waits for company.

    submit() ─► queue ─► _dispatch, once a turn of the event loop ─┬─► a short run: on the loop ──────────┬─► own rows
                                                                   └─► else: on a thread of the Workers ──┘

Queue and jobs belong to the event loop; threads see only arrays. What is counted is rows, never requests.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, pairwise
from time import monotonic, perf_counter
from typing import NamedTuple, Protocol

import numpy as np

from app.errors import DeadlineExpired, ModelFailed, QueueFull, ServiceError, Superseded
from app.pace import Array, Pace, Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ticket:
    """What a caller asks of the queue: when (`time.monotonic`) its answer is worthless, its stream of frames."""

    deadline: float | None = None
    stream: str | None = None


ANY_TIME = Ticket()


class Timing(NamedTuple):
    """Where a request's time went, and how many rows shared its last run."""

    queue_s: float = 0.0
    infer_s: float = 0.0
    batch_rows: int = 0

    def then(self, later: "Timing") -> "Timing":
        return Timing(self.queue_s + later.queue_s, self.infer_s + later.infer_s, later.batch_rows)


NOT_RUN = Timing()


class Observer(Protocol):
    """Told of every run: its rows, whether it was as large as allowed, its seconds, and how long its callers waited."""

    def ran(self, rows: int, full: bool, infer_s: float, waits_s: list[float]) -> None: ...


class Workers:
    """The threads that all queues of a process share, handed out in turn."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="batch")
        self._free = threads
        self._line: deque[Callable[[], None]] = deque()

    def acquire(self, call_when_free: Callable[[], None]) -> bool:
        """Takes a thread, or puts the caller in line."""
        if self._free:
            self._free -= 1
            return True
        if call_when_free not in self._line:
            self._line.append(call_when_free)
        return False

    def run(self, work: "partial[_Outcome]") -> "asyncio.Future[_Outcome]":
        return asyncio.get_running_loop().run_in_executor(self._executor, work)

    def release(self) -> None:
        self._free += 1
        while self._free and self._line:  # whoever is called may have nothing left to run
            self._line.popleft()()

    def close(self) -> None:
        self._executor.shutdown()


@dataclass(eq=False)
class _Job:
    """A caller's rows: `taken` of them have gone into runs, `done` have come back."""

    inputs: tuple[Array, ...]
    rows: int
    ticket: Ticket
    queued_at: float
    future: "asyncio.Future[tuple[Array, Timing]]"
    taken: int = 0
    done: int = 0
    parts: dict[int, Array] = field(default_factory=dict)  # first row → answer
    timing: Timing = NOT_RUN


class _Slice(NamedTuple):
    """The rows `start` … `stop` of a job: all of them, unless it is larger than a run may be."""

    job: _Job
    start: int
    stop: int

    def inputs(self) -> tuple[Array, ...]:
        return tuple(array[self.start : self.stop] for array in self.job.inputs)


class _Outcome(NamedTuple):
    answers: list[Array | ModelFailed]  # one a slice
    infer_s: float


class Batcher:
    """A queue before one graph; see the module's docstring."""

    def __init__(
        self, run: Run, pace: Pace, workers: Workers, *, max_queue_rows: int, observer: Observer | None = None
    ) -> None:
        self.pace = pace
        self.queue_rows = 0
        self._run = run
        self._workers = workers
        self._max_queue_rows = max_queue_rows
        self._observer = observer
        self._queue: deque[_Job] = deque()
        self._streams: dict[str, _Job] = {}  # only jobs that are in the queue
        self._dispatch_is_due = False

    async def submit(self, *inputs: Array, ticket: Ticket = ANY_TIME) -> tuple[Array, Timing]:
        """Arrays [B, …], alike in B → their answer [B, D], as if they had been run alone."""
        loop = asyncio.get_running_loop()
        job = _Job(inputs, len(inputs[0]), ticket, monotonic(), loop.create_future())
        self._admit(job)
        if not self._dispatch_is_due:
            # At the end of this turn of the loop everything that arrived with this request is in the queue too.
            self._dispatch_is_due = True
            loop.call_soon(self._dispatch)
        try:
            async with asyncio.timeout(None if ticket.deadline is None else ticket.deadline - monotonic()):
                return await job.future
        except TimeoutError:
            raise DeadlineExpired("the deadline passed before the answer was there") from None
        finally:
            self._remove(job)

    def _admit(self, job: _Job) -> None:
        deadline, stream = job.ticket.deadline, job.ticket.stream
        if deadline is not None and deadline <= job.queued_at:
            raise DeadlineExpired("the deadline had passed before the rows reached the queue")
        if stream is not None and (older := self._streams.get(stream)):
            self._refuse(older, Superseded("a newer frame of the same X-Stream-Id came while this one waited"))
        if self.queue_rows + job.rows > self._max_queue_rows:
            raise QueueFull(self.queue_rows, self._max_queue_rows)
        self._queue.append(job)
        self.queue_rows += job.rows
        if stream is not None:
            self._streams[stream] = job

    def _remove(self, job: _Job) -> None:
        """Takes a job that was given up out of the queue; does nothing where all of it has been taken."""
        if job.taken < job.rows and job in self._queue:
            self._queue.remove(job)
            self.queue_rows -= job.rows - job.taken
            self._forget_stream(job)

    def _refuse(self, job: _Job, error: ServiceError) -> None:
        self._remove(job)
        if not job.future.done():  # the caller may have just left
            job.future.set_exception(error)

    def _forget_stream(self, job: _Job) -> None:
        if job.ticket.stream is not None:
            del self._streams[job.ticket.stream]

    def _dispatch(self) -> None:
        self._dispatch_is_due = False
        while self._queue:
            if self.queue_rows <= self.pace.inline_rows:
                if batch := self._take():
                    self._deliver(batch, _execute(self._run, batch))
            elif self._workers.acquire(self._dispatch):
                if batch := self._take():
                    running = self._workers.run(partial(_execute, self._run, batch))
                    running.add_done_callback(partial(self._finish, batch))
                else:
                    self._workers.release()
            else:
                return

    def _take(self) -> list[_Slice]:
        """The next run: whole jobs in the order they came, or one piece of a job larger than a run may be."""
        now = monotonic()
        batch: list[_Slice] = []
        room = self.pace.max_rows
        while self._queue and room:
            job = self._queue[0]
            left = job.rows - job.taken
            if job.future.done():  # cancelled, or another piece failed
                self._remove(job)
                continue
            if job.ticket.deadline is not None and job.ticket.deadline <= now:
                self._refuse(job, DeadlineExpired("the deadline passed while the rows waited"))
                continue
            if batch and left > room:
                break
            rows = min(left, room)
            batch.append(_Slice(job, job.taken, job.taken + rows))
            if job.taken == 0:
                job.timing = Timing(queue_s=now - job.queued_at)
            job.taken += rows
            room -= rows
            self.queue_rows -= rows
            self._queue.popleft()
            if job.taken < job.rows:
                self._queue.append(job)  # at the end, so that small requests pass between the pieces of a large one
            else:
                self._forget_stream(job)
        return batch

    def _finish(self, batch: list[_Slice], running: "asyncio.Future[_Outcome]") -> None:
        # First, so that the thread has its next run while answers are written.
        self._workers.release()
        self._deliver(batch, running.result())

    def _deliver(self, batch: list[_Slice], outcome: _Outcome) -> None:
        batch_rows = sum(piece.stop - piece.start for piece in batch)
        for (job, start, stop), answer in zip(batch, outcome.answers, strict=True):
            if job.future.done():  # cancelled, expired, or another piece failed
                continue
            if isinstance(answer, ModelFailed):
                job.future.set_exception(answer)
                continue
            job.parts[start] = answer
            job.done += stop - start
            job.timing = job.timing.then(Timing(0.0, outcome.infer_s, batch_rows))
            if job.done == job.rows:
                ordered = [job.parts[first] for first in sorted(job.parts)]
                job.future.set_result((ordered[0] if len(ordered) == 1 else np.concatenate(ordered), job.timing))
        if self._observer is not None:
            waits_s = [piece.job.timing.queue_s for piece in batch if piece.start == 0]
            self._observer.ran(batch_rows, batch_rows == self.pace.max_rows, outcome.infer_s, waits_s)


def _execute(run: Run, batch: list[_Slice]) -> _Outcome:
    started = perf_counter()
    answers = _answers(run, batch)
    return _Outcome(answers, perf_counter() - started)


def _answers(run: Run, batch: list[_Slice]) -> list[Array | ModelFailed]:
    """One run for all; if it fails, one for each, so that a poisoned request fails alone."""
    try:
        pieces = [piece.inputs() for piece in batch]
        output = run(*(pieces[0] if len(pieces) == 1 else map(np.concatenate, zip(*pieces, strict=True))))
        edges = [*accumulate((piece.stop - piece.start for piece in batch), initial=0)]
        if len(output) != edges[-1]:
            raise ValueError(f"the graph answered {edges[-1]} rows with {len(output)}")
        return [output[start:end] for start, end in pairwise(edges)]
    except Exception as error:  # whatever a graph raises, the queue lives on
        if len(batch) > 1:
            return [answer for piece in batch for answer in _answers(run, [piece])]
        logger.exception("a run of %d rows failed", batch[0].stop - batch[0].start)
        return [ModelFailed(f"the model failed on these rows ({type(error).__name__}); the service's log says why")]
