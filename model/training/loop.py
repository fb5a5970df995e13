"""The training loop: later frames (or masked groups) of the same game, predicted in representation space."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.training import schedules
from model.training.batches import Batch
from model.training.checkpoint import load_checkpoint, optimiser_tensors
from model.training.devices import threads_an_operation
from model.training.held_out import Report, check_finite, evaluate, loss_quantiles
from model.training.run import Run

GRADIENT_CLIP = 1.0
# What a curve is drawn of.
MIN_REPORTS = 50


def train(
    run: Run, path: Path, report: Callable[[Report], None], go_on: Callable[[int], bool], every: int | None = None
) -> bool:
    """Trains to the recipe's last step, until its patience ends, or until `go_on(steps done)` says no to any process;
    whether it came to its end.

    It reports and saves to `path` every so many steps (None: so that the run has MIN_REPORTS), and saves before the
    first step and when it stops; the best report's weights stay in `best_of(path)`. All processes evaluate, so that
    what stops one of them stops all; the first one reports and saves.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint, fabric, steps = run.checkpoint, run.fabric, run.recipe.steps
    every = max(1, steps // MIN_REPORTS) if every is None else every
    started, first, seconds_before = time.monotonic(), checkpoint.step, checkpoint.summary.seconds
    if first == 0:
        _save(run, path)
    if not best_of(path).is_file():
        checkpoint.summary.best = {}
    run.jepa.train()
    with threads_an_operation(run.gradients.threads):
        for step in range(first, steps):
            loss, stopped = _agreed(run, _step(run, step), not go_on(step + 1))
            check_finite(run, loss)
            checkpoint.step = step + 1
            spent = time.monotonic() - started
            checkpoint.summary.seconds = seconds_before + spent
            reports = checkpoint.step % every == 0 or checkpoint.step == steps
            if reports:
                made = evaluate(run, (checkpoint.step - first) / spent)
                checkpoint.summary.record(made.step, made.as_dict())
                if checkpoint.summary.improves(made.step, made.objective):
                    _save_best(run, path)
                if fabric.is_global_zero:
                    report(made)
            if reports or stopped:
                _save(run, path)
            if fabric.broadcast(checkpoint.finished()):
                break
            if stopped:
                return False
    if fabric.is_global_zero:
        _conclude(run, path)
    return True


def best_of(path: Path) -> Path:
    """Where the weights of a run's best report are, beside the checkpoint at `path`."""
    return path.with_suffix(".best.safetensors")


def seconds_a_step(run: Run, tries: int = 3) -> float:
    """Measured on steps whose gradients are thrown away, after one more that warms up."""
    run.jepa.train()
    with threads_an_operation(run.gradients.threads):
        for i in range(tries + 1):
            if i == 1:
                started = time.monotonic()
            _gradients(run, seed=i)
    run.optimiser.zero_grad()
    return (time.monotonic() - started) / tries


def _step(run: Run, step: int) -> Tensor:
    """One step of the optimiser and of the target encoder → the loss of this process's part of the batch."""
    recipe = run.recipe
    # Every draw comes from the step's own number: a resumed run needs no saved random state.
    loss = _gradients(run, seed=recipe.seed * 1_000_003 + step)
    for group in run.optimiser.param_groups:
        group["lr"] = schedules.learning_rate(step, recipe.steps, recipe.learning_rate, recipe.warmup_steps)
    nn.utils.clip_grad_norm_(run.gradients.learned, GRADIENT_CLIP)
    run.optimiser.step()
    run.jepa.update_target(schedules.momentum(step, recipe.momentum))
    return loss


def _gradients(run: Run, seed: int) -> Tensor:
    """Leaves the gradients of the batch of that seed; the loss of this process's part of it."""

    def draw(rank: int, ranks: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        return run.batches.draw(run.train_rows, run.recipe.batch_size, generator, rank=rank, ranks=ranks)

    return run.gradients(draw, seed)


def _agreed(run: Run, loss: Tensor, stop: bool) -> tuple[float, bool]:
    """The mean loss of all processes, and whether any of them wants to stop."""
    mean: Any = run.fabric.all_reduce(torch.stack([loss, torch.full_like(loss, stop)]))
    loss_mean, stop_mean = mean.tolist()
    return loss_mean, stop_mean > 0


def _conclude(run: Run, path: Path) -> None:
    """Adds to both checkpoints of a run that is over what is measured at its end."""
    checkpoint = run.checkpoint
    if not best_of(path).is_file():
        _save_best(run, path)
    best = load_checkpoint(best_of(path))
    best.jepa.to(run.fabric.device)
    quantiles = checkpoint.summary.loss_quantiles = loss_quantiles(run, run.jepa)
    _save(run, path)
    if best.step != checkpoint.step:
        quantiles = loss_quantiles(run, best.jepa)
    best.summary = replace(checkpoint.summary, metrics=best.summary.metrics, loss_quantiles=quantiles)
    best.save(best_of(path))


def _save_best(run: Run, path: Path) -> None:
    if run.fabric.is_global_zero:
        replace(run.checkpoint, optimiser={}).save(best_of(path))


def _save(run: Run, path: Path) -> None:
    if run.fabric.is_global_zero:
        run.checkpoint.optimiser = optimiser_tensors(run.optimiser)
        run.checkpoint.save(path)
