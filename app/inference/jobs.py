"""What goes into one run: slices of the rows that callers wait for, gathered, computed and handed back to each.

Only the event loop changes a job; `execute` sees arrays alone and may run in any thread.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from time import monotonic
from typing import NamedTuple

import numpy as np

from app.errors import ModelFailed
from app.rows import Array, Run, all_finite
from app.telemetry.request_context import RequestContext

logger = logging.getLogger(__name__)


# Turns rows [n, D] of a graph's output into answers [n, …]. Callers with the same object share one call.
Readout = Callable[[Array], Array]


class Ticket(NamedTuple):
    """What a caller asks of the queue."""

    # `time.monotonic` from which on an answer is worthless.
    deadline: float | None = None
    # Which frames it is one of: of those that wait, only the newest is computed.
    stream: str | None = None
    # What is wanted of the output, if it is not the output itself; computed within the run.
    readout: Readout | None = None


ANY_TIME = Ticket()


class Timing(NamedTuple):
    """Where a request's time went, and how many rows shared its last run."""

    queue_s: float = 0.0
    infer_s: float = 0.0
    batch_rows: int = 0

    def then(self, later: "Timing") -> "Timing":
        return Timing(self.queue_s + later.queue_s, self.infer_s + later.infer_s, later.batch_rows)


NOT_RUN = Timing()


@dataclass(eq=False, slots=True)
class Job:
    """The rows of one caller: `taken` of them have gone into runs, `done` have come back."""

    inputs: tuple[Array, ...]
    rows: int
    ticket: Ticket
    queued_at: float
    future: "asyncio.Future[tuple[Array, Timing]]"
    context: RequestContext | None = None
    taken: int = 0
    done: int = 0
    queue_s: float = 0.0
    infer_s: float = 0.0
    # First row → answer, of a job that is larger than a run may be.
    parts: dict[int, Array] | None = None
    # Of FairQueue: whether it is in the queue, when its next piece is due, and its place among those due then.
    waits: bool = False
    due: float = 0.0
    order: int = 0
    # Of Admission: how long runs alone would keep it from its first run and, if it needs several, from its last; None
    # where it has another's place.
    expected_s: float | None = None
    expected_last_s: float | None = None


class Slice(NamedTuple):
    """The rows `start` … `stop` of a job: all of them, unless it is larger than a run may be."""

    job: Job
    start: int
    stop: int

    def inputs(self) -> tuple[Array, ...]:
        if self.stop - self.start == self.job.rows:
            return self.job.inputs
        return tuple(array[self.start : self.stop] for array in self.job.inputs)


class Outcome(NamedTuple):
    """What a run came to: an answer for each slice, when it began (`time.monotonic`), and how long it took."""

    answers: list[Array | ModelFailed]
    began: float
    infer_s: float


def execute(run: Run, batch: list[Slice], clock: Callable[[], float] = monotonic) -> Outcome:
    began = clock()
    answers = _answers(run, batch)
    return Outcome(answers, began, clock() - began)


def _answers(run: Run, batch: list[Slice]) -> list[Array | ModelFailed]:
    """One run for all; if it fails, one for each, so that a poisoned request fails alone."""
    try:
        if len(batch) == 1:
            # The usual run, of one request.
            (piece,) = batch
            output = _checked(run(*piece.inputs()), piece.stop - piece.start, piece.start)
            return [_read_out(piece.job.ticket.readout, output)]
        edges = [*accumulate((piece.stop - piece.start for piece in batch), initial=0)]
        inputs = zip(*(piece.inputs() for piece in batch), strict=True)
        output = _checked(run(*map(np.concatenate, inputs)), edges[-1], batch[0].start)
        readouts = {piece.job.ticket.readout for piece in batch}
        if len(readouts) == 1:
            output = _read_out(readouts.pop(), output)
            return [output[start:end] for start, end in pairwise(edges)]
        return _read_apart(readouts, batch, [output[start:end] for start, end in pairwise(edges)])
    except Exception as error:
        # Whatever a graph raises, the queue lives on.
        if len(batch) > 1:
            return [answer for piece in batch for answer in _answers(run, [piece])]
        rows, context = batch[0].stop - batch[0].start, batch[0].job.context
        logger.exception("a run of %d rows failed", rows, extra={"context": context})
        if isinstance(error, ModelFailed):
            return [error]
        return [ModelFailed(f"the model failed on these rows ({type(error).__name__}); the service's log says why")]


def _checked(output: Array, rows: int, start: int) -> Array:
    """What a run of so many rows, of which the first is number `start` of its job, came to."""
    if len(output) != rows:
        raise ValueError(f"the graph answered {rows} rows with {len(output)}")
    if not all_finite(output):
        raise _not_finite(output, start)
    return output


def _read_out(readout: Readout | None, output: Array) -> Array:
    if readout is None:
        return output
    read = readout(output)
    if not all_finite(read):
        raise _not_finite(read, 0)
    return read


def _read_apart(readouts: set[Readout | None], batch: list[Slice], answers: list[Array]) -> list[Array | ModelFailed]:
    """Each answer as its caller's readout makes it, called once for all who have the same."""
    for readout in readouts - {None}:
        mine = [i for i, piece in enumerate(batch) if piece.job.ticket.readout is readout]
        read = _read_out(readout, np.concatenate([answers[i] for i in mine]))
        edges = [*accumulate((len(answers[i]) for i in mine), initial=0)]
        for i, (start, end) in zip(mine, pairwise(edges), strict=True):
            answers[i] = read[start:end]
    return [*answers]


def _not_finite(output: Array, start: int) -> ModelFailed:
    row = start + int(np.argmin(np.isfinite(output).all(axis=1)))
    return ModelFailed(
        f"the model answered row {row} with numbers that are not finite; compare the scale of its features with "
        "`statistics` in its bundle.json"
    )
