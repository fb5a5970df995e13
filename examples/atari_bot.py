"""Learns linear policies for an Atari game, once on the service's embedding of the console's memory and once on the
memory itself, and compares how well they play.

    jepa data atari breakout --frames 30000 --out breakout.parquet
    jepa train breakout.parquet --features 'ram_*' --preset quick --name breakout --out models
    jepa serve --models models
    python examples/atari_bot.py breakout

Needs ./client[atari]. Policies are learned with the cross-entropy method: many play at once, and those that score
highest decide where to search next (Szita & Lörincz, 2006, https://doi.org/10.1162/neco.2006.18.12.2936).
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import SyncVectorEnv, VectorEnv

from jepa_client import JepaClient, JepaError
from jepa_client.games.atari import make_atari
from jepa_client.games.gymnasium import EmbedVectorObservation

# The share of policies that decide where to search next.
ELITE = 0.25
# Added to the spread of the elite, less in each generation; without it the search narrows before it has found anything.
EXTRA_SPREAD = 0.3
# Games with seeds below this are for learning, those above for evaluation.
FIRST_TEST_SEED = 2**30


class Standard:
    """Standardises features by their mean and spread in random play, and appends a constant."""

    def __init__(self, envs: VectorEnv[Any, Any, Any], steps: int, rng: np.random.Generator) -> None:
        seen = [envs.reset(seed=int(rng.integers(FIRST_TEST_SEED)))[0]]
        for _ in range(steps):
            actions = rng.integers(number_of_actions(envs), size=envs.num_envs)
            seen.append(envs.step(actions)[0])
        rows = np.concatenate(seen)
        self.mean, self.scale = rows.mean(0), np.maximum(rows.std(0), 1e-3)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[P, D] → [P, D + 1]"""
        standard = np.clip((rows - self.mean) / self.scale, -5, 5)
        return np.concatenate([standard, np.ones((len(rows), 1))], axis=1)


def number_of_actions(envs: VectorEnv[Any, Any, Any]) -> int:
    assert isinstance(envs.single_action_space, Discrete)
    return int(envs.single_action_space.n)


def play(envs: VectorEnv[Any, Any, Any], policies: np.ndarray, standard: Standard, steps: int, seed: int) -> np.ndarray:
    """Points [P] scored by each policy [P, A, D + 1]; when a game ends, the next one begins."""
    rows, _ = envs.reset(seed=seed)
    points = np.zeros(len(policies))
    for _ in range(steps):
        actions = np.einsum("pad,pd->pa", policies, standard(rows)).argmax(1)
        rows, rewards, *_ = envs.step(actions)
        points += rewards
    return points


def learn(envs: VectorEnv[Any, Any, Any], options: argparse.Namespace, seed: int, name: str) -> float:
    """The mean points of the learned policy in test games."""
    rng, count = np.random.default_rng(seed), envs.num_envs
    standard = Standard(envs, options.steps // 2, rng)
    width = len(standard.mean) + 1
    mean = np.zeros((number_of_actions(envs), width))
    spread = np.ones_like(mean)
    for generation in range(options.generations):
        policies = mean + spread * rng.standard_normal((count, *mean.shape))
        points = play(envs, policies, standard, options.steps, int(rng.integers(FIRST_TEST_SEED)))
        elite = policies[np.argsort(-points)[: max(2, round(ELITE * count))]]
        mean, spread = elite.mean(0), elite.std(0) + EXTRA_SPREAD * (1 - (generation + 1) / options.generations)
        if sys.stdout.isatty():
            print(f"\r{name}, seed {seed}: generation {generation + 1}, {points.mean():.1f} points", end="\x1b[K\r")
    return float(play(envs, np.stack([mean] * count), standard, options.steps, FIRST_TEST_SEED + count * seed).mean())


def play_at_random(envs: VectorEnv[Any, Any, Any], options: argparse.Namespace, seed: int) -> float:
    rng = np.random.default_rng(seed)
    envs.reset(seed=FIRST_TEST_SEED + envs.num_envs * seed)
    actions = rng.integers(number_of_actions(envs), size=(options.steps, envs.num_envs))
    return float(sum(envs.step(each)[1] for each in actions).mean())


def compare(client: JepaClient, options: argparse.Namespace) -> None:
    envs = SyncVectorEnv([partial(make_atari, options.game)] * options.population)
    embedded = EmbedVectorObservation(envs, client, model=options.model)
    played: dict[str, Callable[[int], float]] = {
        "random play": partial(play_at_random, envs, options),
        "linear, memory": lambda seed: learn(envs, options, seed, "memory"),
        "linear, embedding": lambda seed: learn(embedded, options, seed, "embedding"),
    }
    total = len(played) * options.seeds
    results: dict[str, list[float]] = {name: [] for name in played}
    started = time.monotonic()
    for seed in range(options.seeds):
        for name, result in played.items():
            results[name].append(result(seed))
            done = sum(map(len, results.values()))
            if done == len(played):
                left = (time.monotonic() - started) / done * (total - done)
                print(f"the first of {options.seeds} seeds is done, about {left:.0f} s left", flush=True)
    print(f"points in {options.steps} steps of {options.game}, mean ± standard deviation of {options.seeds} seeds")
    for name, points in results.items():
        print(f"{name:<18} {np.mean(points):7.2f} ± {np.std(points):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("game", help="such as breakout")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the service is (default: %(default)s)")
    parser.add_argument("--model", help="which of its models, where it has several")
    parser.add_argument("--seeds", type=int, default=3, help="how often all is repeated (default: %(default)s)")
    parser.add_argument("--generations", type=int, default=8, help="of policies (default: %(default)s)")
    parser.add_argument("--population", type=int, default=24, help="policies that play at once (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=250, help="that each plays (default: %(default)s)")
    options = parser.parse_args()
    try:
        with JepaClient(options.url) as client:
            compare(client, options)
    except (JepaError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
