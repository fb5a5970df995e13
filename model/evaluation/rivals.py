"""Rivals of the predictor that are no linear maps: a network of its size that forecasts columns, and boosted trees that
were given labels of the future."""

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.heads import Head
from model.evaluation.probes import MIN_CLASS_ROWS, boosted_trees

Rows = NDArray[np.float32]

BATCH_ROWS = 512
LEARNING_RATE = 1e-3
# The network of the epoch that does best on games of its own is taken; it stops after PATIENCE epochs without a better.
MAX_EPOCHS = 20
PATIENCE = 2


def network_width(columns: int, size: int) -> int:
    """Of the two hidden layers of a network from columns to columns with about `size` weights: w² + 2·columns·w."""
    return max(1, round(float(np.sqrt(columns**2 + size)) - columns))


def later_columns(x: Rows, then: Rows, chooses: NDArray[np.bool_], asked: Rows, size: int) -> Rows:
    """Learns later columns [n, C] from columns [n, C], and expects those of the rows `asked` [m, C]; `chooses` [n] are
    rows that say when to stop."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    columns, width = x.shape[1], network_width(x.shape[1], size)
    network = nn.Sequential(
        nn.Linear(columns, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, columns)
    )
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    (rows, wanted), (held_x, held_y) = (
        (torch.from_numpy(x[part]), torch.from_numpy(then[part])) for part in (~chooses, chooses)
    )
    best, least, waited = network, float("inf"), 0
    for _ in range(MAX_EPOCHS):
        for batch in torch.split(torch.randperm(len(rows), generator=generator), BATCH_ROWS):
            optimiser.zero_grad()
            F.mse_loss(network(rows[batch]), wanted[batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        loss = float(F.mse_loss(_answers(network, held_x), held_y))
        if loss < least:
            best, least, waited = deepcopy(network), loss, 0
        elif (waited := waited + 1) == PATIENCE:
            break
    expected: Rows = _answers(best, torch.from_numpy(asked)).numpy()
    return expected


def _answers(network: nn.Module, rows: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([network(part) for part in torch.split(rows, 4096)])


def tree_values(head: Head, x: Rows, y: Rows, asked: Rows) -> Rows | None:
    """[m, K] what boosted trees on columns [n, C] with labels of the future [n], NaN for none, say of the rows `asked`;
    None for a number and where there are too few labels."""
    known = ~np.isnan(y)
    values, counts = np.unique(y[known], return_counts=True)
    values = values[counts >= MIN_CLASS_ROWS]
    if head.kind == "number" or len(values) < 2:
        return None
    known &= np.isin(y, values)
    trees = boosted_trees(x[known], y[known].astype(np.int64))
    found = np.zeros((len(asked), max(2, len(head.outputs))), np.float32)
    found[:, trees.classes_] = trees.predict_proba(asked)
    return found[:, 1:] if head.kind == "binary" else found
