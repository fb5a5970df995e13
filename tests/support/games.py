"""Synthetic games: two points on circles, cheap to make and predictable a few frames ahead."""

import numpy as np

from bundle.schema import Group, Schema
from model.data.frames import Frames

NAMES = ("own_x", "own_y", "own_action_id", "opp_x", "opp_y", "opp_action_id", "time", "stage")
GROUPS = (Group("own", 0, 3), Group("opp", 3, 6), Group("stage", 6, 8))


def make_games(episodes: int = 6, length: int = 200, *, ordered: bool = True, seed: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    games = []
    for _ in range(episodes):
        t = np.arange(length)
        phase, speed = rng.uniform(0, 6, 2), rng.uniform(0.05, 0.2, 2)
        angle = phase + speed * t[:, None]  # [length, 2]
        action = (np.sin(angle) > 0).astype(float) + (np.cos(angle) > 0.7)
        columns = [
            np.cos(angle[:, 0]), np.sin(angle[:, 0]), action[:, 0],
            np.cos(angle[:, 1]), np.sin(angle[:, 1]), action[:, 1],
            t / length, np.full(length, rng.integers(0, 3)),
        ]  # fmt: skip
        games.append(np.stack(columns, axis=1))
    features = np.concatenate(games).astype(np.float32)
    episode = np.repeat(np.arange(episodes), length)
    frame = np.tile(np.arange(length), episodes) - 39
    labels = {"y_up": (features[:, 1] > 0).astype(np.int64), "y_action": features[:, 2].astype(np.int64)}
    return Frames(features, Schema(NAMES, GROUPS), episode, frame if ordered else None, None, labels)
