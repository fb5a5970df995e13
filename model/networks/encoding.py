"""Encodes raw columns as network inputs: standardised values, quantile ramps for numbers and one-hots for ids.

A linear layer has a single weight for a raw number. Ramps (piecewise-linear encoding, Gorishniy et al. 2022, eq. 1)
give it one weight per range of a number, and one-hots one weight per value of an id. Both are fitted to the training
rows alone. An id is not also encoded as a number: an id that training never showed would look like the ids that
happen to lie next to it.
"""

import fnmatch
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.columns import DEAD_STD, RowSource, Statistics
from bundle.schema import Schema

# Standardised values are clipped to this many standard deviations.
CLIP = 5.0
RAMPS = 8
# A column gets ramps only if it has more distinct values than this.
MAX_RAMPLESS_VALUES = 8
# Columns with these names hold ids: their numbers stand for categories.
CATEGORICAL = ("*_id",)
# An id with more distinct values than this is encoded as a number.
MAX_CATEGORIES = 512


class FeatureEncoding(nn.Module):
    """Maps raw rows [B, C] to inputs [B, M]: all columns standardised, then the ramps, then the one-hots.

    Shapes: B batch, C columns, R ramps, K values of ids, M = C + R + K inputs.
    """

    def __init__(self, arrays: dict[str, Tensor]) -> None:
        super().__init__()
        for name, values in arrays.items():
            self.register_buffer(name, values)
        self.mean: Tensor  # [C]
        # 0 silences a column: an id, or one that was constant in training and may not be any more.
        self.scale: Tensor  # [C]
        self.ramp_column: Tensor  # [R]
        self.ramp_start: Tensor  # [R]
        self.ramp_scale: Tensor  # [R]
        self.id_column: Tensor  # [K]
        self.id_value: Tensor  # [K]
        self.id_tolerance: Tensor  # [K]

    @classmethod
    def fit(
        cls, rows: RowSource, schema: Schema, statistics: Statistics, categorical: Sequence[str] = CATEGORICAL
    ) -> "FeatureEncoding":
        """Fits an encoding to the training rows [n, C], NaN where a number is not there; `categorical` lists name
        patterns of id columns."""
        mean, std = statistics["mean"], statistics["std"]
        alive = std > DEAD_STD
        ramps: list[tuple[int, float, float]] = []
        ids: list[tuple[int, float, float]] = []
        for column in np.flatnonzero(alive).tolist():
            there = rows[:, column]
            there = there[~np.isnan(there)]
            values, counts = np.unique(there, return_counts=True)
            is_id = any(fnmatch.fnmatchcase(schema.names[column], pattern) for pattern in categorical)
            if is_id and len(values) <= MAX_CATEGORIES:
                tolerance = float(np.diff(values).min()) / 2 if len(values) > 1 else 0.5
                ids += [(column, float(value), tolerance) for value in values]
            elif len(values) > MAX_RAMPLESS_VALUES:
                edges = _quantile_edges(there, values, counts, gap=0.02 * float(std[column]))
                ramps += [(column, low, 1 / (high - low)) for low, high in itertools.pairwise(edges)]
        numbers = alive & ~np.isin(np.arange(len(std)), [column for column, *_ in ids])
        scale = np.where(numbers, 1 / np.where(alive, std, 1), 0)
        return cls(
            {
                # Where a column is silent, no mean could make an extreme number infinite.
                "mean": torch.tensor(np.where(numbers, mean, 0), dtype=torch.float32),
                "scale": torch.tensor(scale, dtype=torch.float32),
                **_columns_of("ramp", ("start", "scale"), ramps),
                **_columns_of("id", ("value", "tolerance"), ids),
            }
        )

    def forward(self, features: Tensor) -> Tensor:
        """features [B, C] raw → [B, M]."""
        # Halves, since the difference of two numbers may be larger than float32 holds.
        halves = features / 2
        parts = [((halves - self.mean / 2) * (2 * self.scale)).clamp(-CLIP, CLIP)]  # [B, C]
        if len(self.ramp_column):
            numbers = halves.index_select(1, self.ramp_column)
            parts.append(((numbers - self.ramp_start / 2) * (2 * self.ramp_scale)).clamp(0, 1) - 0.5)  # [B, R]
        if len(self.id_column):
            ids = features.index_select(1, self.id_column)
            parts.append(((ids - self.id_value).abs() < self.id_tolerance).to(features.dtype))  # [B, K]
        return torch.cat(parts, dim=1)  # [B, M]

    @property
    def columns(self) -> list[int]:
        """The column that each of the M inputs is derived from."""
        columns: list[int] = torch.cat([torch.arange(len(self.mean)), self.ramp_column, self.id_column]).tolist()
        return columns


def _quantile_edges(
    column: NDArray[np.float32], values: NDArray[np.float32], counts: NDArray[np.int64], gap: float
) -> list[float]:
    """The edges of a column's ramps: quantiles and common values, at least `gap` apart."""
    # A value held by a fifth of the rows would take up several quantiles, so it becomes an edge of its own instead.
    common = values[counts > 0.2 * len(column)]
    spread = column[~np.isin(column, common)]
    quantiles = np.quantile(spread if len(spread) else column, np.linspace(0, 1, RAMPS + 1))
    kept: list[float] = []
    for edge in sorted({*quantiles.astype(np.float64).tolist(), *common.astype(np.float64).tolist()}):
        if not kept or edge - kept[-1] > gap:
            kept.append(edge)
    return kept


def _columns_of(kind: str, names: tuple[str, str], found: list[tuple[int, float, float]]) -> dict[str, Tensor]:
    table = np.array(found, np.float64).reshape(-1, 3)
    return {
        f"{kind}_column": torch.tensor(table[:, 0], dtype=torch.long),
        **{f"{kind}_{name}": torch.tensor(table[:, i + 1], dtype=torch.float32) for i, name in enumerate(names)},
    }
