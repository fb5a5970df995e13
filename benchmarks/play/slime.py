"""SlimeVolley: two players and a ball, which must not land on one's own side; a game is five points or 3,000 frames."""

import warnings
from typing import Any

import numpy as np

from benchmarks.play.clones import combination
from benchmarks.play.games import Task
from benchmarks.play.views import Values

with warnings.catch_warnings():
    # gym says at length that it is no longer maintained.
    warnings.simplefilter("ignore")
    from slimevolleygym import BaselinePolicy, SlimeVolleyEnv

# Forward, backward and jump.
BUTTONS = 3
IDLE = np.zeros(BUTTONS, np.float32)


class Volley:
    """The right player is ours, the left one is built in or also ours.

    A state is the place and the speed of oneself, of the ball and of the opponent (x, y, vx, vy of each), and the input
    that led there. Points are ours less theirs.
    """

    players = 2

    def __init__(self, seed: int) -> None:
        self._env: Any = SlimeVolleyEnv()
        self._env.seed(seed)
        self._env.reset()
        self.points = 0.0
        self.is_over = False
        self._last = (IDLE, IDLE)

    def state(self, player: int) -> Values:
        agent = (self._env.game.agent_right, self._env.game.agent_left)[player]
        seen: Values = np.concatenate([agent.getObservation(), self._last[player]]).astype(np.float32)
        return seen

    def step(self, *inputs: Values) -> None:
        _, reward, self.is_over, _ = self._env.step(*inputs)
        self.points += reward
        self._last = (inputs[0], inputs[1] if len(inputs) > 1 else IDLE)


class Baseline:
    """The built-in player."""

    def __init__(self) -> None:
        self._policy: Any = BaselinePolicy()

    def __call__(self, state: Values) -> Values:
        return np.array(self._policy.predict(state[:-BUTTONS]), np.float32)


SLIME = Task(start=Volley, built_in=Baseline, inputs=combination(np.arange(1 << BUTTONS), BUTTONS))
