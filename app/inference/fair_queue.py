"""The order in which jobs get into runs: as if each had the same share of them all the time.

A caller of one row thus passes between the pieces of callers of many, however many those are, and jobs alike leave in
the order they came. The method is weighted fair queueing with equal weights (Demers, Keshav and Shenker, 1989): a job's
next piece is due when its rows would be done if every waiting job advanced by one row at a time.
"""

from heapq import heappop, heappush
from itertools import count

from app.inference.jobs import Job, Slice


class FairQueue:
    """Holds the jobs of one graph, whose runs take at most `max_rows`."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        # When the next piece of a job is due, in rounds; what orders jobs that are due together; the job.
        self._heap: list[tuple[float, int, int, Job]] = []
        self._numbers = count()
        # How many rows a job that has always waited would have had computed by now.
        self._round = 0.0
        # What waits: jobs, and their rows without those that went into runs already.
        self.jobs = self.rows = 0

    def put(self, job: Job, *, instead_of: Job | None = None) -> None:
        """Lets a job wait; `instead_of` one that was removed a moment ago, it has that one's place."""
        number = next(self._numbers)
        if instead_of is None:
            job.due, job.order = self._round + (job.rows if job.rows < self.max_rows else self.max_rows), number
        else:
            job.due, job.order = instead_of.due, instead_of.order
        job.waits = True
        self.jobs += 1
        self.rows += job.rows
        heappush(self._heap, (job.due, job.order, number, job))

    def first(self) -> Job | None:
        """The job whose turn it is."""
        heap = self._heap
        while heap and not heap[0][3].waits:
            heappop(heap)
        return heap[0][3] if heap else None

    def rows_before(self, rows: int) -> int:
        """What would be computed before the last run of a job of so many rows that came now: of every other as much, as
        each has its turn as often as it does, and its own."""
        of_others = min(self.rows, rows * self.jobs)
        return of_others if rows <= self.max_rows else of_others + rows - self.max_rows

    def take(self, rows: int) -> Slice:
        """The next rows of the first job."""
        job = heappop(self._heap)[3]
        piece = Slice(job, job.taken, job.taken + rows)
        self._round += rows / self.jobs
        job.taken += rows
        self.rows -= rows
        if job.taken < job.rows:
            job.due += min(job.rows - job.taken, self.max_rows)
            heappush(self._heap, (job.due, job.order, next(self._numbers), job))
        else:
            job.waits = False
            self.jobs -= 1
        return piece

    def remove(self, job: Job) -> None:
        """Takes a job out, and whatever of it still waits."""
        job.waits = False
        self.jobs -= 1
        self.rows -= job.rows - job.taken
        if not self.jobs:
            self._heap.clear()
