"""What waits for the runs of one graph, and how long whoever comes now would wait.

A row's time is that of the runs, which grows with nothing but the model. How much longer rows wait in truth, because
the event loop also reads, refuses and answers meanwhile, is learnt from those that got into runs lately: were that time
shared out among the few rows that an overloaded service lets in, they would seem ever dearer, and ever fewer let in.
"""

from app.errors import QueueFull
from app.inference.fair_queue import FairQueue
from app.inference.jobs import Job, Slice
from app.inference.unread import Unread

# How much the last run counts in what runs take lately, and in how long its jobs waited.
WEIGHT = 0.2
# Waits about as short as this say little about longer ones.
SHORT_S = 1e-3
# Only so much of the time that is left may go into waiting, at the socket and in the queue. If all of it could, a queue
# under overload would grow until whoever is first has no time left, and run after run would be for rows that expire
# during it. Half leaves room for what no estimate foresees, such as a core that is taken away for some milliseconds:
# with deadlines of 16 ms and twice the load, 0.8 had twice as many rows expire, and no more in time.
WAITING_SHARE = 0.5
# What is left of the run that is on, and then a run of its own, have to be over in time as well.
RUNS = 1.5
# A request waits for so many turns of the loop: it comes into the queue, into a run, and its answer out.
TURNS = 2
# A loop that is busy with refusals takes 4 to 8 ms a turn, and the answers of a thread wait for two: one until it is
# given their rows, and one until they are written. Shorter deadlines do not allow for that.
MIN_THREADS_DEADLINE_S = 24e-3


class Waits:
    """How long jobs waited lately, and how long runs alone would have kept them waiting: moving averages."""

    def __init__(self) -> None:
        self._expected_s = self._waited_s = 0.0

    def add(self, jobs: list[tuple[float, float]]) -> None:
        """How long some should have waited, and did."""
        if jobs:
            self._expected_s += WEIGHT * (sum([expected_s for expected_s, _ in jobs]) / len(jobs) - self._expected_s)
            self._waited_s += WEIGHT * (sum([waited_s for _, waited_s in jobs]) / len(jobs) - self._waited_s)

    @property
    def stretch(self) -> float:
        """How many times as long as expected they waited."""
        return (self._waited_s + SHORT_S) / (self._expected_s + SHORT_S)


class Admission:
    """Of the jobs in `queue`, which `threads` share, in a process whose event loop reads what was `unread`."""

    def __init__(self, queue: FairQueue, threads: int, unread: Unread) -> None:
        self._queue, self._threads, self._unread = queue, threads, unread
        # Requests that were let in, in the turn of that number, and are not in the queue yet.
        self._coming = self._turn = 0
        # The turn in which the last was refused, and how much time it had left.
        self._refused_in, self._refused_left_s = -2, 0.0
        # Moving averages over runs: their seconds, their rows, and how long they took with the way to a thread.
        self._run_s = self._run_rows = self.turnaround_s = 0.0
        # For the first run of a job; and for its last if it needs several, between which others come.
        self._first, self._last = Waits(), Waits()

    def expected_s(self, rows: int) -> float:
        """What runs alone would keep the last of so many rows of a job waiting: those of others, who have their turn as
        often as it does, and its own before."""
        if not self._run_rows:
            return 0.0
        waiting = self._coming + self._queue.rows_before(rows)
        return waiting * self._run_s / (self._run_rows * self._threads)

    def wait_s(self, rows: int = 1) -> float:
        """How long the last row of such a job would wait, by how long those of others waited lately."""
        waits = self._first if rows <= self._queue.max_rows else self._last
        return self.expected_s(rows) * waits.stretch

    def refusal(self, left_s: float, rows: int = 1) -> QueueFull | None:
        """Why a job that must be answered in `left_s` may not wait; None if it may."""
        if not self._queue.rows + self._coming:
            return None
        age_s = self._unread.age_s()
        if self._unread.number != self._turn:
            # Whatever was let in before has come, or never will.
            self._turn, self._coming = self._unread.number, 0
        wait_s = self.wait_s(rows)
        if TURNS * age_s + wait_s <= min(WAITING_SHARE * left_s, left_s - RUNS * self.turnaround_s):
            return None
        # One run may always wait, unless it would hardly be over in time: runs never lack rows because whoever asked
        # was refused.
        if self._queue.rows + self._coming < self._run_rows and self.expected_s(rows) <= left_s / 4:
            return None
        self._refused_in, self._refused_left_s = self._turn, left_s
        wait_ms = (age_s + wait_s) * 1e3
        return QueueFull(self._queue.rows, f"they take about {wait_ms:.0f} ms, which the deadline hardly leaves")

    def outlasts_run(self, busy_s: float, rows: int) -> bool:
        """Whether the loop refuses jobs of short deadlines, and was busy for longer than a run of so many rows takes:
        the answers of a thread would wait for it so long once more, and their deadlines pass."""
        is_overloaded = self._unread.is_busy and self._refused_in >= self._unread.number - 1
        is_pressed = is_overloaded and self._refused_left_s < MIN_THREADS_DEADLINE_S
        return is_pressed and rows * self._run_s <= busy_s * self._run_rows

    def refusal_at_door(self, left_s: float) -> QueueFull | None:
        """As `refusal`, of a request that comes into the queue later in this turn if nothing is wrong with it."""
        if (refusal := self.refusal(left_s)) is None:
            self._coming += 1
        return refusal

    def has_come(self) -> bool:
        """A request is at the queue. Whether one was let in at the door that had not come yet, such as this."""
        was_let_in = self._coming > 0
        self._coming -= was_let_in
        return was_let_in

    def ran(self, seconds: float, rows: int, turnaround_s: float) -> None:
        self._run_s += WEIGHT * (seconds - self._run_s)
        self._run_rows += WEIGHT * (rows - self._run_rows)
        self.turnaround_s += WEIGHT * (turnaround_s - self.turnaround_s)

    def let_in(self, job: Job) -> None:
        """The job is about to be put into the queue."""
        job.expected_s = self.expected_s(min(job.rows, self._queue.max_rows))
        if job.rows > self._queue.max_rows:
            job.expected_last_s = self.expected_s(job.rows)

    def began(self, batch: list[Slice], now: float) -> None:
        """These go into a run."""
        begun = [job for job, start, _ in batch if not start]
        self._first.add([(s, now - job.queued_at) for job in begun if (s := job.expected_s) is not None])
        ended = [job for job, start, stop in batch if start and stop == job.rows]
        self._last.add([(s, now - job.queued_at) for job in ended if (s := job.expected_last_s) is not None])
