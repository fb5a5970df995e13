"""`jepa embed`: embeds a data set with the inference sessions of the service."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from numpy.typing import NDArray

from app.inference.sessions import Graphs
from app.settings import DEFAULT_MODEL
from app.system.cores import available_cores
from bundle.folders import locate
from bundle.reader import Bundle, read_bundle
from cli.arguments import BundleArgument, DataArgument, ExcludeOption, FeaturesOption, MissingOption
from cli.embedding import in_runs
from cli.files import check_output, replacing
from model.data.checks import unlike_training
from model.data.frames import read_frames


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
    embeddings = embed_rows(loaded, frames.as_seen(), encoder, precision)
    with replacing(out) as partial:
        np.save(partial, embeddings)
    typer.echo(f"{out}: {len(embeddings)} rows of {embeddings.shape[1]}")


def check_columns(bundle: Bundle, rows: NDArray[np.float32]) -> list[str]:
    """Warnings about how rows, in the order of the bundle's columns, differ from the training rows."""
    manifest = bundle.manifest
    return unlike_training(rows, manifest.feature_schema.names, manifest.statistics)


def embed_rows(
    bundle: Bundle, rows: NDArray[np.float32], encoder: str, precision: str = "float32"
) -> NDArray[np.float32]:
    """Embeds rows [n, input_dim] → [n, embed_dim], with a progress bar on a terminal."""
    graphs = Graphs(bundle, precision, available_cores())
    graph = graphs.target_encoder if encoder == "target" else graphs.context_encoder
    return in_runs(graph.run, rows, bundle.manifest.embed_dim)
