"""A training run, made ready: the rows it learns from, its networks and what changes them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from bundle.columns import Statistics
from bundle.sample import SAMPLE_ROWS as SHOWN_ROWS
from bundle.schema import MAX_ACTION_COLUMNS, MAX_ACTION_NUMBERS
from model.data import checks
from model.data.frames import Frames
from model.data.matrix import taken
from model.data.ranges import Ranges, distinct
from model.data.splits import split_rows
from model.data.statistics import statistics_of
from model.networks.actions import ActionEncoding
from model.networks.encoding import FeatureEncoding
from model.networks.jepa import JEPA
from model.training import schedules
from model.training.batches import COMPOSITE_EVERY, Batches
from model.training.checkpoint import Checkpoint, load_checkpoint, restore_optimiser
from model.training.devices import half_precision_pays, launch
from model.training.gradients import Gradients
from model.training.objective import Objective
from model.training.recipe import FIELDS, Recipe
from model.training.summary import TrainingSummary

# Rows that the quantiles of the encoding are taken from.
FIT_ROWS = 200_000
# Rows that the shares of rising and falling columns are taken from.
DIRECTION_ROWS = 20_000
SAMPLE_ROWS = 2048
CHUNK_ROWS = 2048
# Fields of a recipe that say when a run ends, so that it may go on with others.
ENDS = ("steps", "patience")


@dataclass
class Run:
    """Everything that training changes or reads. Each process has one of its own, with equal weights."""

    recipe: Recipe
    fabric: Fabric
    batches: Batches
    train_rows: Ranges  # those that have a later row at every horizon
    val_rows: Ranges  # of games that are held out
    checkpoint: Checkpoint  # the networks and how far they have come
    objective: Objective
    gradients: Gradients
    optimiser: torch.optim.Optimizer
    warnings: list[str]  # what is doubtful in the data, in words

    @property
    def jepa(self) -> JEPA:
        return self.checkpoint.jepa

    @property
    def horizons(self) -> tuple[int, ...]:
        """Frames ahead; (0,) where rows have no order."""
        return self.recipe.horizons if self.batches.ordered else (0,)


def prepare(
    frames: Frames, recipe: Recipe, *, fabric: Fabric | None = None, checkpoint: Checkpoint | None = None
) -> Run:
    """Makes a run over the frames' training episodes ready, from its start or where `checkpoint` stands.

    `fabric` (None: this process alone, on the CPU) says where. Equal seeds and data give equal weights, resumed or not.
    ValueError for frames that nothing can be learned from, and for a checkpoint of other columns.
    """
    fabric = fabric or launch(accelerator="cpu")
    if checkpoint is not None:
        _check_alike(checkpoint, frames)
    _check_shares(recipe.batch_size, fabric.world_size)
    train, val = split_rows(frames, seed=recipe.seed)
    statistics = statistics_of(frames, train) if checkpoint is None else checkpoint.statistics
    horizons = recipe.horizons if frames.frame is not None else (0,)
    checks.check_trainable(frames, train, statistics, horizons)
    warnings = checks.training_warnings(frames, train, statistics, horizons, recipe.batch_size)
    symmetries = frames.symmetries if recipe.symmetries else ()
    batches = Batches(frames, horizons, recipe.hide_share, symmetries, fabric.device, recipe.max_actions)
    train_rows = _usable_rows(batches, train, horizons, "training")
    val_rows = _usable_rows(batches, val, horizons, "validation")
    if checkpoint is not None and checkpoint.summary.rows != len(train_rows):
        raise ValueError(
            f"the run learns from {checkpoint.summary.rows:,} rows, and this data gives it {len(train_rows):,}: other "
            "games would be held out than before; give it the same data, or train anew without --resume"
        )
    if checkpoint is None:
        checkpoint = Checkpoint(
            jepa=_networks(frames, train, statistics, recipe).to(fabric.device),
            schema=frames.schema,
            statistics=statistics,
            recipe=recipe.as_dict(),
            step=0,
            summary=TrainingSummary(
                rows=len(train_rows),
                episodes=len(distinct(frames.episode, train)),
                half_precision=half_precision_pays(fabric.device),
                random_start_share=schedules.random_start_share(recipe.steps, recipe.momentum),
            ),
            optimiser={},
            sample=_sample(batches, train_rows, val_rows),
            actions=_actions(frames, recipe),
        )
        if batches.ordered:
            _measure_directions(checkpoint.jepa, batches, train_rows, horizons)
    checkpoint.jepa.to(fabric.device)
    optimiser = adamw(checkpoint.jepa, recipe.weight_decay)
    if checkpoint.optimiser:
        restore_optimiser(optimiser, checkpoint.optimiser)
    learned = [weight for group in optimiser.param_groups for weight in group["params"]]
    objective, rows = Objective(checkpoint.jepa, recipe), recipe.batch_size // fabric.world_size
    gradients = Gradients(objective, learned, rows, fabric, half=checkpoint.summary.half_precision)
    return Run(recipe, fabric, batches, train_rows, val_rows, checkpoint, objective, gradients, optimiser, warnings)


def resume(
    frames: Frames, path: Path, *, fabric: Fabric | None = None, changes: Mapping[str, Any] | None = None
) -> Run:
    """The run that `path` holds, ready to go on where it stopped, with `changes` of when it ends; ValueError for one
    of another version, and for other changes."""
    checkpoint = load_checkpoint(path)
    recipe = changed_recipe(checkpoint, changes or {})
    checkpoint.recipe = recipe.as_dict()
    checkpoint.summary.random_start_share = schedules.random_start_share(recipe.steps, recipe.momentum)
    return prepare(frames, recipe, fabric=fabric, checkpoint=checkpoint)


def changed_recipe(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> Recipe:
    """The run's recipe with those changes; ValueError for one that makes it another run."""
    if checkpoint.recipe.keys() != FIELDS.keys():
        raise ValueError("the run was begun by another version, which trained otherwise; train anew without --resume")
    began = Recipe.from_dict(checkpoint.recipe)
    recipe = began.changed(changes)
    for name in changes:
        before, now = getattr(began, name), getattr(recipe, name)
        if before != now and name not in ENDS:
            raise ValueError(
                f"{name} is {now}, but the run was begun with {before}; leave it out to go on with the run, or train "
                "anew without --resume"
            )
    if recipe.steps < began.steps:
        raise ValueError(
            f"steps is {recipe.steps}, but the run was begun with {began.steps}; it can be made longer, not shorter"
        )
    return recipe


