"""`jepa heads`: fits linear heads on a bundle's embedding, and leaves a new version of the bundle with them."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from threadpoolctl import threadpool_limits

from bundle.folders import DEFAULT_MODEL, locate
from bundle.heads import Heads
from bundle.manifest import HEADS
from bundle.novelty import NOVELTY_FILE, Novelty
from bundle.reader import Bundle, read_bundle
from bundle.writer import BundleWriter
from cli.arguments import (
    BundleArgument,
    DataArgument,
    EpisodeOption,
    ExcludeOption,
    FeaturesOption,
    FrameOption,
    MissingOption,
)
from cli.copies import copy_into
from cli.embedding import BundleEmbedder
from cli.files import check_file, check_folder
from cli.heads_table import head_entry, heads_table
from cli.idle_cores import idle_cores
from cli.reading import read_for
from model.data.frames import Frames
from model.data.splits import split_rows
from model.evaluation.events import Event, of_columns, of_file, of_line
from model.evaluation.heads import Fit, fit_heads
from model.evaluation.label_columns import Columns
from model.evaluation.targets import Target, target

MIN_ROWS = 100

console = Console(highlight=False, soft_wrap=True, markup=False)


def heads(
    bundle: BundleArgument,
    data: DataArgument,
    labels: Annotated[
        list[str] | None, typer.Option(help="Name pattern of columns to fit a head to each; may be repeated")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="'name = formula' over columns, such as 'high = abs(own_y) > 2'; may be repeated"),
    ] = None,
    events: Annotated[
        Path | None, typer.Option(help='TOML file of heads: name = "formula", or [name] with formula and classes')
    ] = None,
    rows: Annotated[int, typer.Option(min=MIN_ROWS, help="Maximum number of training rows")] = 60_000,
    held_out_rows: Annotated[int, typer.Option(min=MIN_ROWS, help="Maximum number of held-out rows")] = 40_000,
    features: FeaturesOption = None,
    exclude: ExcludeOption = None,
    episode: EpisodeOption = None,
    frame: FrameOption = None,
    missing: MissingOption = None,
    seed: Annotated[int, typer.Option(help="Random seed for the choice of rows")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of models for the new version (default: that of the bundle)")
    ] = None,
) -> None:
    """Fit linear heads: named questions about a frame, which the predictor answers for later frames too.

    Heads learn from present frames alone and keep those that the bundle has under other names.
    """
    loaded = read_bundle(folder := locate(bundle))
    if out is None and folder.parent == DEFAULT_MODEL:
        raise ValueError("the bundled model is part of the program; name a folder for the new version with --out")
    models = folder.parent.parent if out is None else out
    check_folder(models)
    frames = read_for(
        loaded, data, features=features, exclude=exclude, labels=(), episode=episode, frame=frame, missing=missing
    )
    if frames.frame is None and any(loaded.manifest.horizons):
        raise ValueError("the model looks ahead, but the data has no column that counts frames; name it with --frame")
    asked = _events(frames, labels or [], label or [], events)
    learned, judged = split_rows(frames)
    targets = _targets(asked, frames, data, labels or [], np.asarray(learned))
    rng = np.random.default_rng(seed)
    train, held_out = np.sort(learned.drawn(rows, rng)), np.sort(judged.drawn(held_out_rows, rng))
    console.print(
        f"model {loaded.manifest.name} version {loaded.manifest.version}; {len(targets)} heads learn on {len(train):,} "
        f"rows, and are chosen and calibrated on {len(held_out):,} of {len(np.unique(frames.episode[held_out]))} other "
        f"games; seed {seed}"
    )
    embedder = BundleEmbedder(loaded)
    with threadpool_limits(idle_cores()):
        fit = fit_heads(targets, frames, train, held_out, embedder, lambda what: console.print(f"fitting {what}"))
    for line in heads_table(fit):
        console.print(line)
    novelty = loaded.novelty
    if novelty is None or novelty.columns is None:
        novelty = _novelty(frames, train, held_out, embedder)
    console.print(f"{_write(loaded, models, targets, fit, novelty)}: {', '.join(t.head.name for t in targets)}")


def _events(frames: Frames, labels: list[str], lines: list[str], file: Path | None) -> list[Event]:
    found = [*of_columns(frames, labels), *map(of_line, lines)]
    if file is not None:
        check_file(file)
        found += of_file(file)
    if not found:
        raise ValueError("no head is asked for; name columns with --labels, or say --label 'name = formula'")
    names = [event.name for event in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)}: asked for more than once; each head needs a name of its own")
    return found


def _targets(
    events: list[Event], frames: Frames, data: list[str], labels: list[str], train: np.ndarray[Any, Any]
) -> list[Target]:
    columns = Columns(frames, data, [event.formula for event in events], labels)
    targets = []
    for event in events:
        found = target(event, columns, train)
        targets.append(found)
        if unlabelled := int((~np.isfinite(found.values)).sum()):
            note = f"; {found.note}" if found.note else ""
            console.print(f"note: {event.name}: {unlabelled:,} of {len(frames):,} rows have no label{note}")
    return targets


def _novelty(
    frames: Frames, train: np.ndarray[Any, Any], held_out: np.ndarray[Any, Any], embedder: BundleEmbedder
) -> Novelty:
    learned, judged = frames.take(train).as_seen(), frames.take(held_out).as_seen()
    return Novelty.fit(embedder.now(learned), embedder.now(judged), (learned, judged))


def _write(loaded: Bundle, models: Path, targets: list[Target], fit: Fit, novelty: Novelty) -> Path:
    """The folder of a new version that has what the bundle has, and these heads beside those of other names."""
    new = {target.head.name for target in targets}
    entries = [head_entry(t, table, p) for t, table, p in zip(targets, fit.tables, fit.penalties, strict=True)]
    whole = fit.heads
    with BundleWriter(models, loaded.manifest.name) as bundle:
        kept = [entry for entry in copy_into(bundle, loaded).get("heads", []) if entry["name"] not in new]
        if loaded.heads is not None and kept:
            whole = _joined(loaded.heads.select([entry["name"] for entry in kept]), whole)
        bundle.describe(heads=[*kept, *entries])
        whole.write(bundle.path / HEADS)
        novelty.write(bundle.path / NOVELTY_FILE)
    return bundle.folder


def _joined(first: Heads, second: Heads) -> Heads:
    return Heads(
        (*first.heads, *second.heads),
        np.concatenate([first.weights, second.weights], axis=1),
        np.concatenate([first.biases, second.biases]),
        np.concatenate([first.calibration, second.calibration], axis=1),
    )
