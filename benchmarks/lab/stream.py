"""The cost of a frame over a stream and over POST, by `jepa_client` and by httpx alone, against the bundled model.

    .venv/bin/python -m benchmarks.lab.stream

CPU time is per frame, of the bot's process and of all processes of the service. Rounds alternate between the ways,
and the table shows the median.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import httpx
import numpy as np

from benchmarks.programs import Service
from bundle.folders import locate
from bundle.manifest import read_manifest
from jepa_client import JepaClient

FRAME_S = 1 / 60
WARM_UP = 100
Embed = Callable[[np.ndarray], np.ndarray]


class Cost(NamedTuple):
    p50_ms: float
    p99_ms: float
    # CPU time per frame.
    bot_us: float
    service_us: float


def measure(embed: Embed, service: Service, row: np.ndarray, frames: int, period_s: float) -> Cost:
    """Sends frames `period_s` apart, with latencies from when each was due; with 0, as fast as answers come."""
    for _ in range(WARM_UP):
        embed(row)
    taken = np.empty(frames)
    bot_s, service_s, due = time.process_time(), service.cpu_s(), time.perf_counter()
    for i in range(frames):
        if (left := due - time.perf_counter()) > 0:
            time.sleep(left)
        started = due if period_s else time.perf_counter()
        embed(row)
        taken[i] = time.perf_counter() - started
        due += period_s
    spent_us = [
        (now - before) / frames * 1e6 for now, before in ((time.process_time(), bot_s), (service.cpu_s(), service_s))
    ]
    return Cost(*np.percentile(taken, [50, 99]) * 1e3, *spent_us)


def by_httpx(client: httpx.Client) -> Embed:
    """As in the first lines of README."""
    floats = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}

    def embed(row: np.ndarray) -> np.ndarray:
        return np.frombuffer(client.post("/embed", content=row.tobytes(), headers=floats).content, "<f4")

    return embed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=5000, help="in a round as fast as answers come; at 60 Hz a fifth")
    given = parser.parse_args()
    bundle = locate("default")
    row = np.random.default_rng(0).uniform(0, 1, read_manifest(bundle).input_dim).astype(np.float32)
    print("| | pace | p50 | p99 | CPU of the bot | of the service |\n|---|---|---|---|---|---|")
    with (
        Service(bundle.parents[1]) as service,
        JepaClient(service.url) as client,
        httpx.Client(base_url=service.url) as plain,
    ):
        while not client.ready():
            time.sleep(0.01)
        ways: dict[str, Embed] = {
            "POST /embed by httpx": by_httpx(plain),
            "POST /embed": client.embed,
            "/stream": client.stream().embed,
        }
        for pace, period_s, frames in (("closed loop", 0.0, given.frames), ("60 Hz", FRAME_S, given.frames // 5)):
            rounds: dict[str, list[Cost]] = {name: [] for name in ways}
            for _ in range(given.rounds):
                for name, embed in ways.items():
                    rounds[name].append(measure(embed, service, row, frames, period_s))
            for name, costs in rounds.items():
                p50_ms, p99_ms, bot_us, service_us = (median(values) for values in zip(*costs, strict=True))
                print(
                    f"| {name} | {pace} | {p50_ms:.2f} ms | {p99_ms:.2f} ms | {bot_us:.0f} µs | {service_us:.0f} µs |"
                )


if __name__ == "__main__":
    main()
