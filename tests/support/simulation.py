"""A process under load, simulated: its event loop, runs and requests take time by a clock that nothing else moves."""

import asyncio
import math
import random
import selectors
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.errors import DeadlineExpired, QueueFull
from app.inference.batch_limits import BatchLimits, choose_max_rows
from app.inference.batcher import Batcher
from app.inference.jobs import Ticket
from app.inference.threads import BatchThreads, T
from app.rows import Array
from app.system.streams import Streams

# What a turn of a loop takes that has nothing to do.
TURN_S = 5e-6


class Clock:
    """Seconds, which pass when somebody spends them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


class _Selector(selectors.SelectSelector):
    """Waits by moving the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is left to happen"
        self._clock.spend(max(TURN_S, timeout))
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop by that clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(_Selector(clock))
        self._simulated = clock

    def time(self) -> float:
        return self._simulated()


class SimulatedThreads(BatchThreads):
    """Threads by that clock, each on a core of its own."""

    def __init__(self, count: int, clock: Clock) -> None:
        super().__init__(count)
        self._clock = clock

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        began, outcome, ended = self._clock.now, work(), self._clock.now
        # The loop goes on meanwhile.
        self._clock.now = began
        loop = asyncio.get_running_loop()
        running: asyncio.Future[T] = loop.create_future()
        loop.call_at(ended, running.set_result, outcome)
        self._began[running] = began
        return running


@dataclass(frozen=True)
class Costs:
    """What the loop of a process spends, in seconds."""

    read: float = 60e-6
    write: float = 40e-6
    refuse: float = 30e-6
    run: float = 60e-6
    row: float = 30e-6

    def run_of(self, rows: int) -> float:
        return self.run + rows * self.row

    def answer_of(self, rows: int, max_rows: int) -> float:
        """A request of so many rows that are answered from full runs."""
        return self.read + self.write + rows * self.run_of(max_rows) / max_rows


class Process:
    def __init__(self, costs: Costs) -> None:
        self.clock, self.costs = Clock(), costs
        measured = {2**i: costs.run_of(2**i) for i in range(7)}
        limits = BatchLimits(choose_max_rows(measured), 0, measured).with_threads(1)
        self.max_rows = limits.max_rows
        self.batcher = Batcher(
            self._run, limits, SimulatedThreads(1, self.clock), Streams(), max_queue_rows=4096, clock=self.clock
        )
        self.loop = SimulatedLoop(self.clock)

    def capacity(self, rows: int = 1) -> float:
        """Requests of so many rows that it can answer in a second."""
        return 1 / self.costs.answer_of(rows, self.max_rows)

    def most_in_time(self, times: float, rows: int = 1) -> float:
        """The requests of so many rows a second that can be answered if `times` the capacity is offered and whatever is
        not answered is refused at once: answered · answer_of + (offered - answered) · refuse = 1 s."""
        answer, refuse = self.costs.answer_of(rows, self.max_rows), self.costs.refuse
        capacity = self.capacity(rows)
        return min(capacity, times * capacity, (1 - times * capacity * refuse) / (answer - refuse))

    def _run(self, *inputs: Array) -> Array:
        self.clock.spend(self.costs.run_of(len(inputs[0])))
        return inputs[0]


@dataclass
class Answer:
    due: float
    done: float
    status: int
    # Whether it came within the bot's deadline, by the bot's own clock, which starts when the frame is due.
    in_time: bool


@dataclass
class Bot:
    """Sends a request of `rows` every 1/hz seconds, and skips those that are due while an answer is still to come."""

    process: Process
    rows: int = 1
    hz: float = 60.0
    timeout_s: float | None = None
    phase: float = 0.0
    begins_s: float = 0.0
    stream: str | None = None
    answers: list[Answer] = field(default_factory=list)

    def begin(self, until_s: float) -> None:
        self._until_s, self._frame = until_s, 0
        self._wait()

    def _due(self) -> float:
        return self.begins_s + self.phase + self._frame / self.hz

    def _wait(self) -> None:
        if self._due() < self._until_s:
            self.process.loop.call_at(self._due(), self._ask)

    def _ask(self) -> None:
        """The loop reads the request: as the front door does it."""
        process, arrived = self.process, self.process.clock()
        if self.timeout_s is not None and process.batcher.admission.refusal_at_door(self.timeout_s):
            process.clock.spend(process.costs.refuse)
            self._take(429)
        else:
            process.clock.spend(process.costs.read)
            deadline = None if self.timeout_s is None else arrived + self.timeout_s
            # As on Python 3.11, which starts tasks in the next turn.
            self._task = process.loop.create_task(self._answer(Ticket(deadline, self.stream)))

    async def _answer(self, ticket: Ticket) -> None:
        try:
            await self.process.batcher.submit(np.zeros((self.rows, 1), np.float32), ticket=ticket)
        except (QueueFull, DeadlineExpired) as error:
            status = error.status
        else:
            status = 200
        self.process.clock.spend(self.process.costs.write)
        self._take(status)

    def _take(self, status: int) -> None:
        due, done = self._due(), self.process.clock()
        in_time = status == 200 and (self.timeout_s is None or done <= due + self.timeout_s)
        self.answers.append(Answer(due, done, status, in_time))
        # The first frame that is still to come; at least the next.
        self._frame = max(self._frame + 1, math.ceil((done - self.begins_s - self.phase) * self.hz))
        self._wait()


def play(process: Process, bots: Sequence[Bot], until_s: float) -> None:
    """Lets all bots play until a moment of the simulated clock, and waits for what is still to be answered."""
    for bot in bots:
        bot.begin(until_s)
    process.loop.call_at(until_s + 1, process.loop.stop)
    process.loop.run_forever()


def crowd(process: Process, times: float, rows: int = 1, hz: float = 60.0, **of_each: Any) -> list[Bot]:
    """As many bots, at random phases, as offer so many times what the process can answer."""
    draw = random.Random(1)
    count = round(times * process.capacity(rows) / hz)
    return [Bot(process, rows, hz, phase=draw.random() / hz, **of_each) for _ in range(count)]


def rate(bots: Sequence[Bot], begins_s: float, ends_s: float) -> float:
    """Answers in time a second, of frames that were due then."""
    return sum(a.in_time for bot in bots for a in bot.answers if begins_s <= a.due < ends_s) / (ends_s - begins_s)
