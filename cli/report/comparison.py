"""Two training runs side by side: their curves, and in what they differ."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer

from bundle.folders import DEFAULT_MODEL, MANIFEST, locate, versions
from bundle.manifest import read_manifest
from cli import plots
from cli.files import output_folder, replacing
from cli.report.folders import folder_of
from cli.report.page import Picture, Section, Table, render
from cli.report.sections import CURVES
from model.training import runs
from model.training.recipe import Recipe


class Trained(NamedTuple):
    """What is known of a run from its folder, or from the bundle that came of it."""

    title: str
    home: Path  # the folder of the model
    history: Mapping[str, list[float]]
    recipe: Mapping[str, Any]
    about: Mapping[str, str]


def find(place: str) -> Trained | None:
    """The run that a word on the command line means, None where it means neither a bundle nor a run."""
    folder = DEFAULT_MODEL if place == "default" else Path(place)
    if not folder.is_dir():
        return None
    if (folder / runs.CHECKPOINT).is_file():
        return _of_folder(folder)
    if (folder / MANIFEST).is_file() or any((each / MANIFEST).is_file() for each in versions(folder).values()):
        return _of_bundle(locate(place))
    newest = runs.newest(folder / runs.HOME)
    return None if newest is None else _of_folder(newest)


def of(place: str) -> Trained:
    """The run that a word on the command line means; BundleError or ValueError where there is none."""
    return find(place) or _of_bundle(locate(place))


def report(first: Trained, second: Trained, out: Path | None) -> None:
    """Writes the page and its picture."""
    both = {"A": first, "B": second}
    for one in both.values():
        if not set(CURVES) <= one.history.keys() or not one.history["step"]:
            raise ValueError(f"{one.title} holds no curves of its training: it is imported, or has not begun")
    to = folder_of(out, first.home, f"report-{_file_name(first)}-and-{_file_name(second)}")
    with output_folder(to) as folder:
        parts = [_curves(both, folder), _differences(both)]
        page = folder / "index.html"
        with replacing(page) as partial:
            partial.write_text(render(f"{first.title} and {second.title}", parts), encoding="utf-8")
    typer.echo(f"{page} is ready: {'; '.join(section.title for section in parts)}")


def _of_bundle(folder: Path) -> Trained:
    manifest = read_manifest(folder)
    training = manifest.training
    counts = {name: f"{n:,}" for name in ("rows", "episodes") if isinstance(n := training.get(name), int)}
    return Trained(
        f"{manifest.name} version {manifest.version}",
        folder.absolute().parent,
        manifest.history,
        recipe if isinstance(recipe := training.get("recipe"), dict) else {},
        counts,
    )


def _of_folder(folder: Path) -> Trained:
    """Of a run that may still go on."""
    lines = (folder / runs.REPORTS).read_text().splitlines() if (folder / runs.REPORTS).is_file() else []
    reports = [json.loads(line) for line in lines]
    # After a kill, a run repeats what came after its last checkpoint.
    by_step = {report["step"]: report for report in reports}
    history = {name: [report[name] for report in by_step.values()] for name in (*CURVES, "objective")}
    recipe = tomllib.loads((folder / runs.RECIPE).read_text())
    home = folder.absolute().parent.parent
    return Trained(f"{home.name} run {folder.absolute().name}", home, history, recipe, {})


def _file_name(run: Trained) -> str:
    return run.title.replace(" ", "-")


def _curves(both: Mapping[str, Trained], folder: Path) -> Section:
    picture = folder / "training.png"
    named = {f"{sign}: {run.title}": run.history for sign, run in both.items()}
    width = next(int(run.recipe.get("embed_dim", Recipe().embed_dim)) for run in both.values())
    plots.save(plots.curves_figure(named, width), picture)
    ends = "; ".join(
        f"{name}: {len(history['step'])} points, loss over that of the mean {history['loss_ratio'][0]:g} to "
        f"{history['loss_ratio'][-1]:g}"
        for name, history in named.items()
    )
    caption = "Measured on held-out rows. Losses compare only between runs of the same data and horizons."
    return Section("Training", parts=[Picture(picture, f"{ends}.", caption)])


def _differences(both: Mapping[str, Trained]) -> Section:
    head = ("", *(f"{sign}: {run.title}" for sign, run in both.items()))
    last = {
        f"{name} at the end": tuple(
            f"{run.history[name][-1]:.4g}" if name in run.history else "–" for run in both.values()
        )
        for name in ("objective", *CURVES)
    }
    known = {name: tuple(run.about.get(name, "–") for run in both.values()) for name in ("rows", "episodes")}
    fields = sorted({name for run in both.values() for name in run.recipe})
    recipes = {name: tuple(json.dumps(run.recipe.get(name)) for run in both.values()) for name in fields}
    differing = {name: values for name, values in recipes.items() if values[0] != values[1]}
    rows = [(name, *values) for name, values in (last | known | differing).items()]
    words = "" if differing else "Both were made with the same recipe."
    return Section("In what they differ", words, [Table("At the end, and in the recipe", head, rows)])
