"""`jepa eval`: probes a bundle's embeddings, raw features, PCA and an untrained encoder, and prints a table."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits

from bundle.folders import locate
from bundle.reader import Bundle, read_bundle
from cli import plots
from cli.arguments import (
    BundleArgument,
    DataArgument,
    EpisodeOption,
    ExcludeOption,
    FeaturesOption,
    FrameOption,
    LabelsOption,
    MissingOption,
)
from cli.embedding import BundleEmbedder
from cli.eval_forecasts import as_document, forecast_lines, forecasts
from cli.eval_table import few_labels_document, few_labels_table, health_line, table
from cli.files import check_output, replacing
from cli.idle_cores import idle_cores
from cli.progress import duration
from cli.reading import read_labelled, require_labels, warn
from model.data.checks import leaked_labels
from model.data.frames import Frames
from model.data.roles import LABEL_NAMES
from model.data.splits import rows_of_split, split_names, split_rows
from model.evaluation import few_labels as few
from model.evaluation import probes
from model.evaluation.plan import Job, Scores, View, expected_seconds, planned
from model.evaluation.probes import Label
from model.training.recipe import Recipe

# Training rows and test rows that a probe needs.
MIN_ROWS = 20
# If the trees are expected to take longer than this, the user is told how to leave them out.
LONG_S = 60

console = Console(highlight=False, soft_wrap=True, markup=False)


def eval(
    bundle: BundleArgument,
    data: DataArgument,
    labels: LabelsOption = None,
    min_entropy: Annotated[float, typer.Option(help="Leave out labels with less entropy than this, in nats")] = 0.0,
    split: Annotated[str, typer.Option(help="Split to test on: val during development, test at the end")] = "val",
    rows: Annotated[int, typer.Option(min=MIN_ROWS, help="Maximum number of training rows")] = 60_000,
    test_rows: Annotated[int, typer.Option(min=MIN_ROWS, help="Maximum number of test rows")] = 40_000,
    features: FeaturesOption = None,
    exclude: ExcludeOption = None,
    episode: EpisodeOption = None,
    frame: FrameOption = None,
    missing: MissingOption = None,
    trees: Annotated[bool, typer.Option(help="Also fit gradient-boosted trees to the raw features")] = True,
    neighbours: Annotated[bool, typer.Option(help="Also classify by nearest neighbours")] = True,
    few_labels: Annotated[bool, typer.Option(help="Also learn from the labels of 1 to 16 games alone")] = True,
    heads: Annotated[bool, typer.Option(help="Also compare the forecasts of the bundle's heads with rivals")] = True,
    seed: Annotated[int, typer.Option(help="Random seed for the choice of rows and the untrained encoder")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the scores to")] = None,
    plot: Annotated[Path | None, typer.Option(help="The .png file to plot the AUC of each label to")] = None,
) -> None:
    """Compare embeddings with raw features, PCA and an untrained encoder by fitting the same probes to each."""
    if plot is not None and plot.suffix != ".png":
        raise ValueError(f"--plot is {plot}; the picture is written as .png")
    check_output(out, plot)
    loaded = read_bundle(locate(bundle))
    frames = read_labelled(
        loaded, data, labels, features=features, exclude=exclude, episode=episode, frame=frame, missing=missing
    )
    if not frames.labels:
        require_labels(frames, LABEL_NAMES)
    for warning in leaked_labels(frames):
        warn(warning)
    train_rows, held_out_rows = _draw(frames, split, rows, test_rows, seed)
    train, test = frames.take(train_rows), frames.take(held_out_rows)
    _print_setup(loaded, frames, train, test, split, seed)
    usable, skipped = _usable_labels(train, test, min_entropy)
    with threadpool_limits(idle_cores()):
        views = _views(loaded, train, test, seed)
        scores = _scores(planned(views, trees=trees, neighbours=neighbours), usable, test)
        scarce = _few_labels(views, usable, train, trees, seed) if few_labels else {}
        forecast = (
            forecasts(loaded, frames, data, train_rows, held_out_rows, console.print, trees=trees) if heads else {}
        )
    health = {name: probes.health(view[1]) for name, view in views.items() if name != "raw"}
    for line in table(scores, usable):
        console.print(line)
    console.print()
    for name, found in health.items():
        console.print(health_line(name, found))
    for line in few_labels_table(scarce):
        console.print(line)
    for line in forecast_lines(forecast) if forecast else ():
        console.print(line)
    if out is not None:
        document = {
            "model": loaded.manifest.name,
            "version": loaded.manifest.version,
            "split": split,
            "rows": len(train),
            "test_rows": len(test),
            "seed": seed,
            "scores": {name: {label: asdict(found) for label, found in row.items()} for name, row in scores.items()},
            "few_labels": few_labels_document(scarce),
            "forecasts": as_document(forecast),
            "health": {name: asdict(found) for name, found in health.items()},
            "capped": {name: label.left_out for name, label in usable.items() if label.left_out},
            "left_out": skipped,
        }
        # A score that could not be computed is NaN, which JSON does not have.
        with replacing(out) as partial:
            partial.write_text(json.dumps(_without_nan(document), indent=1, allow_nan=False) + "\n")
    if plot is not None:
        aucs = {name: {key: (one.auc, one.auc_spread) for key, one in row.items()} for name, row in scores.items()}
        plots.save(plots.probe_figure(aucs), plot)


def _draw(
    frames: Frames, split: str, rows: int, test_rows: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws training and test rows at random; ValueError if the data has no such split or too few rows."""
    if split == "val":
        fit, held_out = split_rows(frames, seed=seed)
    else:
        known = [*split_names(frames)]
        if not known:
            raise ValueError(
                f"split is '{split}', but the data has no split column, so that games held out of it are all that is "
                "tested: leave --split out, or add a column 'split' with train, val and test"
            )
        if split == "train" or split not in known or "train" not in known:
            raise ValueError(f"split is '{split}'; the probe learns on 'train' and is tested on another of {known}")
        fit, held_out = rows_of_split(frames, "train"), rows_of_split(frames, split)
    if min(len(fit), len(held_out)) < MIN_ROWS:
        raise ValueError(f"{len(fit)} training and {len(held_out)} test rows; a probe needs {MIN_ROWS} of each")
    rng = np.random.default_rng(seed)
    return fit.drawn(rows, rng), held_out.drawn(test_rows, rng)


