"""Playing at a delay: an input that is sent now acts on a frame that is some frames ahead.

delay = Delay(client, frames=18)
for row in game:
    ahead = delay.embed(row)        # the embedding of the frame on which the next input will act
    controller = policy(ahead)
    delay.press(controller)         # what was sent for this frame
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from jepa_client.inputs import Inputs
from jepa_client.rows import Rows, to_rows

Answer_co = TypeVar("Answer_co", covariant=True)


class Predicts(Protocol[Answer_co]):
    """A JepaClient, an AsyncJepaClient, or a stream of predictions of either."""

    def predict(self, features: ArrayLike, *, horizon: float | None, actions: Inputs | None) -> Answer_co: ...


class Delay(Generic[Answer_co]):
    """The inputs of one player that are in flight, for one game at a time.

    `frames` is the delay: an input that is chosen on seeing frame t acts on frame t + frames, and what it does is first
    seen in the frame after. Until then the inputs of `frames` frames are on their way; the service must know that
    horizon, and take so many.
    """

    def __init__(self, client: Predicts[Answer_co], frames: int, *, idle: ArrayLike | None = None) -> None:
        """`idle` is the input that acts while none has arrived since the game began, [A]; None where that is not known.
        A stream, whose frames are all of one size, needs it."""
        if frames < 1:
            raise ValueError(f"frames is {frames}; a delay is at least one frame, and without one use embed")
        self._client, self._frames = client, frames
        self._idle = None if idle is None else _input(idle)
        self.reset()

    def reset(self) -> None:
        """Another game begins: nothing is in flight."""
        self._in_flight: deque[Rows | None] = deque([self._idle] * self._frames, self._frames)
        # Whether an input was sent since the last frame came; None before the first.
        self._has_pressed: bool | None = None

    def embed(self, features: ArrayLike) -> Answer_co:
        """The row [D] of a frame → the embedding [E] of the frame on which the next input will act; of an
        AsyncJepaClient or its stream, what to await for it.

        What was sent for a frame without a call of `press` counts as not known.
        """
        if self._has_pressed is False:
            self._in_flight.append(None)
        self._has_pressed = False
        return self._client.predict(features, horizon=self._frames, actions=self.in_flight)

    def press(self, sent: Sequence[float | None] | ArrayLike) -> None:
        """The input [A] that was sent for the frame that `embed` saw last; a second one for the same frame takes the
        place of the first."""
        given = _input(sent)
        before = [*self._in_flight][: -1 if self._has_pressed else None]
        known = next((each for each in before if each is not None), given)
        if known.shape != given.shape:
            raise ValueError(
                f"this input has {len(given)} numbers, those in flight have {len(known)}; send all of one game alike, "
                "and call reset() where another one begins"
            )
        if self._has_pressed:
            self._in_flight.pop()
        self._in_flight.append(given)
        self._has_pressed = True

    @property
    def in_flight(self) -> Rows | None:
        """[frames, A], the one that acts next first, NaN where one is not known; None where none is. For one call of
        `predict` or `forecast` with the rows of several games, or with candidates."""
        known = next((each for each in self._in_flight if each is not None), None)
        if known is None:
            return None
        unknown = np.full(known.shape, np.nan, np.float32)
        return np.stack([unknown if each is None else each for each in self._in_flight])


def _input(sent: Any) -> Rows:
    """[A] in float32, NaN where a number is None."""
    numbers = [np.nan if each is None else each for each in sent] if isinstance(sent, Sequence) else sent
    given = to_rows("input", numbers)
    if given.ndim != 1:
        raise ValueError(f"an input has shape {given.shape}; send one at a time, [A]")
    return given
