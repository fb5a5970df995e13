"""A recorded game as NumPy arrays, one entry a frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ReplayError(ValueError):
    """A file that is no replay, a broken one, or one of a kind that this does not read."""


@dataclass(frozen=True)
class Player:
    """One port's records: before each frame the controller, after it the fighter, and the second climber's."""

    port: int  # 1 to 4
    before: NDArray[Any]  # [n] of slippi.BEFORE
    after: NDArray[Any]  # [n] of slippi.AFTER
    follower: NDArray[Any]  # [n] of slippi.AFTER, zeros where there is none
    followed: NDArray[np.bool_]  # [n]


@dataclass(frozen=True)
class Replay:
    version: tuple[int, int, int]
    stage: int  # the game's external id
    frame: NDArray[np.int32]  # [n], one after another
    players: tuple[Player, ...]  # by port
    items: list[NDArray[Any]]  # [n] of [items] of slippi.ITEM, in the order of the file
