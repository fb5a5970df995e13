"""`jepa embed`: embeds a data set, or forecasts from it, with the inference sessions of the service."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from app.errors import InvalidInput
from app.inference.forecasts import NOW, Forecasts, Reading, known_horizon
from app.inference.sessions import Graphs
from app.system.cores import available_cores
from bundle.folders import locate
from bundle.reader import Bundle, read_bundle
from cli.arguments import BundleArgument, DataArgument, ExcludeOption, FeaturesOption, MissingOption
from cli.embedding import Rows, parts, predicting
from cli.files import check_output, replacing
from cli.reading import read_for
from model.data.matrix import write_head


def embed(
    bundle: BundleArgument,
    data: DataArgument,
    out: Annotated[
        Path, typer.Option(help="The .npy file to write: float32 [rows, embed_dim], or [rows, outputs] of a forecast")
    ],
    encoder: Annotated[Literal["target", "context"], typer.Option(help="Encoder to run")] = "target",
    precision: Annotated[Literal["float32", "int8"], typer.Option(help="Number format of the graphs")] = "float32",
    forecast: Annotated[bool, typer.Option("--forecast", help="Write the values of heads, not embeddings")] = False,
    heads: Annotated[
        str | None, typer.Option(help="Of a forecast: names of heads, separated by commas (default: all)")
    ] = None,
    horizon: Annotated[int, typer.Option(help="Of a forecast: frames ahead, 0 is the frame itself")] = NOW,
    features: FeaturesOption = None,
    exclude: ExcludeOption = None,
    missing: MissingOption = None,
) -> None:
    """Embed every row of a data set, or forecast from it, in the order of the data."""
    if not forecast and (heads is not None or horizon != NOW):
        raise ValueError("--heads and --horizon go with --forecast")
    if forecast and encoder != "target":
        raise ValueError("--encoder goes with embeddings; leave it out of a forecast")
    if out.suffix != ".npy":
        raise ValueError(f"--out is {out}; embeddings are written as .npy")
    check_output(out)
    loaded = read_bundle(locate(bundle))
    reading = _reading(loaded, heads, horizon) if forecast else None
    frames = read_for(loaded, data, features=features, exclude=exclude, labels=(), missing=missing)
    graphs = Graphs(loaded, precision, available_cores())
    graph = graphs.target_encoder if encoder == "target" else graphs.context_encoder
    run: Callable[[Rows], Rows] = graph.run
    width = loaded.manifest.embed_dim
    if reading is not None:
        run, width = _forecaster(graphs, reading, horizon, len(loaded.manifest.patches)), len(reading.outputs)
    with replacing(out) as partial, partial.open("wb") as file:
        # Written as they come, so that no more than a few of them are in memory.
        write_head(file, (len(frames), width))
        for part in parts(run, frames.as_seen, len(frames)):
            file.write(np.ascontiguousarray(part, np.float32).data)
    named = "" if reading is None else f": {', '.join(reading.outputs)}"
    typer.echo(f"{out}: {len(frames)} rows of {width}{named}")


def _reading(bundle: Bundle, heads: str | None, horizon: int) -> Reading:
    """ValueError for what the bundle cannot forecast."""
    names = None if heads is None else [name.strip() for name in heads.split(",") if name.strip()]
    try:
        frames = known_horizon(bundle.manifest, horizon, can_be_now=True)
        return Forecasts(bundle.manifest, bundle.heads, bundle.novelty).reading(names, frames)
    except InvalidInput as error:
        raise ValueError(error.detail) from None


def _forecaster(graphs: Graphs, reading: Reading, horizon: int, patches: int) -> Callable[[Rows], Rows]:
    """Rows [n, input_dim] → values [n, outputs]."""
    if horizon == NOW:
        return lambda rows: reading(graphs.target_encoder.run(rows))
    predict = predicting(graphs, patches, horizon)
    return lambda rows: reading(predict(graphs.context_encoder.run(rows)))
