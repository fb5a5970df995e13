"""Atari games as rows: the console's 128 bytes of memory, from ale-py. Needs the extra jepa-client[atari].

    env = make_atari("pong")                                  # observations [128], float32
    env = EmbedObservation(make_atari("pong"), JepaClient())  # observations [256]: what a policy sees

`jepa data atari` records the same environment, so that a model learns from what a bot shows it.
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
FRAMES_A_STEP = 4  # of the game, in each of which the action is pressed
STICKY = 0.25  # how often a step keeps the action of the one before, which makes the console less predictable


def games() -> dict[str, str]:
    """Names that `make_atari` knows, such as ms_pacman, with those of Gymnasium, such as ALE/MsPacman-v5."""
    gymnasium.register_envs(ale_py)
    known = {name.lower(): name for name in gymnasium.registry if name.startswith("ALE/")}
    return {
        game: known[name]
        for game in sorted(ale_py.roms.get_all_rom_ids())
        if (name := f"ale/{game.replace('_', '')}-v5") in known
    }


def make_atari(game: str) -> gymnasium.Env[Rows, Any]:
    """An environment whose observation is the memory after a step, float32 [128] from 0 to 255; its actions are those
    that the game knows. ValueError for a game that ale-py does not have."""
    known = games()
    if game not in known:
        near = get_close_matches(game, known) or [*known][:3]
        raise ValueError(f"there is no game '{game}'; ale-py has {', '.join(near)} and others, {len(known)} in all")
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # else each environment greets on stderr
    env = gymnasium.make(known[game], obs_type="ram", frameskip=FRAMES_A_STEP, repeat_action_probability=STICKY)
    space = Box(0, 255, (len(COLUMNS),), np.float32)
    return TransformObservation(env, lambda memory: memory.astype(np.float32), space)
