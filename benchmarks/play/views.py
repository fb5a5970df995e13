"""What a policy sees of a state and of the inputs that are in flight. Dims: B states, C columns, d delay, A inputs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bundle.reader import read_bundle

Values = NDArray[np.float32]

# States [B, C] and inputs in flight [B, d, A] → what a policy sees [B, n].
View = Callable[[Values, Values], Values]
ROWS_A_RUN = 1024


def state(states: Values, _in_flight: Values) -> Values:
    return states


def state_and_inputs(states: Values, in_flight: Values) -> Values:
    return np.concatenate([states, in_flight.reshape(len(states), -1)], axis=1)


class Embeddings:
    """Views by a bundle: the embedding of the state, and of the frame in which the next input lands."""

    def __init__(self, folder: Path) -> None:
        bundle = read_bundle(folder)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._manifest = bundle.manifest
        self._target, self._context, self._predictor = (
            ort.InferenceSession(bundle.graph(role, "float32"), options, providers=["CPUExecutionProvider"])
            for role in ("target_encoder", "context_encoder", "predictor")
        )

    def now(self, states: Values, _in_flight: Values) -> Values:
        return _in_runs(lambda rows: self._target.run(None, {"features": rows})[0], states)

    def now_and_inputs(self, states: Values, in_flight: Values) -> Values:
        return state_and_inputs(self.now(states, in_flight), in_flight)

    def ahead(self, states: Values, in_flight: Values) -> Values:
        delay = in_flight.shape[1]
        return _in_runs(self._ahead, states, in_flight) if delay else self.now(states, in_flight)

    def _ahead(self, states: Values, in_flight: Values) -> Values:
        manifest = self._manifest
        actions = np.full((len(states), manifest.max_actions, len(manifest.actions)), np.nan, np.float32)
        actions[:, : in_flight.shape[1]] = in_flight
        feeds = {
            "context": self._context.run(None, {"features": states})[0],
            "targets": np.ones((len(states), len(manifest.patches)), np.float32),
            "horizon": np.full(len(states), in_flight.shape[1], np.float32),
            "actions": actions,
        }
        predicted: Values = self._predictor.run(None, feeds)[0]
        return predicted


def _in_runs(view: Callable[..., Values], *inputs: Values) -> Values:
    starts = range(0, len(inputs[0]), ROWS_A_RUN)
    return np.concatenate([view(*(each[start : start + ROWS_A_RUN] for each in inputs)) for start in starts])
