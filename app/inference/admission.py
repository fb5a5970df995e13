"""What waits for the runs of one graph, and how long whoever comes now would wait.

A row's time is that of the runs, which grows with nothing but the model. How much longer rows wait in truth, because
the event loop also reads, refuses and answers meanwhile, is learnt from those that got into runs lately: were that time
shared out among the few rows that an overloaded service lets in, they would seem ever dearer, and ever fewer let in.
"""

from app.errors import QueueFull
from app.inference.fair_queue import FairQueue
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
        # Moving averages over jobs: how long runs alone would have kept them waiting, and how long they waited.
        self._expected_s = self._waited_s = 0.0

    def expected_s(self, rows: int) -> float:
        """What runs alone would keep a job of so many rows waiting: every other has its turn as often as it does."""
        if not self._run_rows:
            return 0.0
        queued, turns = self._queue.rows, rows * self._queue.jobs
        waiting = (queued if queued < turns else turns) + self._coming
        return waiting * self._run_s / (self._run_rows * self._threads)

    def wait_s(self, rows: int = 1) -> float:
        """How long a job of so many rows would wait, by how long others waited lately."""
        return self.expected_s(rows) * (self._waited_s + SHORT_S) / (self._expected_s + SHORT_S)

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

    def waited(self, expected_s: float, waited_s: float) -> None:
        """Jobs went into a run: how long they should have waited, and how long they did, on average."""
        self._expected_s += WEIGHT * (expected_s - self._expected_s)
        self._waited_s += WEIGHT * (waited_s - self._waited_s)
