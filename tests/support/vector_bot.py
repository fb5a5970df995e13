"""A bot whose environments run in processes of their own: `python -m tests.support.vector_bot URL METHOD`.

METHOD is how Gymnasium starts them (fork, spawn, forkserver). Each process embeds its observations by the client of
this one, which has asked before; then this one embeds those of all. Prints the greatest difference between the two.
"""

import sys
from functools import partial
from typing import Any

import numpy as np
from gymnasium import Env
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AsyncVectorEnv

from jepa_client import JepaClient
from jepa_client.games.gymnasium import EmbedObservation, EmbedVectorObservation

ENVIRONMENTS = 2
STEPS = 20


class Walk(Env[np.ndarray, np.int64]):
    """Ten numbers that walk at random."""

    observation_space = Box(-np.inf, np.inf, (10,), np.float32)
    action_space = Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.at = self.np_random.normal(size=10).astype(np.float32)
        return self.at, {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.at += 0.1 * (1 + np.float32(action)) * self.np_random.normal(size=10).astype(np.float32)
        return self.at.copy(), 0.0, False, False, {}


def embedded(client: JepaClient) -> Env[np.ndarray, np.int64]:
    return EmbedObservation(Walk(), client)


def played(envs: Any) -> np.ndarray:
    """The observations of some steps, [steps + 1, environments, E]."""
    seen = [envs.reset(seed=1)[0].copy()]
    seen += [envs.step(np.zeros(ENVIRONMENTS, np.int64))[0].copy() for _ in range(STEPS)]
    envs.close()
    return np.array(seen)


def main(url: str, method: str) -> None:
    with JepaClient(url) as client:
        client.model()
        there = played(AsyncVectorEnv([partial(embedded, client)] * ENVIRONMENTS, context=method))
        here = played(EmbedVectorObservation(AsyncVectorEnv([Walk] * ENVIRONMENTS, context=method), client))
    print(np.abs(there - here).max())


if __name__ == "__main__":
    main(*sys.argv[1:])
