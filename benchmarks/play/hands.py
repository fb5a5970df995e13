"""The hand of a player, which slips now and then, so that inputs vary for reasons that no state tells."""

import numpy as np

from benchmarks.play.views import Values

# For how many frames a slip holds what it has hit.
SLIP_FRAMES = (3, 12)


class Hand:
    """Presses what its player wants, but in a share of the frames begins to hold any of the inputs [n, A] instead."""

    def __init__(self, inputs: Values, slips: float, draw: np.random.Generator) -> None:
        self._inputs, self._slips, self._draw = inputs, slips, draw
        self._held: Values = inputs[0]
        self._left = 0

    def __call__(self, wanted: Values) -> Values:
        if not self._left and self._draw.random() < self._slips:
            self._held = self._inputs[self._draw.integers(0, len(self._inputs))]
            self._left = int(self._draw.integers(SLIP_FRAMES[0], SLIP_FRAMES[1] + 1))
        if not self._left:
            return wanted
        self._left -= 1
        return self._held
