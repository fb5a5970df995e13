"""`jepa inspect`: shows what a bundle contains, checks its files, and checks its graphs against the golden rows."""

from collections.abc import Iterator

import typer

from app.inference.sessions import Graphs
from app.repository import selfcheck
from app.settings import DEFAULT_MODEL
from bundle.folders import BundleError, locate
from bundle.manifest import Manifest, read_manifest
from bundle.reader import Bundle, file_problems
from cli.arguments import BundleArgument


def inspect(bundle: BundleArgument) -> None:
    """Show what a bundle contains, and check it; the exit status is 1 if something is wrong."""
    try:
        folder = locate(bundle, DEFAULT_MODEL)
        manifest = read_manifest(folder)
        for line in _summary(manifest):
            typer.echo(line)
        problems = [*file_problems(folder, manifest)]
        if not problems:
            typer.echo(f"{len(manifest.files)} files have the sizes and SHA-256 of bundle.json")
            problems = [*_golden_problems(Bundle(folder, manifest))]
    except BundleError as error:
        problems = [str(error)]
    for problem in problems:
        typer.echo(f"wrong: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _summary(manifest: Manifest) -> Iterator[str]:
    schema = manifest.feature_schema
    rows = {
        "model": f"{manifest.name} version {manifest.version}, made {manifest.created}",
        "row": f"{manifest.input_dim} columns → {manifest.embed_dim} numbers",
        "schema hash": manifest.schema_hash,
        "groups": ", ".join(f"{group.name} [{group.start}, {group.stop})" for group in schema.groups),
        "patches": ", ".join(patch.name for patch in manifest.patches),
        "horizons": ", ".join(map(str, manifest.horizons)) + " frames ahead",
        "loss quantiles": ", ".join(map(str, manifest.loss_quantiles)) or "none",
        **{f"metric {name}": str(value) for name, value in manifest.training.get("metrics", {}).items()},
        **{
            f"cost of {name}": f"noise {cost.noise:.2g} of the variance, least cosine {cost.least_cosine:.4f}, largest "
            f"difference {cost.largest_difference:.2g}, on {cost.rows} rows"
            for name, cost in manifest.precision.items()
        },
        "licence": manifest.licence or "not given",
        "data": ", ".join(f"{key} {value}" for key, value in manifest.data.items()) or "not given",
        "files": ", ".join(f"{name} ({entry.bytes / 1e6:.1f} MB)" for name, entry in manifest.files.items()),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        yield f"{name:<{width}}  {value}"


def _golden_problems(bundle: Bundle) -> Iterator[str]:
    """Runs the golden rows in every precision of the bundle, prints how close the outputs are, and yields problems."""
    for precision in filter(bundle.has, ("float32", "int8")):
        for parity in selfcheck.compare(bundle, Graphs(bundle, precision), precision):
            verdict = "as at export" if parity.holds else "NOT as at export"
            typer.echo(
                f"{parity.graph} {precision}: {verdict}, largest difference {parity.max_difference:.2g}, "
                f"least cosine {parity.min_cosine:.6f}"
            )
            if not parity.holds:
                yield f"{parity.graph} {precision} does not reproduce its golden rows; export the model again"
