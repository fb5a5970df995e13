"""A recorded game as NumPy arrays with one entry per frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ReplayError(ValueError):
    """The file is not a replay, is damaged, or is of an unsupported kind."""


@dataclass(frozen=True)
class Player:
    """One port's records: the controller before each frame, and the fighter and the second climber after it."""

    # 1 to 4.
    port: int
    # [n], the fields of slippi.BEFORE.
    before: NDArray[Any]
    # [n], the fields of slippi.AFTER.
    after: NDArray[Any]
    # [n], the fields of slippi.AFTER, zeros in frames without a second climber.
    follower: NDArray[Any]
    # [n], whether there is one.
    followed: NDArray[np.bool_]


@dataclass(frozen=True)
class Replay:
    version: tuple[int, int, int]
    # The game's external id.
    stage: int
    # [n], consecutive.
    frame: NDArray[np.int32]
    # By port.
    players: tuple[Player, ...]
    # For each of the n frames the items in it, in file order, with the fields of slippi.ITEM.
    items: list[NDArray[Any]]
    # Why the file may end before the game did, or empty if it is whole.
    unfinished: str = ""
