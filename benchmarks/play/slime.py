"""SlimeVolley: two players and a ball, which must not land on one's own side; a game is five points or 3,000 frames."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

with warnings.catch_warnings():
    # gym says at length that it is no longer maintained.
    warnings.simplefilter("ignore")
    from slimevolleygym import BaselinePolicy, SlimeVolleyEnv

Values = NDArray[np.float32]

INPUTS = ("forward", "backward", "jump")
# What the environment shows, and the input that led there, as rows of Melee have it.
COLUMNS = (
    *(f"{who}_{what}" for who in ("own", "ball", "opponent") for what in ("x", "y", "vx", "vy")),
    *(f"last_{name}" for name in INPUTS),
)
MAX_FRAMES = 3000
IDLE = np.zeros(len(INPUTS), np.float32)

# What a policy is told: which games (by their place), states [G, C], and inputs in flight [G, delay, A], of which the
# first lands next. It answers inputs [G, A], each of which lands after those.
Policy = Callable[[list[int], Values, Values], Values]
# Makes of states [G, C] what can be seen of them, given the seeds of the games and how many frames they have gone on.
Look = Callable[[Values, list[int], int], Values]


@dataclass(frozen=True)
class Recording:
    """What one player saw and pressed: the input of a row leads to the next."""

    seed: int
    states: Values  # [rows, C]
    inputs: Values  # [rows, A]


class Game:
    """The right player is ours, the left one is built in or also ours."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._env: Any = SlimeVolleyEnv()
        self._env.seed(seed)
        self._env.reset()
        self.points = 0
        self.is_over = False
        self._last = (IDLE, IDLE)

    def states(self) -> tuple[Values, Values]:
        """As the right and as the left player see it."""
        game = self._env.game
        seen = (game.agent_right.getObservation(), game.agent_left.getObservation())
        right, left = (np.append(each, last).astype(np.float32) for each, last in zip(seen, self._last, strict=True))
        return right, left

    def step(self, ours: Values, theirs: Values | None = None) -> None:
        _, reward, self.is_over, _ = self._env.step(ours, theirs)
        self.points += reward
        self._last = (ours, IDLE if theirs is None else theirs)


def record(seed: int) -> Iterator[Recording]:
    """A game of the built-in player against itself, as either side."""
    game, players = Game(seed), (BaselinePolicy(), BaselinePolicy())
    # Of each frame what either saw and pressed.
    seen: list[tuple[Values, Values]] = []
    pressed: list[list[Values]] = []
    while not game.is_over:
        states = game.states()
        inputs = [_asked(player, state) for player, state in zip(players, states, strict=True)]
        seen.append(states)
        pressed.append(inputs)
        game.step(*inputs)
    for side in range(len(players)):
        yield Recording(seed, np.array([each[side] for each in seen]), np.array([each[side] for each in pressed]))


def play(policy: Policy, delay: int, seeds: range, look: Look | None = None) -> NDArray[np.float64]:
    """Our points less theirs in one game a seed; an input lands `delay` frames after the state that it answers."""
    games = [Game(seed) for seed in seeds]
    in_flight = np.zeros((len(games), delay + 1, len(INPUTS)), np.float32)
    frame = 0
    while alive := [i for i, game in enumerate(games) if not game.is_over]:
        states = np.array([games[i].states()[0] for i in alive])
        if look is not None:
            states = look(states, [games[i].seed for i in alive], frame)
        in_flight[alive, -1] = policy(alive, states, in_flight[alive, :-1])
        for i in alive:
            games[i].step(in_flight[i, 0].copy())
        in_flight = np.roll(in_flight, -1, axis=1)
        frame += 1
    return np.array([game.points for game in games], np.float64)


class BuiltIn:
    """The built-in player as a policy. It answers the state that it sees, whatever the delay."""

    def __init__(self) -> None:
        self._players: dict[int, Any] = {}

    def __call__(self, games: list[int], states: Values, _in_flight: Values) -> Values:
        players = [self._players.setdefault(game, BaselinePolicy()) for game in games]
        return np.array([_asked(player, state) for player, state in zip(players, states, strict=True)])


class Random:
    """Presses each button in half of the frames."""

    def __init__(self) -> None:
        self._draw = np.random.default_rng(0)

    def __call__(self, games: list[int], _states: Values, _in_flight: Values) -> Values:
        return self._draw.integers(0, 2, (len(games), len(INPUTS))).astype(np.float32)


def _asked(player: Any, state: Values) -> Values:
    return np.array(player.predict(state[: -len(INPUTS)]), np.float32)
