"""Games that a policy plays at a delay. Dims: G games, C columns of a state, d delay, A inputs of a frame."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.play.hands import Hand
from benchmarks.play.views import Values

# What a policy is told: which games (by their place), states [G, C], and inputs in flight [G, d, A], of which the
# first lands next. It answers inputs [G, A], each of which lands after those.
Policy = Callable[[list[int], Values, Values], Values]
# Makes of states [G, C] what can be seen of them, given the seeds of the games and how many frames they have gone on.
Look = Callable[[Values, list[int], int], Values]
# Answers the states [C] of one game, frame by frame, by inputs [A].
Player = Callable[[Values], Values]


class Game(Protocol):
    # How many players can be ours.
    players: int
    points: float
    is_over: bool

    def state(self, player: int, /) -> Values:
        """[C] as that player sees it; the last A columns are the input that led there. Player 0 is ours."""

    def step(self, *inputs: Values) -> None:
        """The inputs [A] of our player, and of the others unless they are the built-in ones."""


@dataclass(frozen=True)
class Task:
    """A kind of game, begun by a seed, and the player that is built into it."""

    start: Callable[[int], Game]
    built_in: Callable[[], Player]
    inputs: Values  # [n, A] every input that there is


@dataclass(frozen=True)
class Recording:
    """What one player saw, pressed and wanted to press: what is pressed in a row leads to the next."""

    seed: int
    states: Values  # [rows, C]
    inputs: Values  # [rows, A]
    wanted: Values  # [rows, A]


def record(task: Task, seed: int, slips: float = 0.0) -> Iterator[Recording]:
    """A game of the built-in player against itself, as each of the players saw it; their hands slip in that share of
    the frames."""
    game, draw = task.start(seed), np.random.default_rng(seed)
    players = [task.built_in() for _ in range(game.players)]
    hands = [Hand(task.inputs, slips, draw) for _ in players]
    # Of each frame and player, what it saw, pressed and wanted.
    frames: list[list[tuple[Values, Values, Values]]] = []
    while not game.is_over:
        seen = [game.state(player) for player in range(game.players)]
        wanted = [player(state) for player, state in zip(players, seen, strict=True)]
        pressed = [hand(want) for hand, want in zip(hands, wanted, strict=True)]
        frames.append([*zip(seen, pressed, wanted, strict=True)])
        game.step(*pressed)
    for of_player in zip(*frames, strict=True):
        yield Recording(seed, *(np.array(part) for part in zip(*of_player, strict=True)))


def play(task: Task, policy: Policy, delay: int, seeds: Sequence[int], look: Look | None = None) -> NDArray[np.float64]:
    """[seeds] our points in one game a seed; an input lands `delay` frames after the state that it answers. The policy
    answers a frame of all games at once."""
    games = [task.start(seed) for seed in seeds]
    in_flight = np.zeros((len(games), delay + 1, task.inputs.shape[1]), np.float32)
    frame = 0
    while alive := [i for i, game in enumerate(games) if not game.is_over]:
        states = np.array([games[i].state(0) for i in alive])
        if look is not None:
            states = look(states, [seeds[i] for i in alive], frame)
        in_flight[alive, -1] = policy(alive, states, in_flight[alive, :-1])
        for i in alive:
            games[i].step(in_flight[i, 0].copy())
        in_flight = np.roll(in_flight, -1, axis=1)
        frame += 1
    return np.array([game.points for game in games], np.float64)


class BuiltIn:
    """The built-in player as a policy. It answers the state that it sees, whatever the delay."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._players: dict[int, Player] = {}

    def __call__(self, games: list[int], states: Values, _in_flight: Values) -> Values:
        players = [self._players.setdefault(game, self._task.built_in()) for game in games]
        return np.array([player(state) for player, state in zip(players, states, strict=True)])


class Random:
    """Any of the inputs, drawn anew in each frame."""

    def __init__(self, task: Task) -> None:
        self._task, self._draw = task, np.random.default_rng(0)

    def __call__(self, games: list[int], _states: Values, _in_flight: Values) -> Values:
        pressed: Values = self._task.inputs[self._draw.integers(0, len(self._task.inputs), len(games))]
        return pressed