def _print_setup(bundle: Bundle, frames: Frames, train: Frames, test: Frames, split: str, seed: int) -> None:
    games = len(np.unique(test.episode))
    source = "rows" if frames.independent else f"{games} game{'s' * (games > 1)}"
    if split in split_names(frames):
        source += f" of split {split}"
    elif frames.independent:
        source += " held out at random: no 'episode' and no 'frame' column says which of them belong together"
    else:
        source += " held out"
    console.print(
        f"model {bundle.manifest.name} version {bundle.manifest.version}; probes learn on {len(train):,} rows and are "
        f"tested on {len(test):,}{'' if frames.independent else ' of'} {source}; seed {seed}"
    )


def _usable_labels(train: Frames, test: Frames, min_entropy: float) -> tuple[dict[str, Label], dict[str, list[str]]]:
    """Returns the labels to probe, and the others by the reason why they are left out; ValueError if none is left."""
    usable: dict[str, Label] = {}
    skipped: dict[str, list[str]] = {}
    for name, classes in train.labels.items():
        try:
            usable[name] = probes.usable_label(classes, test.labels[name], min_entropy)
        except ValueError as error:
            skipped.setdefault(str(error), []).append(name)
    for reason, names in skipped.items():
        console.print(f"left out, {reason}: {', '.join(names)}")
    if not usable:
        raise ValueError("no label is left to probe")
    return usable, skipped


def _views(bundle: Bundle, train: Frames, test: Frames, seed: int) -> dict[str, View]:
    """The representations to compare, by name, each as training and test rows."""
    width = bundle.manifest.embed_dim
    embedder, seen = BundleEmbedder(bundle), (train.as_seen(), test.as_seen())
    embeddings = {
        "context": (embedder.context(seen[0]), embedder.context(seen[1])),
        "target": (embedder.now(seen[0]), embedder.now(seen[1])),
    }
    if bundle.has("int8"):
        # The harder test of int8: the probe is fitted to float32 embeddings and predicts from int8 ones.
        int8 = BundleEmbedder(bundle, "int8").now(seen[1])
        embeddings["target, asked in int8"] = (embeddings["target"][0], int8)
    views = {
        "raw": (train.features[:], test.features[:]),
        f"PCA-{width}": probes.principal_components(train.features[:], test.features[:], width),
    }
    try:
        recipe = Recipe.from_dict(bundle.manifest.training["recipe"] | {"seed": seed})
    except (KeyError, TypeError):
        console.print("left out, its bundle has no recipe that this program knows: the untrained encoder")
    else:
        untrained = probes.untrained_encoder(train, recipe)
        views["untrained"] = (untrained(train.features[:]), untrained(test.features[:]))
    return views | embeddings


def _scores(jobs: list[Job], labels: dict[str, Label], test: Frames) -> Scores:
    total, trees = expected_seconds(jobs, labels)
    console.print(
        f"{len(jobs) * len(labels)} fits, about {duration(total)}"
        + (f", {duration(trees)} of it for the trees; --no-trees leaves them out" if trees > LONG_S else "")
    )
    scores: Scores = {job.name: {} for job in jobs}
    todo = [(job, name) for job in jobs for name in labels]
    bar = track(todo, description="probing", console=console, transient=True, disable=not console.is_terminal)
    for at, (job, name) in enumerate(bar):
        if at % len(labels) == 0 and not console.is_terminal:
            console.print(f"probing {job.name}")
        scores[job.name][name] = probes.score(job.classifier, *job.view, labels[name], test.episode)
    return scores


def _few_labels(
    views: dict[str, View], labels: dict[str, Label], train: Frames, trees: bool, seed: int
) -> few.FewLabels:
    if train.independent:
        return {}
    chosen = {name: view for name, view in views.items() if "int8" not in name}
    jobs = planned(chosen, trees=trees, neighbours=False)
    console.print(f"few labels: {', '.join(job.name for job in jobs)} on 1 to 16 games, and on all")
    return few.few_labels(jobs, labels, train.episode, seed)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
