"""`jepa eval`: the probe table of a bundle, beside raw features, PCA, an untrained encoder and boosted trees."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.bundle import Bundle, BundleError, locate, read_bundle
from app.settings import DEFAULT_MODEL
from cli.embed import embed_rows
from model import evaluation
from model.data import Frames, read_frames
from model.evaluation import Score
from model.recipe import Recipe
from model.splits import split_rows

console = Console(highlight=False)
Views = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]  # name → (train, test) rows


def eval(
    bundle: Annotated[str, typer.Argument(help="A version's folder, a model's folder, or 'default'")],
    data: Annotated[str, typer.Argument(help="Parquet file, folder or glob of them, or .npy/.npz")],
    labels: Annotated[list[str] | None, typer.Option(help="Patterns of integer label columns")] = None,
    split: Annotated[str, typer.Option(help="The split to test on: val while you work, test at the end")] = "val",
    rows: Annotated[int, typer.Option(help="Training rows of the probe")] = 60_000,
    test_rows: Annotated[int, typer.Option(help="Test rows of the probe")] = 40_000,
    features: Annotated[str | None, typer.Option(help="Pattern of the feature columns, such as 'ram_*'")] = None,
    trees: Annotated[bool, typer.Option(help="Also fit gradient-boosted trees on the raw features")] = True,
    neighbours: Annotated[bool, typer.Option(help="Also ask the nearest neighbours")] = True,
    seed: Annotated[int, typer.Option(help="Draws the rows and the untrained encoder")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the table as JSON")] = None,
) -> None:
    """Compare the embedding with raw features, PCA and an untrained encoder by the same linear probe."""
    try:
        loaded = read_bundle(locate(bundle, DEFAULT_MODEL))
        frames = read_frames(data, features=features, labels=labels or ["y_*"])
        if not frames.labels:
            raise ValueError(f"no column matches {labels or ['y_*']}; name integer columns with --labels")
        train, test = _draw(frames, split, rows, test_rows, seed)
        views = _views(loaded, train, test, seed)
    except (BundleError, ValueError, FileNotFoundError) as error:
        console.print(f"error: {error}", style="red")
        raise typer.Exit(1) from None
    console.print(
        f"model {loaded.manifest.name} version {loaded.manifest.version}; linear probe on {len(train):,} rows, "
        f"tested on {len(test):,} rows of split {split} ({len(np.unique(test.episode))} games), seed {seed}"
    )
    scores = _scores(views, train, test, trees=trees, neighbours=neighbours)
    health = {name: evaluation.health(view[1]) for name, view in views.items() if name != "raw"}
    for metric in ("auc", "accuracy", "balanced_accuracy"):
        console.print(_table(metric, scores))
    for name, found in health.items():
        console.print(
            f"{name}: RankMe {found.rankme:.1f}, 95 % of the variance in {found.effective_rank} dims, "
            f"mean std {found.std:.3f}"
        )
    if out is not None:
        document: dict[str, Any] = {
            "model": loaded.manifest.name,
            "version": loaded.manifest.version,
            "split": split,
            "rows": len(train),
            "test_rows": len(test),
            "seed": seed,
            "scores": {name: {label: asdict(found) for label, found in row.items()} for name, row in scores.items()},
            "health": {name: asdict(found) for name, found in health.items()},
        }
        # A label that one game never shows has no AUC there; JSON has no NaN.
        out.write_text(json.dumps(_without_nan(document), indent=1, allow_nan=False) + "\n")


def _draw(frames: Frames, split: str, rows: int, test_rows: int, seed: int) -> tuple[Frames, Frames]:
    fit, held_out = split_rows(frames, seed=seed)
    if frames.split is not None and split != "val":
        held_out = np.flatnonzero(frames.split == split)
        if not len(held_out):
            raise ValueError(f"split is '{split}'; the data has {sorted(set(frames.split.tolist()))}")
    rng = np.random.default_rng(seed)
    return frames.take(rng.permutation(fit)[:rows]), frames.take(rng.permutation(held_out)[:test_rows])


def _views(bundle: Bundle, train: Frames, test: Frames, seed: int) -> Views:
    width = bundle.manifest.embed_dim
    # An imported model has no recipe; the default one's untrained encoder is beside it then.
    recipe = Recipe.from_dict(bundle.manifest.training.get("recipe", {}) | {"seed": seed})
    untrained = evaluation.untrained_encoder(train, recipe)
    return {
        "raw": (train.features, test.features),
        f"PCA-{width}": evaluation.principal_components(train.features, test.features, width),
        "untrained": (untrained(train.features), untrained(test.features)),
        "context": (embed_rows(bundle, train.features, "context"), embed_rows(bundle, test.features, "context")),
        "target": (embed_rows(bundle, train.features, "target"), embed_rows(bundle, test.features, "target")),
    }


def _scores(views: Views, train: Frames, test: Frames, *, trees: bool, neighbours: bool) -> dict[str, dict[str, Score]]:
    jobs = [(name, evaluation.linear_probe, view) for name, view in views.items()]
    if neighbours:
        jobs += [(f"{name}, kNN", evaluation.nearest_neighbours, views[name]) for name in ("raw", "target")]
    if trees:
        jobs.append(("raw, boosted trees", evaluation.boosted_trees, views["raw"]))
    scores: dict[str, dict[str, Score]] = {name: {} for name, _, _ in jobs}
    todo = [(job, label) for job in jobs for label in train.labels]
    for (name, classifier, (fit, asked)), label in track(todo, description="probing", console=console, transient=True):
        scores[name][label] = evaluation.score(
            classifier, fit, train.labels[label], asked, test.labels[label], test.episode
        )
    return scores


def _table(metric: str, scores: dict[str, dict[str, Score]]) -> Table:
    title = "ROC AUC (± over games)" if metric == "auc" else metric.replace("_", " ")
    table = Table(title=title, box=None)
    table.add_column("representation")
    for label in next(iter(scores.values())):
        table.add_column(label, justify="right")
    for name, row in scores.items():
        spread = (f" ±{found.auc_spread:.3f}" if metric == "auc" else "" for found in row.values())
        table.add_row(name, *(f"{getattr(f, metric):.3f}{s}" for f, s in zip(row.values(), spread, strict=True)))
    return table


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value
