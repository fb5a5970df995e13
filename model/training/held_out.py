"""What a run makes of games that it does not learn from."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.networks.jepa import JEPA
from model.networks.layers import mean_of
from model.training import diagnostics
from model.training.devices import precision
from model.training.forward_pass import forward_pass, hidden_patches, predict
from model.training.run import Run

EVALUATION_ROWS = 2048
QUANTILE_ROWS = 20_000
CHUNK_ROWS = 2048


@dataclass(frozen=True)
class Report:
    """What a log line says: losses on held-out rows, and whether the embeddings are alive."""

    step: int
    steps: int
    objective: float  # what training minimises; most of its targets stay where they are, so its least is the best point
    loss: float  # smooth L1; no measure of quality by itself, since its targets move
    loss_ratio: float  # over the loss of always predicting the mean target: 1 is nothing learned
    std: float  # of the embedding over rows, mean over dims: near 0 is collapse
    rankme: float  # how many dims of the embedding are in use
    rows_per_second: float
    seconds_left: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(run: Run, steps_per_second: float = math.inf) -> Report:
    """Diagnostics on held-out rows that are the same at every call; FloatingPointError where they are not finite."""
    run.jepa.eval()
    batch = run.batches.draw(run.val_rows, EVALUATION_ROWS, torch.Generator().manual_seed(0))
    with torch.inference_mode(), precision(run.fabric.device, half=run.checkpoint.summary.half_precision):
        out = forward_pass(run.jepa, batch)
        asked = hidden_patches(run.jepa, out)
        predicted, target = (mean_of(each, asked) for each in (predict(run.jepa, out), out.target))  # [T, D]
        objective = float(run.objective.of(out))
    run.jepa.train()
    context = out.context[: out.rows].float()
    loss = float(nn.functional.smooth_l1_loss(predicted, target))
    check_finite(run, loss + objective)
    return Report(
        step=run.checkpoint.step,
        steps=run.recipe.steps,
        objective=objective,
        loss=loss,
        loss_ratio=diagnostics.loss_ratio(predicted, target),
        std=diagnostics.mean_std(context),
        rankme=diagnostics.rankme(context),
        rows_per_second=steps_per_second * run.recipe.batch_size,
        seconds_left=(run.recipe.steps - run.checkpoint.step) / steps_per_second,
    )


def loss_quantiles(run: Run, jepa: JEPA) -> dict[str, list[float]]:
    """Per horizon the 0 … 100 % quantiles of the loss of a held-out row, as the service computes it: between the
    predictor's answer to the context embedding of the row and the target encoder's embedding. Of either row, groups
    that the data lacks are hidden."""
    batches = run.batches
    jepa.eval()
    losses: dict[int, list[Tensor]] = {horizon: [] for horizon in run.horizons}
    rows = run.val_rows.evenly(QUANTILE_ROWS)
    for part in np.split(rows, range(CHUNK_ROWS, len(rows), CHUNK_ROWS)):
        with torch.inference_mode():
            context = jepa.context_encoder(jepa.encoding(batches.seen(part)), batches.known(part))
            for horizon in run.horizons:
                asked = torch.full((len(part),), float(horizon), device=context.device)
                predicted = jepa.predictor(context, None, asked)
                later = batches.later(part, horizon)
                target = jepa.target_encoder(jepa.encoding(batches.seen(later)), batches.known(later))
                losses[horizon].append(nn.functional.smooth_l1_loss(predicted, target, reduction="none").mean(1))
    quantiles = {}
    for horizon, each in losses.items():
        found = np.quantile(torch.cat(each).double().numpy(force=True), np.linspace(0, 1, 101))
        quantiles[str(horizon)] = [float(f"{value:.6g}") for value in found]
    return quantiles


def check_finite(run: Run, loss: float) -> None:
    """Raises FloatingPointError where the loss is NaN or infinite."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss is {loss} at step {run.checkpoint.step}; lower the learning rate (now "
            f"{run.recipe.learning_rate}). The weights saved last are good"
        )
