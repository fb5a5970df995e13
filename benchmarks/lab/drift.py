"""How much throughput drift statistics cost: compares `jepa serve` with one that does not count, in one run.

    .venv/bin/python -m benchmarks.lab.drift --rounds 40

Both run all the time and are loaded in turn: counting, not, not, counting, for a second each. Each round gives a ratio;
the result is the median over the rounds with its 95 % confidence interval.
"""

import argparse
import tempfile
from math import comb
from pathlib import Path

import numpy as np

from benchmarks.programs import Service, closed_loop, need_wrk, write_body
from bundle.folders import locate
from bundle.manifest import read_manifest

GOAL = 0.02
CONNECTIONS = 32
BLIND = "import app.telemetry.drift; app.telemetry.drift.Drift.see = lambda *_: None"


def median_interval(values: np.ndarray) -> tuple[float, float]:
    """The confidence interval of the median, of at least 95 %, from order statistics, whatever the distribution."""
    ordered, count = np.sort(values), len(values)
    outside, rank = 0.0, 0
    while outside + 2 * comb(count, rank) / 2**count < 0.05:
        outside += 2 * comb(count, rank) / 2**count
        rank += 1
    if not rank:
        return -np.inf, np.inf
    return float(ordered[rank - 1]), float(ordered[count - rank])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=int, default=1, help="of each load, four a round")
    given = parser.parse_args()
    need_wrk()
    bundle = locate("default")
    models, width = bundle.parents[1], read_manifest(bundle).input_dim
    with tempfile.TemporaryDirectory() as folder, Service(models) as counting, Service(models, BLIND) as blind:
        for kind, rows in (("binary", 1), ("json", 1), ("binary", 64)):
            body = write_body(Path(folder), kind, width, rows)
            for service in (counting, blind):
                service.wait_until_it_answers(body)
                closed_loop([service.url], "/embed", body, CONNECTIONS, given.seconds)
            rates = np.array(
                [
                    [
                        closed_loop([service.url], "/embed", body, CONNECTIONS, given.seconds)["rate"]
                        for service in (counting, blind, blind, counting)
                    ]
                    for _ in range(given.rounds)
                ]
            )
            costs = 1 - (rates[:, 0] + rates[:, 3]) / (rates[:, 1] + rates[:, 2])
            low, high = median_interval(costs)
            cost = float(np.median(costs))
            print(
                f"{'ok    ' if cost < GOAL else 'missed'} {rows} row{'s' * (rows > 1)}, {kind}: {cost:+.2%} of "
                f"{np.median(rates[:, 1:3]):,.0f} requests/s ({low:+.2%} to {high:+.2%}), goal < {GOAL:.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
