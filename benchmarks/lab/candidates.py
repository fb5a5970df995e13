"""What the player's own inputs cost a prediction, and what many candidates cost for one row: a table of milliseconds.

    python -m benchmarks.lab.candidates BUNDLE [--before BUNDLE]

Each line is a call of the engine, as every way in makes it: with the context encoder, the queues and the predictor, and
without HTTP. The lines run in turn, over and over, so that other work on the machine affects all alike; the lower
quartile counts, of the CPU time of the process. `--before` is a bundle whose predictor takes no inputs.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import quantiles
from time import perf_counter, process_time
from typing import Literal

import numpy as np

from app.inference.engine import Engine
from app.inference.parallelism import plan
from app.inference.threads import BatchThreads
from app.repository.look import Look
from app.repository.queues import QueueMaker
from app.repository.registry import Registry
from app.settings import Settings
from app.system.streams import Streams
from app.system.table import Table
from app.telemetry.metrics import Telemetry
from bundle.folders import locate

CANDIDATES, AT_ONCE = 64, 32
CALLS_PER_ROUND, MIN_ROUNDS = 5, 5

Call = Callable[[], Awaitable[object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="a version's or model's folder, or 'default' for the bundled one")
    parser.add_argument("--before", help="the same of a model that takes no inputs")
    parser.add_argument("--precision", choices=("auto", "float32", "int8"), default="auto")
    parser.add_argument("--frames", type=int, default=18, help="of which inputs are given (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of measuring (default: %(default)s)")
    options = parser.parse_args()
    threads = BatchThreads(1)
    try:
        wanted = {"before": options.before, "bundle": options.bundle}
        engines = {name: engine(bundle, options.precision, threads) for name, bundle in wanted.items() if bundle}
        asyncio.run(measure(lines(engines, options.frames), options.seconds))
    finally:
        threads.close()


def engine(bundle: str, precision: Literal["auto", "float32", "int8"], threads: BatchThreads) -> Engine:
    """That of a service of one process with this model alone."""
    folder = locate(bundle)
    with tempfile.TemporaryDirectory() as models:
        link = Path(models) / folder.parent.name / folder.name
        link.parent.mkdir()
        link.symlink_to(folder.resolve(), target_is_directory=True)
        settings, telemetry = Settings(models=Path(models), precision=precision), Telemetry()
        registry = Registry(settings, Table(), telemetry)
        layout = plan(settings, cores=threads.count, row_s=0.0, may_fork=False)
        registry.begin(Look(), QueueMaker(layout, threads, Streams(), telemetry.graph))
        registry.take(registry.look())
        return registry.get(None).engine


def lines(engines: dict[str, Engine], frames: int) -> dict[str, Call]:
    found: dict[str, Call] = {}
    taking = engines["bundle"]
    if not taking.actions.names:
        raise SystemExit(f"model '{taking.manifest.name}' takes no actions; measure one that does")
    rng = np.random.default_rng(0)
    row = np.zeros((1, taking.manifest.input_dim), np.float32)
    many = rng.random((CANDIDATES, frames, taking.actions.width)).astype(np.float32)
    horizon = max(each for each in taking.manifest.horizons if each <= max(frames, min(taking.manifest.horizons)))

    def add(name: str, of: Engine, actions: np.ndarray | None) -> None:
        when = horizon if horizon in of.manifest.horizons else of.manifest.horizons[-1]

        async def at_once() -> None:
            await asyncio.gather(*(of.predict(row, horizon=when, actions=actions) for _ in range(AT_ONCE)))

        found[f"one row, {name}"] = lambda: of.predict(row, horizon=when, actions=actions)
        found[f"{AT_ONCE} rows at once, {name}"] = at_once

    if "before" in engines:
        add("a model that takes none", engines["before"], None)
    add("no input known", taking, None)
    add(f"the inputs of {frames} frames", taking, many[:1])
    found[f"one row, {CANDIDATES} candidates"] = lambda: taking.predict(row, horizon=horizon, actions=many)
    return found


async def measure(calls: dict[str, Call], seconds: float) -> None:
    rounds: list[list[float]] = []
    ends_at = perf_counter() + seconds
    while len(rounds) < MIN_ROUNDS or perf_counter() < ends_at:
        spent = []
        for call in calls.values():
            # Not measured: the caches hold the weights of the other models.
            await call()
            started = process_time()
            for _ in range(CALLS_PER_ROUND):
                await call()
            spent.append((process_time() - started) / CALLS_PER_ROUND * 1e3)
        rounds.append(spent)
    taken = dict(zip(calls, (quantiles(each)[0] for each in zip(*rounds, strict=True)), strict=True))
    one = next(iter(taken.values()))
    print("| call | ms | times the first |\n|---|---|---|")
    for name, each in taken.items():
        print(f"| {name} | {each:.2f} | {each / one:.2f} |")


if __name__ == "__main__":
    main()
