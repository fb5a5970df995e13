"""`jepa sample`: leaves frames to look at, and a map of the embeddings, in a new version of a bundle."""

from typing import Annotated

import typer

from bundle.folders import locate
from bundle.reader import read_bundle
from bundle.sample import FRAMES_A_SECOND, SAMPLE, SAMPLE_ROWS, principal_components, sample_bytes
from bundle.writer import BundleWriter
from cli.arguments import BundleArgument, DataArgument, MissingOption, ModelsOption
from cli.copies import copy_into
from cli.embedding import BundleEmbedder
from cli.reading import read_for
from model.data.files import name_of

# Rows that the map is computed from, evenly spread over the data.
MAP_ROWS = 20_000


def sample(
    bundle: BundleArgument,
    data: DataArgument,
    out: ModelsOption,
    first: Annotated[int, typer.Option(min=0, help="Row of DATA that the sample begins with")] = 0,
    rows: Annotated[
        int | None,
        typer.Option(min=1, help=f"Rows of the sample, all of one episode (default: {SAMPLE_ROWS}, or to its end)"),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Frames a second")] = FRAMES_A_SECOND,
    source: Annotated[str, typer.Option(help="Where the frames come from, in words (default: the file's name)")] = "",
    map_data: Annotated[
        str | None, typer.Option("--map", metavar="DATA", help="What the map is drawn from (default: DATA)")
    ] = None,
    missing: MissingOption = None,
) -> None:
    """Add frames to look at and a map of the embeddings to a bundle, as its next version.

    Everybody who can ask the service for the model can then see these frames.
    """
    loaded = read_bundle(locate(bundle))
    frames = read_for(loaded, data, labels=(), missing=missing)
    if rows is None:
        following = frames.episode[first : first + SAMPLE_ROWS]
        rows = len(following) if frames.independent else int((following == following[:1]).cumprod().sum())
    shown = slice(first, first + rows)
    episodes = 1 if frames.independent else len(set(frames.episode[shown].tolist()))
    if episodes != 1 or first >= len(frames.episode):
        raise ValueError(
            f"rows {first} to {first + rows} of {name_of(data)}, which has {len(frames.episode)}, are not of one "
            "episode; choose --first and --rows within one"
        )
    drawn = frames if map_data is None else read_for(loaded, [map_data], labels=(), missing=missing)
    spread = drawn.as_seen(slice(None, None, max(1, len(drawn) // MAP_ROWS)))
    # The page asks about whole frames, so where a group is hidden its means stand.
    features = frames.features[shown]
    drawn_from = f"{len(spread):,} rows of {name_of(map_data or data)}"
    with BundleWriter(out, loaded.manifest.name) as writer:
        copy_into(writer, loaded)
        (writer.path / SAMPLE).write_bytes(sample_bytes(features))
        writer.describe(
            sample={"rows": len(features), "rate": rate, "source": source or name_of(data)},
            map=principal_components(BundleEmbedder(loaded).now(spread), drawn_from),
        )
    typer.echo(f"{writer.folder}: {len(features)} rows to look at, and a map of the embeddings of {len(spread)} rows")
