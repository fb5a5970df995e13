"""`jepa embed`: embeds a data set with the inference sessions of the service."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import track

from app.inference.sessions import Graphs
from app.settings import DEFAULT_MODEL
from app.system.cores import available_cores
from bundle.columns import RowSource
from bundle.folders import locate
from bundle.reader import Bundle, read_bundle
from cli.arguments import BundleArgument, DataArgument, ExcludeOption, FeaturesOption, MissingOption
from cli.files import check_output, replacing
from model.data.checks import unlike_training
from model.data.frames import read_frames

# Rows in one run of a graph.
ROWS_A_RUN = 256


def embed(
    bundle: BundleArgument,
    data: DataArgument,
    out: Annotated[Path, typer.Option(help="The .npy file to write: float32 [rows, embed_dim]")],
    encoder: Annotated[Literal["target", "context"], typer.Option(help="Encoder to run")] = "target",
    precision: Annotated[Literal["float32", "int8"], typer.Option(help="Number format of the graphs")] = "float32",
    features: FeaturesOption = None,
    exclude: ExcludeOption = None,
    missing: MissingOption = None,
) -> None:
    """Embed every row of a data set, in the order of the data."""
    if out.suffix != ".npy":
        raise ValueError(f"--out is {out}; embeddings are written as .npy")
    check_output(out)
    loaded = read_bundle(locate(bundle, DEFAULT_MODEL))
    frames = read_frames(
        data,
        features=features,
        exclude=exclude,
        labels=(),
        missing=missing,
        like=loaded.manifest.feature_schema,
    )
    for note in frames.notes:
        typer.echo(f"note: {note}", err=True)
    for warning in check_columns(loaded, frames.features):
        typer.echo(f"warning: {warning}", err=True)
    shape = (len(frames), loaded.manifest.embed_dim)
    with replacing(out) as partial:
        # Written as they come, so that no more than a few of them are in memory.
        embeddings = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
        embed_into(embeddings, loaded, frames.as_seen, encoder, precision)
        embeddings.flush()
    typer.echo(f"{out}: {shape[0]} rows of {shape[1]}")


def check_columns(bundle: Bundle, rows: RowSource) -> list[str]:
    """Warnings about how rows, in the order of the bundle's columns, differ from the training rows."""
    manifest = bundle.manifest
    return unlike_training(rows, manifest.feature_schema.names, manifest.statistics)


def embed_rows(
    bundle: Bundle, rows: NDArray[np.float32], encoder: str, precision: str = "float32"
) -> NDArray[np.float32]:
    """Embeds rows [n, input_dim] → [n, embed_dim], with a progress bar on a terminal."""
    embeddings = np.empty((len(rows), bundle.manifest.embed_dim), np.float32)
    embed_into(embeddings, bundle, rows.__getitem__, encoder, precision)
    return embeddings


def embed_into(
    embeddings: NDArray[np.float32],
    bundle: Bundle,
    rows: Callable[[slice], NDArray[np.float32]],
    encoder: str,
    precision: str,
) -> None:
    """Fills `embeddings` [n, embed_dim] with those of the rows, which are asked for some at a time."""
    graphs = Graphs(bundle, precision, available_cores())
    graph = graphs.target_encoder if encoder == "target" else graphs.context_encoder
    starts = range(0, len(embeddings), ROWS_A_RUN)
    for start in track(starts, description="embedding", transient=True, disable=not sys.stdout.isatty()):
        part = slice(start, start + ROWS_A_RUN)
        embeddings[part] = graph.run(rows(part))
