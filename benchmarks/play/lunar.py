"""LunarLander of Gymnasium: a lander with three engines, one of which may fire, is to come to rest between two flags.

Points are the sum of the rewards, some 200 to 300 for a landing; an episode has at most 1,000 frames.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
from gymnasium.envs.box2d.lunar_lander import LunarLander, heuristic

from benchmarks.play.games import Task
from benchmarks.play.views import Values

# Nothing, or one of the engines on the left, below and on the right.
INPUTS = np.vstack([np.zeros(3), np.eye(3)]).astype(np.float32)
MAX_FRAMES = 1000


class Landing:
    """A state is the place, the speed, the angle and its speed, whether either leg touches the ground, and the input
    that led there."""

    players = 1

    def __init__(self, seed: int) -> None:
        self._env: Any = LunarLander()
        seen, _ = self._env.reset(seed=seed)
        self.points = 0.0
        self.is_over = False
        self._state = np.append(seen, INPUTS[0]).astype(np.float32)
        self._frames = 0

    def state(self, _player: int) -> Values:
        return self._state

    def step(self, *inputs: Values) -> None:
        (pressed,) = inputs
        engine = int(np.append(0, pressed).argmax())
        seen, reward, has_ended, _, _ = self._env.step(engine)
        self._frames += 1
        self.points += float(reward)
        self.is_over = has_ended or self._frames == MAX_FRAMES
        self._state = np.append(seen, pressed).astype(np.float32)


class Heuristic:
    """The built-in player. It reads off its environment only whether engines are on or off."""

    def __init__(self) -> None:
        self._env = SimpleNamespace(unwrapped=SimpleNamespace(continuous=False))

    def __call__(self, state: Values) -> Values:
        pressed: Values = INPUTS[heuristic(self._env, state)]  # type: ignore[no-untyped-call]
        return pressed


LUNAR = Task(start=Landing, built_in=Heuristic, inputs=INPUTS)
