"""`jepa embed`: embeds a data set with the inference sessions of the service."""

import sys
from collections.abc import Callable, Iterator
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
    with replacing(out) as partial, partial.open("wb") as file:
        # Written as they come, so that no more than a few of them are in memory.
        head = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, head)
        for embeddings in _embedded(loaded, len(frames), frames.as_seen, encoder, precision):
            file.write(np.ascontiguousarray(embeddings, np.float32).data)
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
    for i, part in enumerate(_embedded(bundle, len(rows), rows.__getitem__, encoder, precision)):
        embeddings[i * ROWS_A_RUN : (i + 1) * ROWS_A_RUN] = part
    return embeddings


def _embedded(
    bundle: Bundle, count: int, rows: Callable[[slice], NDArray[np.float32]], encoder: str, precision: str
) -> Iterator[NDArray[np.float32]]:
    """The embeddings of `count` rows, of which `rows` gives some, ROWS_A_RUN at a time."""
    graphs = Graphs(bundle, precision, available_cores())
    graph = graphs.target_encoder if encoder == "target" else graphs.context_encoder
    starts = range(0, count, ROWS_A_RUN)
    for start in track(starts, description="embedding", transient=True, disable=not sys.stdout.isatty()):
        yield graph.run(rows(slice(start, start + ROWS_A_RUN)))
