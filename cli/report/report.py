"""`jepa report`: plots a bundle's training and one of its games, and writes an HTML page that shows the plots."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bundle.folders import locate
from bundle.reader import Bundle, read_bundle
from cli.arguments import (
    DATA_HELP,
    BundleArgument,
    ExcludeOption,
    FeaturesOption,
    FrameOption,
    LabelsOption,
    MissingOption,
)
from cli.embedding import BundleEmbedder
from cli.files import output_folder, replacing
from cli.reading import read_labelled
from cli.report import comparison, sections
from cli.report.folders import folder_of
from cli.report.page import Section, render
from model.data.descriptions import class_names
from model.data.frames import Frames

# Rows of the spectrum, and of data without games.
MAX_SAMPLE_ROWS = 4096


def report(
    bundle: BundleArgument,
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DATA|RUN]", help=f"Games: {DATA_HELP}; or another bundle or run to compare with"),
    ] = None,
    episode: Annotated[
        str | None,
        typer.Option(help="Episode to plot, as the data names it (default: the first of split val, or of all)"),
    ] = None,
    labels: LabelsOption = None,
    features: FeaturesOption = None,
    exclude: ExcludeOption = None,
    frame: FrameOption = None,
    missing: MissingOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write (default: report-VERSION beside the bundle)")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed for the choice of rows")] = 0,
) -> None:
    """Plot a bundle's training and one game, or the training of two, and write an HTML page that shows the plots."""
    others = [other for each in data or () if (other := comparison.find(each)) is not None]
    if others and len(data or ()) > 1:
        raise ValueError(f"{others[0].title} is no data; name one bundle or run to compare with, or files of games")
    if others:
        comparison.report(comparison.of(bundle), others[0], out)
        return
    loaded = read_bundle(locate(bundle))
    manifest = loaded.manifest
    with output_folder(_output_folder(loaded, out)) as folder:
        of_data: list[Section] = []
        # Before anything is drawn, as this is what may be wrong.
        if data:
            frames = read_labelled(
                loaded, data, labels, features=features, exclude=exclude, frame=frame, missing=missing
            )
            of_data = _data_sections(loaded, frames, class_names(data), episode, seed, folder)
        of_model = [
            sections.facts(manifest),
            sections.training(manifest, folder),
            sections.usual_loss(manifest, folder),
        ]
        parts = of_model + of_data
        page = folder / "index.html"
        with replacing(page) as partial:
            partial.write_text(render(f"{manifest.name} version {manifest.version}", parts), encoding="utf-8")
    typer.echo(f"{page} is ready: {'; '.join(section.title for section in parts)}")


def _output_folder(bundle: Bundle, out: Path | None) -> Path:
    """Where the report goes, never inside the version's folder, whose files are listed and checked."""
    out = folder_of(out, bundle.folder.absolute().parent, f"report-{bundle.manifest.version}")
    if out.absolute().is_relative_to(bundle.folder.absolute()):
        raise ValueError(f"{out} is in the bundle, whose files are checked; give the report a folder of its own")
    return out


def _data_sections(
    bundle: Bundle, frames: Frames, names: sections.Names, episode: str | None, seed: int, folder: Path
) -> list[Section]:
    """The sections about the data; ValueError if it has fewer than two rows or not the episode."""
    if len(frames) < 2:
        raise ValueError(f"the data has {len(frames)} row; how far embeddings differ takes at least two to tell")
    game, called = _game(frames, episode, seed)
    sample = frames.take(np.random.default_rng(seed).permutation(len(frames))[:MAX_SAMPLE_ROWS])
    typer.echo(f"embedding {len(sample):,} rows of all, and {called}: {len(game):,} rows")
    embedder = BundleEmbedder(bundle)
    encoders = {"context": embedder.context, "target": embedder.now}
    spectrum = {name: encode(sample.as_seen()) for name, encode in encoders.items()}
    context, target = (encode(game.as_seen()) for encode in encoders.values())
    return [
        sections.spectrum(spectrum, folder),
        sections.embedding_map(target, game, names, called, folder),
        sections.surprises(bundle, embedder, context, target, game, names, called, folder),
        sections.drift(bundle.manifest, frames),
    ]


def _game(frames: Frames, episode: str | None, seed: int) -> tuple[Frames, str]:
    """Returns the rows of one game in order, with the labels that vary in it, and a name for it.

    Data without games gives a random sample of rows instead.
    """
    if frames.independent:
        if episode is not None:
            raise ValueError("--episode names a game, but the data has no 'episode' column")
        return frames.take(np.random.default_rng(seed).permutation(len(frames))[:MAX_SAMPLE_ROWS]), "rows of no game"
    if episode is None:
        held_out = frames.episode if frames.split is None else frames.episode[frames.split == "val"]
        number = int((held_out if len(held_out) else frames.episode)[0])
    else:
        known = {frames.called(each): each for each in np.unique(frames.episode).tolist()}
        if episode not in known:
            raise ValueError(f"the data has no episode {episode}; it has {len(known)}, such as {next(iter(known))}")
        number = known[episode]
    rows = np.flatnonzero(frames.episode == number)
    if frames.frame is not None:
        rows = rows[np.argsort(frames.frame[rows], kind="stable")]
    game = frames.take(rows)
    varying = {name: classes for name, classes in game.labels.items() if len(np.unique(classes[classes >= 0])) > 1}
    of_split = "" if game.split is None else f" of split {game.split[0]}"
    return replace(game, labels=varying), f"game {frames.called(number)}{of_split}"
