"""`golden.npz`: inputs with the outputs that the trained networks gave for them at export, read within limits.

What the manifest says of the graphs says how large each array can be.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Limits, Shape, parse_arrays
from bundle.folders import BundleError
from bundle.manifest import Manifest

# An export writes 16.
MAX_GOLDEN_ROWS = 1024
# Of the archive and of all that it unpacks to.
MAX_GOLDEN_BYTES = 2**27


class Golden(NamedTuple):
    """Inputs with the outputs that the trained networks gave for them at export, in float64."""

    features: NDArray[np.float32]  # [n, input_dim], NaN where a group is hidden
    context_embedding: NDArray[np.float32]  # [n, embed_dim]
    target_embedding: NDArray[np.float32]  # [n, embed_dim]
    targets: NDArray[np.float32]  # [n, patches], 1 = predict it
    horizon: NDArray[np.float32]  # [n], frames ahead
    prediction: NDArray[np.float32]  # [n, embed_dim]
    # [n, max_actions, actions], NaN where a number is unknown; None where the predictor takes no actions
    actions: NDArray[np.float32] | None = None

    def asked(self) -> tuple[NDArray[np.float32], ...]:
        """The inputs of the predictor, in their order."""
        known = (self.context_embedding, self.targets, self.horizon)
        return known if self.actions is None else (*known, self.actions)


def parse_golden(content: bytes, path: Path, manifest: Manifest) -> Golden:
    """Reads the archive; BundleError where an array is missing or has not the shape that the manifest asks for, and
    ValueError where it is no archive of arrays."""
    shapes: dict[str, Shape] = dict.fromkeys(Golden._fields, (None, manifest.embed_dim))
    shapes |= {"features": (None, manifest.input_dim), "targets": (None, len(manifest.patches)), "horizon": (None,)}
    shapes["actions"] = (None, manifest.max_actions, len(manifest.actions))
    if not manifest.actions:
        del shapes["actions"]
    arrays = parse_arrays(content, path, shapes, Limits("golden rows", MAX_GOLDEN_ROWS, MAX_GOLDEN_BYTES))
    counts = {len(array) for array in arrays.values()}
    if len(counts) > 1 or not 0 < counts.pop() <= MAX_GOLDEN_ROWS:
        lengths = ", ".join(str(len(array)) for array in arrays.values())
        raise BundleError(f"{path} has arrays of {lengths} rows; each must have as many, 1 to {MAX_GOLDEN_ROWS}")
    return Golden(**arrays)
