"""How much the service costs on top of the model's arithmetic, as one table of ratios measured side by side.

    make bench                                        three models, about eight minutes on a quiet machine
    .venv/bin/python -m benchmarks.serving --quick    the bundled model alone, two minutes

The ceiling of a rate is 1/(1/raw + 1/empty): `raw` is ONNX Runtime alone on the same cores, in the same number
format, at the best of a sweep over batches and threads with no more rows at once than the load has in flight; `empty`
is bare ASGI under uvicorn, one process per core, that reads the same bodies and answers with fixed bytes; where they
are JSON, it reads and writes their numbers. Each ratio is between two measurements next to each other in time, and the
table shows the median over the rounds.
"""

import argparse
import json
import math
import platform
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple, get_args

from app.settings import Precision
from benchmarks.bots import Outcome, run_bots
from benchmarks.programs import (
    CORES,
    Body,
    Empty,
    Service,
    ask,
    bundles,
    closed_loop,
    need_wrk,
    percentile,
    write_body,
)
from benchmarks.raw import Raw
from bundle.manifest import read_manifest

FRAME_MS = 1000 / 60
# For requests to an overloaded service.
DEADLINE_MS = 100.0
PACKAGES = ("onnxruntime", "numpy", "uvicorn", "uvloop", "httptools", "orjson")


class Row(NamedTuple):
    """A row of the table for one model."""

    name: str
    goal: str
    holds: bool
    value: float
    text: str


class Plan(NamedTuple):
    """How long to measure."""

    rounds: int
    seconds: float
    # For the memory row.
    requests: int


