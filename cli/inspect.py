"""`jepa inspect`: shows what a bundle contains and checks it, or which column of a recording is what."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.inference.sessions import Graphs
from app.repository import selfcheck
from bundle.folders import MANIFEST, BundleError, locate
from bundle.install import how_to_install
from bundle.manifest import HeadEntry, Manifest, read_manifest
from bundle.reader import Bundle, file_problems
from cli.arguments import (
    ActionsOption,
    EpisodeOption,
    ExcludeOption,
    FeaturesOption,
    FrameOption,
    LabelsOption,
    MissingOption,
)
from model.data.files import kind_of


def inspect(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE|DATA...",
            help="A bundle: version folder, model folder or 'default'; or data: files, folders or globs of them",
        ),
    ],
    features: FeaturesOption = None,
    exclude: ExcludeOption = None,
    labels: LabelsOption = None,
    actions: ActionsOption = None,
    episode: EpisodeOption = None,
    frame: FrameOption = None,
    missing: MissingOption = None,
) -> None:
    """Show what a bundle contains and check it, or what `jepa train` would make of the columns of a recording.

    The exit status is 1 if something is wrong.
    """
    bundles = [each for each in source if not _is_data(each)]
    if bundles and len(source) > 1:
        raise ValueError(f"{bundles[0]} is no recording; name one bundle, or recordings that are read together")
    if not bundles:
        _inspect_data(
            source,
            features=features,
            exclude=exclude,
            labels=labels,
            actions=actions,
            episode=episode,
            frame=frame,
            missing=missing,
        )
        return
    try:
        folder = locate(source[0])
        manifest = read_manifest(folder)
        for line in _summary(manifest):
            typer.echo(line)
        problems = [*file_problems(folder, manifest)]
        if not problems:
            typer.echo(f"{len(manifest.files)} files have the sizes and SHA-256 of {MANIFEST}")
            read = Bundle(folder, manifest)
            problems = [*_golden_problems(read), *_head_problems(read)]
    except BundleError as error:
        problems = [str(error)]
    for problem in problems:
        typer.echo(f"wrong: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _is_data(source: str) -> bool:
    """Whether the user means a recording: a file, a pattern, or a folder that holds neither a bundle nor versions."""
    path = Path(source)
    if path.is_dir():
        files = [*path.rglob("*")]
        has_bundle = any(each.name == MANIFEST or each.suffix == ".onnx" for each in files)
        return not has_bundle and any(map(kind_of, files))
    is_of_bundle = path.name == MANIFEST or path.suffix == ".onnx"
    return (path.exists() and not is_of_bundle) or kind_of(path) is not None or any(sign in source for sign in "*?[")


def _inspect_data(source: list[str], **choices: Any) -> None:
    try:
        # Whoever only serves has neither PyTorch nor pyarrow.
        from cli.roles_table import remarks, roles_table, summary
        from model.data.checks import repeated_frames
        from model.data.frames import read_frames
    except ModuleNotFoundError as error:
        raise ValueError(f"to look into data takes {error.name}; {how_to_install('train')}") from None
    frames = read_frames(source, **choices)
    typer.echo(summary(frames))
    for line in roles_table(frames):
        typer.echo(line)
    for kind, remark in remarks(frames):
        typer.echo(f"{kind}: {remark}")
    for problem in repeated_frames(frames):
        typer.echo(f"warning: {problem}")


def _summary(manifest: Manifest) -> Iterator[str]:
    schema = manifest.feature_schema
    rows = {
        "model": f"{manifest.name} version {manifest.version}, made {manifest.created}",
        "row": f"{manifest.input_dim} columns → {manifest.embed_dim} numbers",
        "schema hash": manifest.schema_hash,
        "groups": ", ".join(f"{group.name} [{group.start}, {group.stop})" for group in schema.groups),
        "patches": ", ".join(patch.name for patch in manifest.patches),
        "horizons": ", ".join(map(str, manifest.horizons)) + " frames ahead",
        "own inputs": _of_inputs(manifest),
        "loss quantiles": ", ".join(map(str, manifest.loss_quantiles)) or "none",
        **{f"metric {name}": str(value) for name, value in manifest.training.get("metrics", {}).items()},
        **{
            f"cost of {name}": f"noise {cost.noise:.2g} of the variance, least cosine {cost.least_cosine:.4f}, largest "
            f"difference {cost.largest_difference:.2g}, on {cost.rows} rows"
            for name, cost in manifest.precision.items()
        },
        **{
            f"parity of {graph}": ", ".join(f"{name} {value:.2g}" for name, value in parity if value is not None)
            + " of the spread"
            for graph, parity in manifest.parity.items()
        },
        **{f"head {head.name}": _of_head(head) for head in manifest.heads},
        "licence": manifest.licence or "not given",
        "data": ", ".join(f"{key} {value}" for key, value in manifest.data.items()) or "not given",
        "files": ", ".join(f"{name} ({entry.bytes / 1e6:.1f} MB)" for name, entry in manifest.files.items()),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        yield f"{name:<{width}}  {value}"


def _of_inputs(manifest: Manifest) -> str:
    if not manifest.actions:
        return "none"
    named = [
        f"{name} ({len(manifest.action_values[name])} classes)" if name in manifest.action_values else name
        for name in manifest.actions
    ]
    return f"{', '.join(named)}; of up to {manifest.max_actions} frames"


def _of_head(head: HeadEntry) -> str:
    of = "" if head.kind != "classes" else " " + ", ".join(name.removeprefix(f"{head.name}=") for name in head.outputs)
    shown = ", ".join(
        f"{'now' if horizon == '0' else horizon} {measured['auc']:.3f}"
        for horizon, measured in head.table.items()
        if isinstance(measured, dict) and isinstance(measured.get("auc"), float)
    )
    return f"{head.kind}{of}: {head.labels or 'labels not told'}" + (f"; ROC AUC {shown}" if shown else "")


def _head_problems(bundle: Bundle) -> Iterator[str]:
    """Whether heads.npz and novelty.npz are what bundle.json says, where the bundle has them."""
    for read in (lambda: bundle.heads, lambda: bundle.novelty):
        try:
            read()
        except (BundleError, ValueError) as error:
            yield str(error)


def _golden_problems(bundle: Bundle) -> Iterator[str]:
    """Runs the golden rows in every precision of the bundle, prints how close the outputs are, and yields problems."""
    for precision in filter(bundle.has, ("float32", "int8")):
        for compared in selfcheck.compare(bundle, Graphs(bundle, precision), precision):
            verdict = "as at export" if compared.holds else "NOT as at export"
            typer.echo(
                f"{compared.graph} {precision}: {verdict}, off by {compared.distance:.2g} of the spread of its answers"
            )
            if not compared.holds:
                yield f"{compared.graph} {precision} does not reproduce its golden rows; export the model again"
