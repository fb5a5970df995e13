"""Policies that imitate recorded players: from what is seen, and the inputs in flight, to the one that lands next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.play.games import Recording
from benchmarks.play.views import Values, View

LEARNERS: dict[str, Any] = {
    "linear": make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=200)),
    "trees": HistGradientBoostingClassifier(max_iter=100, early_stopping=True, random_state=0),
    "network": make_pipeline(StandardScaler(), MLPClassifier((128, 128), early_stopping=True, random_state=0)),
}
# Of the rows, one in so many is learned from where there are more than MAX_ROWS: one frame is almost the last one.
MAX_ROWS = 30_000


@dataclass(frozen=True)
class Clone:
    """Presses the likeliest of the combinations of buttons. Each button by itself would be a far worse player: forward
    and backward are often pressed together."""

    view: View
    classifier: ClassifierMixin
    buttons: int

    def __call__(self, _games: list[int], states: Values, in_flight: Values) -> Values:
        return combination(self.classifier.predict(self.view(states, in_flight)), self.buttons)


def imitate(recordings: Sequence[Recording], learner: str, view: View, delay: int) -> Clone:
    """A clone of the players, which answers a state by what they wanted to press `delay` rows later."""
    every = -(-sum(len(each.states) for each in recordings) // MAX_ROWS)
    parts = [[part[::every] for part in lagged(each, delay)] for each in recordings]
    states, in_flight, landing = (np.concatenate(part) for part in zip(*parts, strict=True))
    classifier = clone(LEARNERS[learner]).fit(view(states, in_flight), number(landing))
    return Clone(view, classifier, landing.shape[1])


def lagged(recording: Recording, delay: int) -> tuple[Values, Values, Values]:
    """States [n, C], the inputs in flight [n, delay, A] when they are seen, and those [n, A] that were wanted next."""
    inputs, rows = recording.inputs, len(recording.states) - delay
    flying = [inputs[i : i + rows] for i in range(delay)]
    in_flight = np.stack(flying, axis=1) if delay else np.empty((rows, 0, inputs.shape[1]), np.float32)
    return recording.states[:rows], in_flight, recording.wanted[delay:]


def number(inputs: Values) -> NDArray[np.int64]:
    """Buttons [n, A] as 0 and 1 → the number of each combination [n]."""
    numbers: NDArray[np.int64] = inputs.astype(np.int64) @ (1 << np.arange(inputs.shape[1]))
    return numbers


def combination(numbers: NDArray[np.int64], buttons: int) -> Values:
    """The inverse of `number`: [n] → [n, A]."""
    return (numbers[:, None] >> np.arange(buttons) & 1).astype(np.float32)
