"""The training loop: later frames (or masked groups) of the same game, predicted in representation space."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.columns import column_statistics
from model.data import checks
from model.data.frames import Frames
from model.data.splits import split_rows
from model.networks.encoding import FeatureEncoding
from model.networks.jepa import JEPA
from model.training import diagnostics, schedules
from model.training.batches import COMPOSITE_EVERY, Batch, Batches, evenly
from model.training.checkpoint import Checkpoint, load_checkpoint, optimiser_tensors, restore_optimiser
from model.training.devices import half_precision_pays, launch, precision, threads_an_operation
from model.training.gradients import Gradients
from model.training.objective import Objective
from model.training.recipe import Recipe

FIT_ROWS = 200_000  # rows that quantiles are taken from
EVALUATION_ROWS = 4096
QUANTILE_ROWS = 20_000
HISTORY = ("step", "loss", "loss_ratio", "std", "rankme")
SAMPLE_ROWS = 2048
GRADIENT_CLIP = 1.0


@dataclass(frozen=True)
class Report:
    """What a log line says: losses on held-out rows, and whether the embeddings are alive."""

    step: int
    steps: int
    loss: float
    loss_ratio: float  # over the loss of always predicting the mean target; 1: nothing learned
    std: float
    rankme: float
    rows_per_second: float
    seconds_left: float


class Training:
    """One run over the frames' training episodes; equal seeds and data give equal weights, resumed or not.

    `fabric` (None: this process alone, on the CPU) says where. Each batch is cut into equal shares, one a thread of
    every process, and their gradients are averaged; only the first process reports and saves.
    """

    def __init__(
        self, frames: Frames, recipe: Recipe, *, resume: Checkpoint | None = None, fabric: Fabric | None = None
    ) -> None:
        self.recipe = recipe
        self.fabric = fabric or launch(accelerator="cpu")
        devices = self.fabric.world_size
        if devices > 1 and recipe.batch_size % (devices * COMPOSITE_EVERY):
            raise ValueError(
                f"batch_size is {recipe.batch_size}, which {devices} devices do not divide into multiples of "
                f"{COMPOSITE_EVERY}; choose a number of --devices that does"
            )
        train, val = split_rows(frames, seed=recipe.seed)
        statistics = column_statistics(frames.features[train]) if resume is None else resume.statistics
        self.ordered = frames.frame is not None
        self.horizons = recipe.horizons if self.ordered else (0,)
        checks.check_trainable(frames, train, statistics, self.horizons)
        self.warnings = checks.training_warnings(frames, train, statistics, self.horizons, recipe.batch_size)
        symmetries = frames.symmetries if recipe.symmetries else ()
        self.batches = Batches(frames, self.horizons, recipe.hide_share, symmetries, self.fabric.device)
        self.train_rows = self._anchors(train, "training")
        self.val_rows = self._anchors(val, "validation")
        if resume is None:
            torch.manual_seed(recipe.seed)
            drawn = np.random.default_rng(recipe.seed).permutation(train)[:FIT_ROWS]
            encoding = FeatureEncoding.fit(frames.features[drawn], frames.schema, statistics)
            jepa = JEPA(recipe.config(frames.schema, ordered=self.ordered), encoding).to(self.fabric.device)
            if self.ordered:
                self._measure_directions(jepa)
            summary = {
                "rows": len(self.train_rows),
                "episodes": len(np.unique(frames.episode[train])),
                "seconds": 0.0,
                "half_precision": half_precision_pays(self.fabric.device),
                "random_start_share": schedules.random_start_share(recipe.steps, recipe.momentum),
            }
            resume = Checkpoint(jepa, frames.schema, statistics, recipe.as_dict(), 0, summary, {}, self._sample())
        elif resume.schema != frames.schema:
            raise ValueError(
                "the checkpoint was trained on other columns than this data has; train anew without --resume"
            )
        self.checkpoint = resume
        self.jepa = resume.jepa
        self.half = bool(resume.summary["half_precision"])
        self.objective = Objective(self.jepa, recipe).to(self.fabric.device)
        self.optimiser = optimiser(self.jepa, recipe.weight_decay)
        learned: list[Tensor] = [weight for group in self.optimiser.param_groups for weight in group["params"]]
        rows = recipe.batch_size // self.fabric.world_size
        self.gradients = Gradients(self.objective, learned, rows, self.fabric, half=self.half)
        if resume.optimiser:
            restore_optimiser(self.optimiser, resume.optimiser)

    def run(self, path: Path, report: Callable[[Report], None], go_on: Callable[[int], bool], every: int = 250) -> bool:
        """Trains to the recipe's last step, or until `go_on(steps done)` says no to any process; saves to `path` and
        reports every so many steps, and saves before the first and when it stops. Whether it came to its end."""
        path.parent.mkdir(parents=True, exist_ok=True)
        summary, before = self.checkpoint.summary, self.checkpoint.summary["seconds"]
        started, first = time.monotonic(), self.checkpoint.step
        if first == 0:
            self._save(path, 0)
        self.jepa.train()
        with threads_an_operation(self.gradients.threads):
            for step in range(first, self.recipe.steps):
                loss, stopped = self._agreed(self._step(step), not go_on(step + 1))
                spent = time.monotonic() - started
                summary["seconds"] = before + spent
                self._check_finite(loss, step)
                reports = (step + 1) % every == 0 or step + 1 == self.recipe.steps
                if reports:
                    # Each process does so for itself: what stops one of them stops all.
                    made = self.evaluate(step + 1, (step + 1 - first) / spent)
                    self._remember(made)
                    if self.fabric.is_global_zero:
                        report(made)
                if reports or stopped:
                    self._save(path, step + 1)
                if stopped and step + 1 < self.recipe.steps:
                    return False
        if self.fabric.is_global_zero:
            summary["loss_quantiles"] = self.loss_quantiles()
            self._save(path, self.recipe.steps)
        return True

    def seconds_a_step(self, tries: int = 3) -> float:
        """Measured on steps whose gradients are thrown away, after one more that warms up."""
        self.jepa.train()
        with threads_an_operation(self.gradients.threads):
            for i in range(tries + 1):
                if i == 1:
                    started = time.monotonic()
                self._gradients(seed=i)
        self.optimiser.zero_grad()
        return (time.monotonic() - started) / tries

    def evaluate(self, step: int, steps_per_second: float = math.inf) -> Report:
        """Diagnostics on held-out rows that are the same at every call."""
        self.jepa.eval()
        batch = self.batches.draw(self.val_rows, EVALUATION_ROWS, torch.Generator().manual_seed(0))
        with torch.inference_mode(), precision(self.fabric.device, half=self.half):
            _, predicted, target, context = self.objective(batch)
        self.jepa.train()
        flat_prediction, flat_target = predicted.mean(1), target.mean(1)
        loss = float(nn.functional.smooth_l1_loss(flat_prediction, flat_target))
        self._check_finite(loss, step)
        made = Report(
            step=step,
            steps=self.recipe.steps,
            loss=loss,
            loss_ratio=diagnostics.loss_ratio(flat_prediction, flat_target),
            std=diagnostics.mean_std(context.float()),
            rankme=diagnostics.rankme(context.float()),
            rows_per_second=steps_per_second * self.recipe.batch_size,
            seconds_left=(self.recipe.steps - step) / steps_per_second,
        )
        self.checkpoint.summary["metrics"] = {
            k: v for k, v in asdict(made).items() if k in ("loss", "loss_ratio", "std", "rankme")
        }
        return made

    def _remember(self, made: Report) -> None:
        """Keeps what the curves of a report are drawn from, four digits each."""
        history = self.checkpoint.summary.setdefault("history", {name: [] for name in HISTORY})
        for name in HISTORY:
            history[name].append(float(f"{getattr(made, name):.4g}"))

    def loss_quantiles(self) -> dict[str, list[float]]:
        """Per horizon the 0 … 100 % quantiles of the loss of a held-out row, as the service computes it: between the
        predictor's answer to the whole row's context embedding and the target encoder's embedding."""
        self.jepa.eval()
        losses: dict[int, list[Tensor]] = {horizon: [] for horizon in self.horizons}
        for part in torch.split(evenly(self.val_rows, QUANTILE_ROWS), 2048):
            with torch.inference_mode():
                context = self.jepa.context_encoder(self.jepa.encoding(self.batches.seen(part)))
                for horizon, ahead in zip(self.horizons, self.batches.ahead, strict=True):
                    asked = torch.full((len(part),), float(horizon), device=context.device)
                    predicted = self.jepa.predictor(context, None, asked)
                    target = self.jepa.target_encoder(self.jepa.encoding(self.batches.seen(ahead[part])))
                    losses[horizon].append(nn.functional.smooth_l1_loss(predicted, target, reduction="none").mean(1))
        quantiles = {}
        for horizon, each in losses.items():
            found = np.quantile(torch.cat(each).double().numpy(force=True), np.linspace(0, 1, 101))
            quantiles[str(horizon)] = [float(f"{value:.6g}") for value in found]
        return quantiles

    def _measure_directions(self, jepa: JEPA) -> None:
        parts = torch.split(evenly(self.train_rows, QUANTILE_ROWS), 2048)
        now = [jepa.encoding(self.batches.seen(part)) for part in parts]
        for horizon, ahead in zip(self.horizons, self.batches.ahead, strict=True):
            later = (jepa.encoding(self.batches.seen(ahead[part])) for part in parts)
            jepa.anchor.measure_directions(horizon, zip(now, later, strict=True))

    def _step(self, step: int) -> Tensor:
        """The loss of this process's part of the batch."""
        # Every draw comes from the step's own number: a resumed run needs no saved random state.
        loss = self._gradients(self.recipe.seed * 1_000_003 + step)
        for group in self.optimiser.param_groups:
            group["lr"] = schedules.learning_rate(
                step, self.recipe.steps, self.recipe.learning_rate, self.recipe.warmup_steps
            )
        nn.utils.clip_grad_norm_(self.gradients.learned, GRADIENT_CLIP)
        self.optimiser.step()
        self.jepa.update_target(schedules.momentum(step, self.recipe.momentum))
        return loss

    def _gradients(self, seed: int) -> Tensor:
        def draw(rank: int, ranks: int) -> Batch:
            generator = torch.Generator().manual_seed(seed)
            return self.batches.draw(self.train_rows, self.recipe.batch_size, generator, rank=rank, ranks=ranks)

        return self.gradients(draw, seed)

    def _agreed(self, loss: Tensor, stop: bool) -> tuple[float, bool]:
        """The mean loss of all processes, and whether any of them wants to stop."""
        said: Any = self.fabric.all_reduce(torch.stack([loss, torch.full_like(loss, stop)]))
        mean, stops = said.tolist()
        return mean, stops > 0

    def _check_finite(self, loss: float, step: int) -> None:
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {step}; lower the learning rate (now {self.recipe.learning_rate}). "
                "The weights saved last are good"
            )

    def _sample(self) -> NDArray[np.float32]:
        count = min(SAMPLE_ROWS, len(self.train_rows), len(self.val_rows))
        chosen = torch.cat([evenly(self.train_rows, count), evenly(self.val_rows, count)])
        rows: NDArray[np.float32] = self.batches.seen(chosen).numpy(force=True)
        return rows

    def _anchors(self, rows: NDArray[np.int64], purpose: str) -> Tensor:
        kept = self.batches.anchors(rows)
        if not len(kept):
            raise ValueError(
                f"no {purpose} row has a frame {max(self.horizons)} later in its episode; choose shorter horizons"
            )
        return kept

    def _save(self, path: Path, step: int) -> None:
        if self.fabric.is_global_zero:
            self.checkpoint.step = step
            self.checkpoint.optimiser = optimiser_tensors(self.optimiser)
            self.checkpoint.save(path)


def resume_training(frames: Frames, path: Path, fabric: Fabric | None = None) -> Training:
    """The run that `path` holds, ready to go on where it stopped; ValueError for one of another version."""
    checkpoint = load_checkpoint(path)
    if checkpoint.recipe.keys() != Recipe().as_dict().keys():
        raise ValueError(f"{path} was begun by another version, which trained otherwise; train anew without --resume")
    return Training(frames, Recipe.from_dict(checkpoint.recipe), resume=checkpoint, fabric=fabric)


def optimiser(jepa: JEPA, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices only: a decayed bias or norm gain only loses range."""
    learned = [*jepa.context_encoder.parameters(), *jepa.predictor.parameters(), *jepa.anchor.parameters()]
    learned = [parameter for parameter in learned if parameter.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
