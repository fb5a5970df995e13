"""`novelty.npz`: how far a frame lies from those that were trained on: its embedding (Mahalanobis distance) and, where
the archive has their arrays too, its columns."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Limits, names_of_arrays, parse_arrays, write_arrays
from bundle.column_novelty import ColumnNovelty
from bundle.folders import BundleError

Array = NDArray[np.float32]

# Of the archive, and of all that it unpacks to.
MAX_NOVELTY_BYTES = 2**27
NOVELTY_FILE = "novelty.npz"
QUANTILES = 101
# The arrays of columns begin with this.
COLUMNS = "columns_"
PERCENTILES = np.arange(QUANTILES, dtype=np.float64)


class Judged(NamedTuple):
    """How novel frames are, [B], by the embedding or by the columns, the larger percentile; and how odd their columns
    are, [B], None if nothing is known of columns."""

    percentiles: Array
    oddities: Array | None


@dataclass(frozen=True)
class Novelty:
    """The centre and the shape of the training embeddings, and how far held-out frames lie from them."""

    mean: Array  # [embed_dim]
    whitening: Array  # [embed_dim, embed_dim]: distance² = |(e − mean) · whitening|²
    quantiles: Array  # [101] of the distances of held-out frames, ascending
    columns: ColumnNovelty | None = None

    @classmethod
    def fit(cls, training: Array, held_out: Array, columns: tuple[Array, Array] | None = None) -> "Novelty":
        """From embeddings [n, embed_dim] and [m, embed_dim] of other games, and of rows of columns of both; the
        covariance is shrunk (Ledoit and Wolf 2004), so that few rows do as well."""
        mean = training.mean(axis=0, dtype=np.float64)
        covariance = _shrunk_covariance(training - mean)
        # covariance = L·Lᵀ, so |L⁻¹(e − mean)|² is the squared distance.
        whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
        shape = cls(mean.astype(np.float32), whitening.astype(np.float32), np.zeros(QUANTILES, np.float32))
        quantiles = np.quantile(shape.distances(held_out), np.linspace(0, 1, QUANTILES))
        by_columns = None
        if columns is not None:
            by_columns = ColumnNovelty.fit(_whole(columns[0]), _whole(columns[1]), QUANTILES)
        return replace(shape, quantiles=quantiles.astype(np.float32), columns=by_columns)

    def distances(self, embeddings: Array) -> Array:
        """[B, embed_dim] → [B]"""
        offsets = (embeddings - self.mean) @ self.whitening
        distances: Array = np.sqrt(np.einsum("bd,bd->b", offsets, offsets))
        return distances

    def percentiles(self, embeddings: Array) -> Array:
        """[B, embed_dim] → [B], 0–100: the share of held-out frames that are nearer to those of training."""
        return np.interp(self.distances(embeddings), self.quantiles, PERCENTILES).astype(np.float32)

    def judge(self, percentiles: Array, rows: Array) -> "Judged":
        """Of frames whose embeddings have these percentiles [B]: their rows are [B, C]."""
        if self.columns is None:
            return Judged(percentiles, None)
        oddities = self.columns.oddity(rows)
        by_columns = self.columns.percentiles(oddities).astype(np.float32)
        return Judged(np.maximum(percentiles, by_columns), oddities)

    def write(self, path: Path) -> None:
        """Writes `novelty.npz`."""
        arrays = {"mean": self.mean, "whitening": self.whitening, "quantiles": self.quantiles}
        if self.columns is not None:
            arrays |= {f"{COLUMNS}{name}": array for name, array in asdict(self.columns).items()}
        write_arrays(path, arrays)


def parse_novelty(content: bytes, path: Path, embed_dim: int, input_dim: int) -> Novelty:
    """Reads the archive; BundleError where an array is missing, has another shape or makes no sense, and ValueError
    where the content is no archive of arrays."""
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (embed_dim,),
        "whitening": (embed_dim, embed_dim),
        "quantiles": (QUANTILES,),
    }
    limits = Limits("distances", max(embed_dim, input_dim), MAX_NOVELTY_BYTES)
    if any(name.startswith(COLUMNS) for name in names_of_arrays(content, path, limits)):
        shapes |= {
            f"{COLUMNS}mean": (input_dim,),
            f"{COLUMNS}residuals": (input_dim, input_dim),
            f"{COLUMNS}flags": (2, input_dim),
            f"{COLUMNS}quantiles": (QUANTILES,),
        }
    arrays = parse_arrays(content, path, shapes, limits)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise BundleError(f"{path}: {name} holds NaN or an infinite number; write the bundle again")
        if name.endswith("quantiles") and (np.diff(array) < 0).any():
            raise BundleError(f"{path}: {name} must not fall; write the bundle again")
    of_columns = {name.removeprefix(COLUMNS): arrays.pop(name) for name in [*arrays] if name.startswith(COLUMNS)}
    return Novelty(**arrays, columns=ColumnNovelty(**of_columns) if of_columns else None)


def _whole(rows: Array) -> Array:
    """Those in which no number is missing."""
    return rows[~np.isnan(rows).any(axis=1)]


def _shrunk_covariance(offsets: NDArray[np.floating]) -> NDArray[np.float64]:
    """[n, D] around their mean → [D, D], drawn towards a multiple of the unit matrix as far as few rows call for."""
    rows, width = offsets.shape
    x = offsets.astype(np.float64)
    sample = x.T @ x / rows
    level = max(float(np.trace(sample)) / width, 1e-12)
    unit = level * np.eye(width)
    squares = np.square(x)
    distance = np.square(sample - unit).sum()
    noise = ((squares.T @ squares).sum() / rows - np.square(sample).sum()) / rows
    # An embedding with dead dimensions has no inverse without some of it.
    share = min(1.0, max(noise / max(distance, 1e-300), 1e-6))
    shrunk: NDArray[np.float64] = (1 - share) * sample + share * unit
    return shrunk
