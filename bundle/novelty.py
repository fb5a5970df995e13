"""`novelty.npz`: how far an embedding lies from those of the frames that were trained on (Mahalanobis distance)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Limits, parse_arrays
from bundle.folders import BundleError

Array = NDArray[np.float32]

# Of the archive, and of all that it unpacks to.
MAX_NOVELTY_BYTES = 2**27
QUANTILES = 101
PERCENTILES = np.arange(QUANTILES, dtype=np.float64)


@dataclass(frozen=True)
class Novelty:
    """The centre and the shape of the training embeddings, and how far held-out frames lie from them."""

    mean: Array  # [embed_dim]
    whitening: Array  # [embed_dim, embed_dim]: distance² = |(e − mean) · whitening|²
    quantiles: Array  # [101] of the distances of held-out frames, ascending

    def distances(self, embeddings: Array) -> Array:
        """[B, embed_dim] → [B]"""
        offsets = (embeddings - self.mean) @ self.whitening
        distances: Array = np.sqrt(np.einsum("bd,bd->b", offsets, offsets))
        return distances

    def percentiles(self, embeddings: Array) -> Array:
        """[B, embed_dim] → [B], 0–100: the share of held-out frames that are nearer to those of training."""
        return np.interp(self.distances(embeddings), self.quantiles, PERCENTILES).astype(np.float32)

    def write(self, path: Path) -> None:
        """Writes `novelty.npz`."""
        np.savez(path, mean=self.mean, whitening=self.whitening, quantiles=self.quantiles)


def parse_novelty(content: bytes, path: Path, embed_dim: int) -> Novelty:
    """Reads the archive; BundleError where an array is missing, has another shape or makes no sense, and ValueError
    where the content is no archive of arrays."""
    shapes = {"mean": (embed_dim,), "whitening": (embed_dim, embed_dim), "quantiles": (QUANTILES,)}
    arrays = parse_arrays(content, path, shapes, Limits("distances", embed_dim, MAX_NOVELTY_BYTES))
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise BundleError(f"{path}: {name} holds NaN or an infinite number; write the bundle again")
    if (np.diff(arrays["quantiles"]) < 0).any():
        raise BundleError(f"{path}: quantiles must not fall; write the bundle again")
    return Novelty(**arrays)
