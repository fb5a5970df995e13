"""What bots with deadlines get from an overloaded service, relative to what the same bots get without deadlines.

    make bench                                            one and eight tokens, one and two processes
    .venv/bin/python -m benchmarks.overload --quick       the bundled model alone, and shorter

Bots send a row 60 times a second, skip the frames that become due while they wait, and count an answer that comes
after the deadline as none. Not all can be in time, as refusing takes time too, and so do the bots, on the same cores.
Of the `o` requests a second that they send, no more than `a` can be answered, and the others have to be refused. Each
of P event loops computes for one second a second, `e` for an answer and `r` for a refusal. Each of N cores does, too:
`s` for an answer, with its part of a run and of the bots, and `q` for a refusal, with its part of the bots:

    a·e + (o - a)·r <= P    so that  a <= (P - o·r) / (e - r)
    a·s + (o - a)·q <= N    so that  a <= (N - o·q) / (s - q)

which is 0 where refusing alone would take all the time. All four are measured in processor time, refusals on a service
that is made to refuse whatever has less than a millisecond left. The goal is 0.8 of the least of both and of the rate
without deadlines.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.bots import Outcome, run_bots
from benchmarks.programs import CORES, Body, Service, bundles, closed_loop, need_wrk, write_body
from bundle.manifest import read_manifest

DEADLINES_MS = (16, 33, 100)
TIMES = (1.25, 2.0, 4.0)
SHARE = 0.8
ROUNDS = 3


class Row(NamedTuple):
    processes: int
    times: float
    deadline_ms: int
    # Answers in time a second, over the rate without deadlines; and the least that it should be.
    share: float
    goal: float

    def __str__(self) -> str:
        mark = "ok    " if self.share >= self.goal else "missed"
        name = f"{self.processes} process{'es' * (self.processes > 1)}, {self.times:g} times the capacity"
        return f"  {mark} {name:40} {self.deadline_ms:4} ms   {self.share:.2f}   goal {self.goal:.2f}"


class Cost(NamedTuple):
    """The processor time of a request."""

    loop_s: float
    # With the loop.
    service_s: float
    bots_s: float

    @property
    def all_s(self) -> float:
        return self.service_s + self.bots_s

    def __str__(self) -> str:
        loop, service, bots = (f"{seconds * 1e6:.0f}" for seconds in self)
        return f"{service} µs, {loop} of them on the loop, and the bots {bots}"


# Deadlines that this service refuses at the door, as an overloaded one does.
HOPELESS_MS = 0.5
HOPELESS = f"""
from app.errors import QueueFull
from app.inference.admission import Admission
refusal = Admission.refusal
Admission.refusal = lambda self, left_s, rows=1: (
    refusal(self, left_s, rows) if left_s > {HOPELESS_MS / 1e3} else QueueFull(0, "this is a benchmark")
)
"""


class Load:
    """The bots of one service."""

    def __init__(self, service: Service, body: Body, seconds: float) -> None:
        self.service, self.body, self.seconds = service, body, seconds
        closed = (closed_loop([service.url], "/embed", body, 64, seconds)["rate"] for _ in range(ROUNDS))
        self.capacity = median(closed)
        self.answer, self.refusal = (self._cost(timeout_ms) for timeout_ms in (None, HOPELESS_MS))

    def _cost(self, timeout_ms: float | None) -> Cost:
        rounds = []
        for _ in range(ROUNDS):
            loops_s, began_s = self.service.cpu_s(loops_alone=True), self.service.cpu_s()
            outcome = self._offer(1.0, timeout_ms)
            taken = self.service.cpu_s(loops_alone=True) - loops_s, self.service.cpu_s() - began_s, outcome.cpu_s
            rounds.append([seconds / outcome.statuses.total() for seconds in taken])
        return Cost(*(median(values) for values in zip(*rounds, strict=True)))

    def possible(self, processes: int, offered: float) -> float:
        """Answers a second, of so many requests a second."""
        answer, refusal = self.answer, self.refusal
        by_loops = (processes - offered * refusal.loop_s) / (answer.loop_s - refusal.loop_s)
        by_cores = (CORES - offered * refusal.all_s) / (answer.all_s - refusal.all_s)
        return max(0.0, min(by_loops, by_cores))

    def rows(self, processes: int) -> Iterator[Row]:
        for times in TIMES:
            rounds: dict[int, list[tuple[float, float]]] = {deadline_ms: [] for deadline_ms in DEADLINES_MS}
            for _ in range(ROUNDS):
                free = self._offer(times, None)
                without = free.statuses[200] / free.seconds
                for deadline_ms, shares in rounds.items():
                    outcome = self._offer(times, deadline_ms)
                    in_time = float((outcome.answered_ms <= deadline_ms).sum()) / outcome.seconds
                    possible = self.possible(processes, outcome.statuses.total() / outcome.seconds)
                    shares.append((in_time / without, SHARE * min(1.0, possible / without)))
            for deadline_ms, shares in rounds.items():
                yield Row(processes, times, deadline_ms, *(median(values) for values in zip(*shares, strict=True)))

    def _offer(self, times: float, timeout_ms: float | None) -> Outcome:
        count = round(times * self.capacity / 60)
        return run_bots(f"{self.service.url}/embed", self.body, count, self.seconds, timeout_ms=timeout_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the bundled model alone, and shorter")
    given = parser.parse_args()
    need_wrk()
    with tempfile.TemporaryDirectory() as folder:
        for bundle in bundles(Path(folder), quick=given.quick):
            manifest = read_manifest(bundle)
            tokens = len(manifest.patches)
            print(f"\n{manifest.name}, {tokens} token{'s' * (tokens > 1)}: in time, relative to no deadline")
            for processes in range(1, min(2, CORES) + 1):
                os.environ["JEPA_WORKERS"] = str(processes)
                body = write_body(Path(folder), "binary", manifest.input_dim, 1)
                with Service(bundle.parents[1], HOPELESS) as service:
                    service.wait_until_it_answers(body)
                    load = Load(service, body, 1.0 if given.quick else 3.0)
                    print(f"  an answer costs {load.answer}, a refusal {load.refusal}")
                    for row in load.rows(processes):
                        print(row, flush=True)


if __name__ == "__main__":
    main()
