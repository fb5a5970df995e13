"""Atari games as rows: the console's 128 bytes of memory, from ale-py. Needs the extra `atari`.

    env = make_atari("pong")                                  # observations [128], float32
    env = EmbedObservation(make_atari("pong"), JepaClient())  # observations [256]: what a policy sees

`jepa data atari` records the same environment, so a model trains on what a bot will send.
"""

from difflib import get_close_matches
from typing import Any

import ale_py
import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import TransformObservation

from jepa_client.rows import Rows

COLUMNS = tuple(f"ram_{i:03d}" for i in range(128))
# Game frames per step; the action is held for all of them.
FRAMES_A_STEP = 4
# The probability that a step repeats the previous action, which makes the console less predictable.
STICKY = 0.25


def games() -> dict[str, str]:
    """Names that `make_atari` accepts, such as ms_pacman, mapped to Gymnasium's, such as ALE/MsPacman-v5."""
    gymnasium.register_envs(ale_py)
    known = {name.lower(): name for name in gymnasium.registry if name.startswith("ALE/")}
    return {
        game: known[name]
        for game in sorted(ale_py.roms.get_all_rom_ids())
        if (name := f"ale/{game.replace('_', '')}-v5") in known
    }


def make_atari(game: str) -> gymnasium.Env[Rows, Any]:
    """An environment whose observation is the memory after each step, float32 [128] from 0 to 255, with the game's own
    actions. ValueError for a game that ale-py does not have."""
    known = games()
    if game not in known:
        near = get_close_matches(game, known) or [*known][:3]
        raise ValueError(f"there is no game '{game}'; ale-py has {', '.join(near)} and others, {len(known)} in all")
    # Otherwise each environment prints a banner to stderr.
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    env = gymnasium.make(known[game], obs_type="ram", frameskip=FRAMES_A_STEP, repeat_action_probability=STICKY)
    space = Box(0, 255, (len(COLUMNS),), np.float32)
    return TransformObservation(env, lambda memory: memory.astype(np.float32), space)
