"""What bots with deadlines get from an overloaded service, relative to what the same bots get without deadlines.

    make bench                                            one and eight tokens, one and two processes
    .venv/bin/python -m benchmarks.overload --quick       the bundled model alone, one process

Bots send a row 60 times a second, skip the frames that become due while they wait, and count an answer that comes
after the deadline as none. Not all can be in time, as refusing takes time too. A service that answers `c` requests a
second, 1/c seconds each, and refuses one in `r` seconds, is offered `o` a second; if it answers `a` of them,

    a/c + (o - a)·r = 1  second,  so that  a = (1 - o·r) / (1/c - r),

which is 0 where refusing alone would take all the time. `r` over 1/c is measured in processor time, on a service that
is made to refuse whatever has less than a millisecond left. The goal is 0.8 of the lesser of `a` and the rate without
deadlines.
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
        closed = (closed_loop([service.url], "/embed", body, 64, seconds)["rate"] for _ in range(3))
        self.capacity = median(closed)
        # What a refusal costs, in answers.
        self.refusal = median(self._cost_s(HOPELESS_MS) / self._cost_s(None) for _ in range(3))

    def _cost_s(self, timeout_ms: float | None) -> float:
        """The processor time of the service for a request of bots."""
        began_s = self.service.cpu_s()
        statuses = self._offer(1.0, timeout_ms).statuses
        return (self.service.cpu_s() - began_s) / statuses.total()

    def rows(self, processes: int) -> Iterator[Row]:
        for times in TIMES:
            free = self._offer(times, None)
            without = free.statuses[200] / free.seconds
            possible = self.capacity * max(0.0, (1 - times * self.refusal) / (1 - self.refusal))
            for deadline_ms in DEADLINES_MS:
                outcome = self._offer(times, deadline_ms)
                in_time = float((outcome.answered_ms <= deadline_ms).sum()) / outcome.seconds
                yield Row(processes, times, deadline_ms, in_time / without, SHARE * min(1.0, possible / without))

    def _offer(self, times: float, timeout_ms: float | None) -> Outcome:
        count = round(times * self.capacity / 60)
        return run_bots(f"{self.service.url}/embed", self.body, count, self.seconds, timeout_ms=timeout_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the bundled model alone, one process, and shorter")
    given = parser.parse_args()
    need_wrk()
    with tempfile.TemporaryDirectory() as folder:
        for bundle in bundles(Path(folder), quick=given.quick):
            manifest = read_manifest(bundle)
            tokens = len(manifest.patches)
            print(f"\n{manifest.name}, {tokens} token{'s' * (tokens > 1)}: in time, relative to no deadline")
            for processes in (1,) if given.quick else range(1, min(2, CORES) + 1):
                os.environ["JEPA_WORKERS"] = str(processes)
                body = write_body(Path(folder), "binary", manifest.input_dim, 1)
                with Service(bundle.parents[1], HOPELESS) as service:
                    service.wait_until_it_answers(body)
                    load = Load(service, body, 1.0 if given.quick else 3.0)
                    print(f"  a refusal costs {load.refusal:.2f} of an answer")
                    for row in load.rows(processes):
                        print(row, flush=True)


if __name__ == "__main__":
    main()
