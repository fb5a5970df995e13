"""The state in which the next input lands, foretold by least squares: what a JEPA's predictor has to beat."""

from collections.abc import Sequence

import numpy as np

from benchmarks.play.clones import lagged
from benchmarks.play.games import Recording
from benchmarks.play.views import Values, state_and_inputs


class Forecast:
    """A view: states [B, C] and inputs in flight [B, delay, A] → states [B, C] `delay` frames later."""

    def __init__(self, recordings: Sequence[Recording], delay: int) -> None:
        parts = [(*lagged(each, delay)[:2], each.states[delay:]) for each in recordings]
        states, in_flight, later = (np.concatenate(part) for part in zip(*parts, strict=True))
        seen = _with_one(state_and_inputs(states, in_flight))
        self._weights = np.linalg.lstsq(seen, later.astype(np.float64), rcond=None)[0]

    def __call__(self, states: Values, in_flight: Values) -> Values:
        later: Values = (_with_one(state_and_inputs(states, in_flight)) @ self._weights).astype(np.float32)
        return later


def _with_one(seen: Values) -> Values:
    return np.column_stack([seen, np.ones(len(seen), np.float32)])
