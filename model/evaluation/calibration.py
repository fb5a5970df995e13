"""Turns what a head says into probabilities that hold, and measures whether they do."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from torch import Tensor
from torch.nn import functional as F

from bundle.heads import Kind

Rows = NDArray[np.float32]

# Of the sum of squares of what is fitted (to standardised scores) beside the mean loss of a row: enough for a solution
# where an output separates all rows.
PENALTY = 1e-4
# Intervals of equal width into which the calibration error sorts probabilities.
BINS = 15


def calibrate(scores: Rows, wanted: Rows, kind: Kind) -> Rows:
    """Scores [n, K] of one head and what they should say, [n, K] as probabilities (one column if binary) or numbers →
    [K, 4], the scale, the shift, the bend and the knee of each output that make the likeliest answers or the nearest
    ones.

    A scale and a shift are after Platt (1999). The log-odds of a binary head may rise by another slope on one side of
    the knee than on the other, as in beta calibration (Kull et al. 2017); classes and numbers have a bend of 0.
    """
    centre, spread = scores.mean(0), np.maximum(scores.std(0), 1e-6)
    x = torch.from_numpy(((scores - centre) / spread).astype(np.float64))  # [n, K]
    y = torch.from_numpy(wanted.astype(np.float64))
    bend, knee = torch.zeros((2, x.shape[1]), dtype=x.dtype)
    if kind == "number":
        level = y.mean(0)
        slope = (x * (y - level)).mean(0) / (x.square().mean(0) + 1e-12)
    else:
        straight = torch.stack([torch.ones_like(bend), bend])
        slope, level = straight = _likeliest(x, y, kind, straight)
        if kind == "binary":
            slope, level, steepness, knee = _likeliest(x, y, kind, torch.cat([straight, bend[None], knee[None]]))
            bend = torch.expm1(steepness)
    scale = slope.numpy() / spread
    shift = level.numpy() - scale * centre
    return np.stack([scale, shift, bend.numpy(), knee.numpy()], axis=-1).astype(np.float32)


def _likeliest(x: Tensor, y: Tensor, kind: Kind, start: Tensor) -> Tensor:
    """[n, K], [n, K] and a first guess → slopes, levels and, where the guess has them, the logarithms of how much
    steeper outputs are above their knee than below, and the knees, each [K]."""
    weights = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = x * weights[0] + weights[1]
        if len(weights) > 2:
            logits = logits + torch.expm1(weights[2]) * F.softplus(logits + weights[3])
        fit = F.binary_cross_entropy_with_logits(logits, y) if kind == "binary" else F.cross_entropy(logits, y)
        total = fit + PENALTY * weights.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()


def steps(scores: Rows, happened: Rows) -> IsotonicRegression:
    """Scores [n] and whether each happened, [n] as 0 and 1 → what turns scores into the share that happened at each, by
    steps of their own that only rise (Zadrozny and Elkan 2002)."""
    return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, happened)


def calibration_error(probabilities: NDArray[np.floating], happened: NDArray[np.bool_]) -> float:
    """[n] and [n] → the expected calibration error (Naeini et al. 2015): the mean over 15 intervals, by their rows, of
    how far the mean probability is from the share that happened."""
    at = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = np.bincount(at, probabilities - happened, BINS)
    return float(np.abs(gaps).sum() / len(probabilities))