class Bench:
    """The measurements of one model, served with the default settings."""

    def __init__(self, bundle: Path, folder: Path, plan: Plan) -> None:
        self.models, self.plan = bundle.parents[1], plan
        width = read_manifest(bundle).input_dim
        self.json, self.binary = write_body(folder, "json", width, 1), write_body(folder, "binary", width, 1)
        self.many, self.some = write_body(folder, "binary", width, 64), write_body(folder, "binary", width, 16)
        answers = {}
        with Service(self.models) as service:
            service.wait_until_it_answers(self.binary)
            card = service.card()
            for body in (self.json, self.binary, self.many):
                answers[body.name] = folder / f"answer-{body.name}"
                answers[body.name].write_bytes(ask(service.url, body))
        self.answers = answers
        self.formats = {name: Raw(bundle, name) for name in get_args(Precision) if name != "auto"}
        self.raw = self.formats[card["precision"]]
        self.name = (
            f"{card['name']}, {len(card['patches'])} token{'s' * (len(card['patches']) > 1)}, {card['precision']}"
        )

    def rows(self) -> Iterator[Row]:
        yield self.ready()
        with ExitStack() as stack:
            service, empty = stack.enter_context(Service(self.models)), stack.enter_context(Empty(self.answers))
            service.wait_until_it_answers(self.binary)
            yield self.idle(service)
            yield self.ceiling("one row, JSON, 32 connections", 0.85, service, empty, self.json)[0]
            row, ceiling = self.ceiling("one row, binary, 32 connections", 0.9, service, empty, self.binary)
            yield row
            yield self.ceiling("64 rows, binary, 4 connections", 0.9, service, empty, self.many, 4)[0]
            yield from self.lone(service, empty)
            yield self.bots_in_time(service, ceiling)
            yield self.overload(service)
            yield self.memory(service)
        yield self.int8()

    def int8(self) -> Row:
        """The int8 rate over the float32 rate of ONNX Runtime alone, each at its best layout."""
        layouts = {name: raw.best(4 * self.many.rows) for name, raw in self.formats.items()}
        rounds = []
        for _ in range(self.plan.rounds):
            small, full = (self.formats[name].rate(layouts[name], self.plan.seconds) for name in ("int8", "float32"))
            rounds.append((small / full, small, full))
        ratio, small, full = (median(values) for values in zip(*rounds, strict=True))
        text = f"{ratio:.2f} ({small:,.0f} rows/s as {layouts['int8']}, {full:,.0f} as {layouts['float32']})"
        return Row("int8 to float32, raw rows/s", ">= 2.5", ratio >= 2.5, ratio, text)

    def ready(self) -> Row:
        taken = []
        for _ in range(self.plan.rounds):
            with Service(self.models) as service:
                taken.append(service.wait_until_it_answers(self.binary))
        return Row("start to first answer", "< 1.5 s", median(taken) < 1.5, median(taken), f"{median(taken):.2f} s")

    def idle(self, service: Service) -> Row:
        host, port = service.url.removeprefix("http://").split(":")
        connections = [socket.create_connection((host, int(port))) for _ in range(20)]
        time.sleep(1)
        before, seconds = service.cpu_s(), 2 * self.plan.seconds
        time.sleep(seconds)
        share = (service.cpu_s() - before) / seconds
        for connection in connections:
            connection.close()
        return Row("idle, 20 bots connected", "< 1 % of a core", share < 0.01, share, f"{share:.2%}")

    def ceiling(
        self, name: str, goal: float, service: Service, empty: Empty, body: Body, connections: int = 32
    ) -> tuple[Row, float]:
        """The row, and the ceiling in rows a second."""
        layout, rounds, failed = self.raw.best(connections * body.rows), [], 0.0
        for _ in range(self.plan.rounds):
            raw = self.raw.rate(layout, self.plan.seconds)
            bare = closed_loop(empty.urls, f"/{body.name}", body, connections, self.plan.seconds)["rate"] * body.rows
            served = closed_loop([service.url], "/embed", body, connections, self.plan.seconds)
            failed += served["failed"]
            rate = served["rate"] * body.rows
            rounds.append((rate * (1 / raw + 1 / bare), rate, raw, bare))
        ratio, rate, raw, bare = (median(values) for values in zip(*rounds, strict=True))
        text = f"{ratio:.2f} ({rate:,.0f} rows/s; raw {raw:,.0f} as {layout}, empty {bare:,.0f})"
        row = Row(name, f">= {goal} of the ceiling", ratio >= goal and not failed, ratio, text)
        return row, 1 / (1 / raw + 1 / bare)

    def lone(self, service: Service, empty: Empty) -> Iterator[Row]:
        rounds = []
        for _ in range(self.plan.rounds):
            raw_ms = self.raw.lone_ms(self.plan.seconds)
            bare_ms = closed_loop(empty.urls[:1], f"/{self.binary.name}", self.binary, 1, self.plan.seconds)["p50_ms"]
            served = closed_loop([service.url], "/embed", self.binary, 1, self.plan.seconds)
            p50_ms = served["p50_ms"]
            rounds.append((p50_ms / (raw_ms + bare_ms), served["p99_ms"] / p50_ms, p50_ms, raw_ms, bare_ms))
        ratio, tail, p50_ms, raw_ms, bare_ms = (median(values) for values in zip(*rounds, strict=True))
        text = f"{ratio:.2f} ({p50_ms:.3f} ms; raw {raw_ms:.3f}, empty {bare_ms:.3f})"
        yield Row("one connection, p50 to raw + empty", "<= 1.25", ratio <= 1.25, ratio, text)
        yield Row("one connection, p99 to p50", "<= 2", tail <= 2, tail, f"{tail:.2f}")

    def bots_in_time(self, service: Service, ceiling: float) -> Row:
        """The largest number of bots whose frames were all answered, 99 % of them in time, in two of three runs."""

        def are_in_time(count: int) -> bool:
            outcomes = (run_bots(f"{service.url}/embed", self.binary, count, 2 * self.plan.seconds) for _ in range(3))
            held = missed = 0
            for outcome in outcomes:
                in_time = outcome.statuses.keys() == {200} and percentile(outcome.since_due_ms, 99) <= FRAME_MS
                held, missed = held + in_time, missed + (not in_time)
                if 2 in (held, missed):
                    break
            return held >= 2

        goal = math.ceil(0.65 * ceiling / 60)
        most = _most(are_in_time, goal, int(ceiling / 60) + 1)
        text = f"{most} ({most / (ceiling / 60):.2f} of the ceiling's {ceiling / 60:.0f})"
        return Row("60 Hz bots in time", ">= 0.65 of the ceiling", most >= goal, most, text)

    def overload(self, service: Service) -> Row:
        """The rate answered under overload, relative to the best rate that the same bots got when they offered less."""
        about = median(closed_loop([service.url], "/embed", self.some, 8, self.plan.seconds)["rate"] for _ in range(3))
        count = math.ceil(2 * about * DEADLINE_MS / 1e3)

        def offer(times: float) -> tuple[float, Outcome]:
            hz = times * about / count
            outcome = run_bots(
                f"{service.url}/embed", self.some, count, 2 * self.plan.seconds, hz=hz, timeout_ms=DEADLINE_MS
            )
            return outcome.statuses[200] / outcome.seconds, outcome

        most = max(offer(times)[0] for times in (0.8, 0.9, 1.0))
        rate, outcome = offer(2.0)
        share = rate / most
        answered_ms, refused_ms = (percentile(each, 99) for each in (outcome.answered_ms, outcome.refused_ms))
        refused = ", ".join(f"{n} × {status}" for status, n in outcome.statuses.items() if status != 200)
        holds = share >= 0.9 and answered_ms <= 1.1 * DEADLINE_MS
        text = f"{share:.2f}, p99 {answered_ms:.0f} ms ({refused or 'none'} refused, p99 {refused_ms:.0f} ms)"
        goal = f">= 0.9 of capacity, p99 in the deadline of {DEADLINE_MS:g} ms"
        return Row("twice the capacity offered, 16 rows", goal, holds, share, text)

    def memory(self, service: Service) -> Row:
        """Memory growth over rounds of mixed requests, measured after one warm-up round of each kind."""
        kinds = (self.json, self.binary, self.some, self.many)
        done, first = 0.0, None
        while done < self.plan.requests:
            for body in kinds:
                done += closed_loop([service.url], "/embed", body, 32, self.plan.seconds)["rate"] * self.plan.seconds
            first = first or sum(service.resident_mib())
        growth, largest = sum(service.resident_mib()) - (first or 0.0), max(service.resident_mib())
        text = f"{largest:.0f} MiB, {growth:+.1f} MiB over {done:,.0f} requests"
        return Row("memory of a process, and growth", "< 250 MiB, flat", largest < 250 and growth < 5, largest, text)


