"""A JEPA of recorded games, whose predictor takes the player's inputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.play.games import Recording
from bundle.folders import versions
from model import frames, train

DELAYS = (0, 6, 9)
# Over the default preset: a smaller network, for fifteen columns, and the delays among its horizons.
RECIPE: dict[str, Any] = {
    "embed_dim": 128,
    "predictor_embed_dim": 64,
    "encoder_depth": 2,
    "num_heads": 4,
    "batch_size": 256,
    "horizons": (1, *DELAYS[1:], 20),
    "max_actions": 12,
}


def learn(recordings: Sequence[Recording], models: Path, name: str, steps: int) -> Path:
    """The folder of a bundle that learned from the states and inputs of recordings; one that is there already is taken
    as it is."""
    # A folder without a version is that of a run that was stopped.
    if (models / name).is_dir() and (found := versions(models / name)):
        return next(iter(found.values()))
    lengths = [len(each.states) for each in recordings]
    states = np.concatenate([each.states for each in recordings]).T
    inputs = np.concatenate([each.inputs for each in recordings]).T
    table = {
        "game": np.repeat(np.arange(len(recordings)), lengths),
        "t": np.concatenate([np.arange(length) for length in lengths]),
        **{f"c{column:02}": values for column, values in enumerate(states)},
        **{f"action_{column}": values for column, values in enumerate(inputs)},
    }
    data = frames(table, episode="game", frame="t", actions="action_*")
    return train(data, out=models, name=name, steps=steps, **RECIPE)
