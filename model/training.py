"""The training loop: later frames (or masked groups) of the same game, predicted in representation space."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model import diagnostics, schedules
from model.checkpoint import Checkpoint, load_checkpoint, optimiser_tensors, restore_optimiser
from model.data import Frames
from model.encoding import FeatureEncoding, column_statistics
from model.jepa import JEPA
from model.masking import MaskSampler
from model.objective import later_frame_loss, masked_groups_loss
from model.recipe import Recipe
from model.splits import rows_ahead, split_rows

FIT_ROWS = 200_000  # rows that quantiles are taken from
EVALUATION_ROWS = 4096
QUANTILE_ROWS = 20_000
HISTORY = ("step", "loss", "loss_ratio", "std", "rankme")
TARGETS_A_ROW = 2  # horizons drawn for each row of a batch
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
    """One run over the frames' training episodes; equal seeds and data give equal weights, resumed or not."""

    def __init__(self, frames: Frames, recipe: Recipe, *, resume: Checkpoint | None = None) -> None:
        self.frames = frames
        self.recipe = recipe
        self.sides = frames.sides if recipe.both_sides else None
        train, val = split_rows(frames, seed=recipe.seed)
        self.ordered = frames.frame is not None
        self.horizons = recipe.horizons if self.ordered else (0,)
        self.ahead = [rows_ahead(frames, horizon) for horizon in self.horizons]
        self.train_rows = self._anchors(train, "training")
        self.val_rows = self._anchors(val, "validation")
        if resume is None:
            torch.manual_seed(recipe.seed)
            statistics = column_statistics(frames.features[train])
            drawn = np.random.default_rng(recipe.seed).permutation(train)[:FIT_ROWS]
            encoding = FeatureEncoding.fit(frames.features[drawn], frames.schema, statistics)
            jepa = JEPA(recipe.config(frames.schema, ordered=self.ordered), encoding)
            summary = {
                "rows": len(self.train_rows),
                "episodes": len(np.unique(frames.episode[train])),
                "seconds": 0.0,
                "half_precision": half_precision_pays(),
                "random_start_share": schedules.random_start_share(recipe.steps, recipe.momentum),
            }
            resume = Checkpoint(jepa, frames.schema, statistics, recipe.as_dict(), 0, summary, {})
        elif resume.schema != frames.schema:
            raise ValueError(
                "the checkpoint was trained on other columns than this data has; train anew without --resume"
            )
        self.checkpoint = resume
        self.jepa = resume.jepa
        self.optimiser = optimiser(self.jepa, recipe.weight_decay)
        if resume.optimiser:
            restore_optimiser(self.optimiser, resume.optimiser)
        self.mask = MaskSampler(len(frames.schema.groups), recipe.hide_share)

    def run(self, path: Path, report: Callable[[Report], None], go_on: Callable[[int], bool], every: int = 250) -> None:
        """Trains to the recipe's last step, or until `go_on(steps done)` says no; saves to `path` and reports every so
        many steps, and saves when it stops."""
        path.parent.mkdir(parents=True, exist_ok=True)
        summary, before = self.checkpoint.summary, self.checkpoint.summary["seconds"]
        started, first = time.monotonic(), self.checkpoint.step
        self.jepa.train()
        for step in range(first, self.recipe.steps):
            loss = self._step(step)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the loss is {loss} at step {step}; lower the learning rate (now {self.recipe.learning_rate}). "
                    f"The last good weights, if any, are in {path}"
                )
            spent = time.monotonic() - started
            summary["seconds"] = before + spent
            wanted = go_on(step + 1)
            if (step + 1) % every == 0 or step + 1 == self.recipe.steps:
                made = self.evaluate(step + 1, (step + 1 - first) / spent)
                report(made)
                self._remember(made)
                self._save(path, step + 1)
            elif not wanted:
                self._save(path, step + 1)
            if not wanted:
                return
        summary["loss_quantiles"] = self.loss_quantiles()
        self._save(path, self.recipe.steps)

    def seconds_a_step(self, tries: int = 2) -> float:
        """Measured on steps whose gradients are thrown away."""
        self.jepa.train()
        generator = torch.Generator().manual_seed(0)
        started = time.monotonic()
        for _ in range(tries):
            with self._precision():
                loss, *_ = self._losses(self._draw(self.train_rows, self.recipe.batch_size, generator), generator)
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.zero_grad(set_to_none=True)
        return (time.monotonic() - started) / tries

    def evaluate(self, step: int, steps_per_second: float = math.inf) -> Report:
        """Diagnostics on held-out rows that are the same at every call."""
        self.jepa.eval()
        generator = torch.Generator().manual_seed(0)
        with torch.inference_mode(), self._precision():
            _, predicted, target, context = self._losses(
                self._draw(self.val_rows, EVALUATION_ROWS, generator), generator
            )
        self.jepa.train()
        flat_prediction, flat_target = predicted.mean(1), target.mean(1)
        made = Report(
            step=step,
            steps=self.recipe.steps,
            loss=float(nn.functional.smooth_l1_loss(flat_prediction, flat_target)),
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
        rows = self.val_rows[np.linspace(0, len(self.val_rows) - 1, min(QUANTILE_ROWS, len(self.val_rows))).astype(int)]
        quantiles = {}
        for horizon, ahead in zip(self.horizons, self.ahead, strict=True):
            losses = []
            for part in np.array_split(rows, max(1, len(rows) // 2048)):
                with torch.inference_mode():
                    context = self.jepa.context_encoder(self._encode(part))
                    asked = torch.full((len(part),), float(horizon))
                    predicted = self.jepa.predictor(context, None, asked)
                    target = self.jepa.target_encoder(self._encode(ahead[part]))
                    losses.append(nn.functional.smooth_l1_loss(predicted, target, reduction="none").mean(1))
            spread = np.quantile(torch.cat(losses).double().numpy(), np.linspace(0, 1, 101))
            quantiles[str(horizon)] = [float(f"{value:.6g}") for value in spread]
        return quantiles

    def _step(self, step: int) -> float:
        # Every draw comes from the step's own number: a resumed run needs no saved random state.
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)
        with self._precision():
            loss, *_ = self._losses(self._draw(self.train_rows, self.recipe.batch_size, generator), generator)
        for group in self.optimiser.param_groups:
            group["lr"] = schedules.learning_rate(
                step, self.recipe.steps, self.recipe.learning_rate, self.recipe.warmup_steps
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for group in self.optimiser.param_groups for p in group["params"]], GRADIENT_CLIP)
        self.optimiser.step()
        self.jepa.update_target(schedules.momentum(step, self.recipe.momentum))
        return float(loss.detach())

    def _losses(self, rows: NDArray[np.int64], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(mean loss, predicted, target, context embedding) for the context rows given."""
        swapped = self._swapped(len(rows), generator)
        now = self._encode(rows, swapped)
        visible, known = self.mask(len(rows), generator), None
        if self.sides is not None:
            known = ~(torch.from_numpy(swapped)[:, None] & torch.from_numpy(self.sides.hidden))
            visible = visible & known
        context: Tensor = self.jepa.context_encoder(now, visible)
        if not self.ordered:
            loss, predicted, target = masked_groups_loss(self.jepa, context, now, visible, known, self.recipe)
            return loss, predicted, target, context
        drawn = torch.rand(len(rows), len(self.horizons), generator=generator).argsort(1)[:, :TARGETS_A_ROW]  # [B, 2]
        ahead = np.stack([later[rows] for later in self.ahead], axis=1)  # [B, H]
        losses = []
        for choice in drawn.T:
            later = self._encode(ahead[np.arange(len(rows)), choice.numpy()], swapped)
            horizon = torch.tensor(self.horizons, dtype=torch.float32)[choice]
            loss, predicted, target = later_frame_loss(self.jepa, context, later, horizon, known, self.recipe)
            losses.append(loss)
        return torch.stack(losses).mean(), predicted, target, context

    def _swapped(self, rows: int, generator: torch.Generator) -> NDArray[np.bool_]:
        """Which rows [B] of a batch are seen from the other side: half of them, where the data has two."""
        if self.sides is None:
            return np.zeros(rows, np.bool_)
        return (torch.rand(rows, generator=generator) < 0.5).numpy()

    def _encode(self, rows: NDArray[np.int64], swapped: NDArray[np.bool_] | None = None) -> Tensor:
        features = self.frames.features[rows]
        if self.sides is not None and swapped is not None:
            features[swapped] = self.sides.swap(features[swapped])
        encoded: Tensor = self.jepa.encoding(torch.from_numpy(features))
        return encoded

    def _draw(self, rows: NDArray[np.int64], count: int, generator: torch.Generator) -> NDArray[np.int64]:
        drawn: NDArray[np.int64] = rows[torch.randint(len(rows), (count,), generator=generator).numpy()]
        return drawn

    def _anchors(self, rows: NDArray[np.int64], purpose: str) -> NDArray[np.int64]:
        """The rows that have a later row at every horizon."""
        kept = rows[np.all([ahead[rows] >= 0 for ahead in self.ahead], axis=0)]
        if not len(kept):
            raise ValueError(
                f"no {purpose} row has a frame {max(self.horizons)} later in its episode; choose shorter horizons"
            )
        return kept

    def _precision(self) -> Any:
        return torch.autocast("cpu", torch.bfloat16) if self.checkpoint.summary["half_precision"] else nullcontext()

    def _save(self, path: Path, step: int) -> None:
        self.checkpoint.step = step
        self.checkpoint.optimiser = optimiser_tensors(self.optimiser)
        self.checkpoint.save(path)


def resume_training(frames: Frames, path: Path) -> Training:
    """The run that `path` holds, ready to go on where it stopped."""
    checkpoint = load_checkpoint(path)
    return Training(frames, Recipe.from_dict(checkpoint.recipe), resume=checkpoint)


def optimiser(jepa: JEPA, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices only: a decayed bias or norm gain only loses range."""
    learned = [*jepa.context_encoder.parameters(), *jepa.predictor.parameters(), *jepa.anchor.parameters()]
    learned = [parameter for parameter in learned if parameter.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def half_precision_pays(size: int = 512, tries: Sequence[int] = range(5)) -> bool:
    """Whether this CPU multiplies bfloat16 matrices at least 1.3 times as fast as float32 ones."""

    def seconds(kind: torch.dtype) -> float:
        matrix = torch.ones(size, size, dtype=kind)
        spent = []
        for _ in tries:
            started = time.perf_counter()
            matrix @ matrix
            spent.append(time.perf_counter() - started)
        return min(spent)

    return seconds(torch.float32) > 1.3 * seconds(torch.bfloat16)