def _most(holds: Callable[[int], bool], first: int, high: int) -> int:
    """The largest count below `high` that holds, to within 3 %, starting the search at `first`."""
    low, count = 0, first
    while low < count < high:
        low, high = (count, high) if holds(count) else (low, count)
        count = (low + high) // 2 if high - low > max(1, 0.03 * low) else low
    return low


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the bundled model alone, and shorter")
    parser.add_argument("--requests", type=int, default=50_000, help="of the memory row; 1000000 to be sure")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    given = parser.parse_args()
    need_wrk()
    plan = Plan(3, 1.0, given.requests // 5) if given.quick else Plan(3, 2.0, given.requests)
    machine = {
        "cpu": _cpu_model(),
        "cores": CORES,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "date": date.today().isoformat(),
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    tables: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for bundle in bundles(Path(folder), quick=given.quick):
            bench = Bench(bundle, Path(folder), plan)
            print(f"\n{bench.name}")
            rows = tables[bench.name] = []
            for row in bench.rows():
                rows.append(row)
                print(
                    f"  {'ok    ' if row.holds else 'missed'} {row.name:36} {row.text:72} goal {row.goal}", flush=True
                )
    print("\n" + "\n".join(_table(tables)))
    if given.out is not None:
        results = {name: [row._asdict() for row in rows] for name, rows in tables.items()}
        given.out.write_text(json.dumps({"machine": machine, "models": results}, indent=1) + "\n")


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _table(tables: dict[str, list[Row]]) -> Iterator[str]:
    """The table in Markdown, with missed goals in bold."""
    yield "| | goal | " + " | ".join(tables) + " |"
    yield "|---|---|" + "---|" * len(tables)
    for rows in zip(*tables.values(), strict=True):
        cells = (row.text.partition(" (")[0] for row in rows)
        marked = (cell if row.holds else f"**{cell}**" for row, cell in zip(rows, cells, strict=True))
        yield f"| {rows[0].name} | {rows[0].goal} | " + " | ".join(marked) + " |"


if __name__ == "__main__":
    main()