def check_unfinished(checkpoint: Checkpoint, recipe: Recipe) -> None:
    """Raises ValueError where a run is over, with that recipe in the place of its own."""
    if not replace(checkpoint, recipe=recipe.as_dict()).finished():
        return
    early = "" if checkpoint.step >= recipe.steps else f", where its patience of {recipe.patience} ended"
    longer = f"patience, such as {2 * recipe.patience}" if early else f"steps, such as {2 * recipe.steps}"
    raise ValueError(
        f"the run is finished: it has done {checkpoint.step} of {recipe.steps} steps{early}; to go on give it more "
        f"{longer}, or train anew without --resume"
    )


def frames_to_show(run: Run) -> NDArray[np.float32]:
    """At most SHOWN_ROWS consecutive frames [n, C] of one held-out game; ValueError where rows have no order."""
    if not run.batches.ordered:
        raise ValueError("rows without a frame column are no game to look at; leave out --sample")
    # Rows at the end of a game have none later, so consecutive rows are of one game.
    first, stop = run.val_rows.longest()
    rows: NDArray[np.float32] = run.batches.seen(np.arange(first, min(stop, first + SHOWN_ROWS))).numpy(force=True)
    return rows


def adamw(jepa: JEPA, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices only: a decayed bias or norm gain only loses range."""
    learned = [*jepa.context_encoder.parameters(), *jepa.predictor.parameters(), *jepa.column_heads.parameters()]
    learned = [parameter for parameter in learned if parameter.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def _check_alike(checkpoint: Checkpoint, frames: Frames) -> None:
    """Raises ValueError where a run cannot go on with these frames."""
    before, now = checkpoint.schema, frames.schema
    anew = "or train anew without --resume"
    said = None
    if lacking := [name for name in before.names if name not in now.names]:
        said = f"lacks {len(lacking)} of its {len(before.names)} columns, first '{lacking[0]}'"
    elif surplus := [name for name in now.names if name not in before.names]:
        said = f"has {len(surplus)} columns more, first '{surplus[0]}'"
    elif before.names != now.names:
        said = "has its columns in another order"
    elif before != now:
        said = "has its columns in other groups"
    if said is not None:
        raise ValueError(
            f"the run was trained on other columns than this data has: it {said}; give it the same data, {anew}"
        )
    if checkpoint.jepa.config.horizons == (0,) and frames.frame is not None:
        raise ValueError(f"the run learned from rows without order, and this data has one; add --unordered, {anew}")
    if checkpoint.jepa.config.horizons != (0,) and frames.frame is None:
        raise ValueError(f"the run looks ahead, and the rows of this data have no order; give it the same data, {anew}")
    trained, given = checkpoint.actions, _actions(frames, Recipe.from_dict(checkpoint.recipe))
    if trained != given:
        raise ValueError(
            f"the run was trained with the inputs {', '.join(trained) or 'none'}, and this data has "
            f"{', '.join(given) or 'none'}; give it the same data, {anew}"
        )


def _check_shares(batch_size: int, processes: int) -> None:
    if processes > 1 and batch_size % (processes * COMPOSITE_EVERY):
        raise ValueError(
            f"batch_size is {batch_size}, which {processes} devices do not divide into multiples of "
            f"{COMPOSITE_EVERY}; choose a number of --devices that does"
        )


def _usable_rows(batches: Batches, rows: Ranges, horizons: tuple[int, ...], purpose: str) -> Ranges:
    kept = batches.with_later_rows(rows)
    if not len(kept):
        way = "choose shorter horizons"
        if max(horizons) == 1:
            way = "name what tells games apart with --episode, or learn from single rows with --unordered"
        raise ValueError(f"no {purpose} row has a frame {max(horizons)} later in its episode; {way}")
    return kept


def _networks(frames: Frames, train: Ranges, statistics: Statistics, recipe: Recipe) -> JEPA:
    """With random weights, and an encoding fitted to some of the training rows."""
    torch.manual_seed(recipe.seed)
    # In their order, since what is fitted does not depend on it and a file is read faster so.
    drawn = np.sort(train.drawn(FIT_ROWS, np.random.default_rng(recipe.seed)))
    rows = taken(frames.features, drawn) if frames.absent is None else frames.as_seen(drawn)
    encoding = FeatureEncoding.fit(rows, frames.schema, statistics)
    actions = _actions(frames, recipe)
    config = recipe.config(frames.schema, ordered=frames.frame is not None, actions=len(actions))
    if frames.actions is None or not actions:
        return JEPA(config, encoding)
    return JEPA(config, encoding, ActionEncoding.fit(frames.actions[drawn]))


def _actions(frames: Frames, recipe: Recipe) -> tuple[str, ...]:
    """The names of the numbers of an input, where the predictor takes inputs; ValueError where they are too many."""
    if frames.frame is None or frames.actions is None or not recipe.max_actions:
        return ()
    count, numbers = len(frames.action_names), len(frames.action_names) * recipe.max_actions
    if count > MAX_ACTION_COLUMNS or numbers > MAX_ACTION_NUMBERS:
        raise ValueError(
            f"the data has {count:,} action columns, {numbers:,} numbers in {recipe.max_actions} frames; the predictor "
            f"takes {MAX_ACTION_COLUMNS:,} columns and {MAX_ACTION_NUMBERS:,} numbers: name fewer with --actions, or "
            "leave them out with --set max_actions=0"
        )
    return frames.action_names


def _measure_directions(jepa: JEPA, batches: Batches, rows: Ranges, horizons: tuple[int, ...]) -> None:
    some = rows.evenly(DIRECTION_ROWS)
    parts = np.split(some, range(CHUNK_ROWS, len(some), CHUNK_ROWS))
    now = [jepa.encoding(batches.as_seen(part)) for part in parts]
    for horizon in horizons:
        later = (jepa.encoding(batches.as_seen(batches.later(part, horizon))) for part in parts)
        jepa.column_heads.measure_directions(horizon, zip(now, later, strict=True))


def _sample(batches: Batches, train_rows: Ranges, val_rows: Ranges) -> NDArray[np.float32]:
    """[2n, C]: n training rows, then n held-out ones; NaN in groups that the data lacks in a row."""
    count = min(SAMPLE_ROWS, len(train_rows), len(val_rows))
    chosen = np.concatenate([train_rows.evenly(count), val_rows.evenly(count)])
    rows: NDArray[np.float32] = batches.as_seen(chosen).numpy(force=True)
    return rows
