"""`jepa train`: learns from recorded frames, exports, and leaves a bundle that `jepa serve --models` serves."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bundle.folders import check_name
from cli.arguments import (
    ActionsOption,
    DataArgument,
    EpisodeOption,
    ExcludeOption,
    FeaturesOption,
    FrameOption,
    LabelsOption,
    MissingOption,
    ModelsOption,
    NameOption,
)
from cli.failures import EXPECTED, sentence
from cli.files import check_folder
from cli.progress import duration, progress_bar
from cli.roles_table import remarks, roles_table
from model.data.kept import kept_frames
from model.export.bundle import export_bundle
from model.training.checkpoint import DamagedCheckpoint, load_checkpoint
from model.training.devices import ACCELERATORS, launch
from model.training.diagnostics import warnings
from model.training.held_out import Report
from model.training.loop import seconds_a_step
from model.training.loop import train as train_run
from model.training.recipe import PRESETS, Recipe
from model.training.run import Run, frames_to_show, prepare
from model.training.run import resume as resume_run

console = Console(highlight=False, soft_wrap=True)


def train(
    data: DataArgument,
    out: ModelsOption,
    preset: Annotated[str, typer.Option(help=f"One of {', '.join(PRESETS)}")] = "default",
    name: NameOption = "model",
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run that was stopped")] = False,
    features: FeaturesOption = None,
    exclude: ExcludeOption = None,
    labels: LabelsOption = None,
    actions: ActionsOption = None,
    episode: EpisodeOption = None,
    frame: FrameOption = None,
    missing: MissingOption = None,
    horizon: Annotated[list[int] | None, typer.Option(help="Frames ahead to predict; may be repeated")] = None,
    unordered: Annotated[bool, typer.Option("--unordered", help="Only predict masked groups of the same row")] = False,
    tokens: Annotated[str | None, typer.Option(help="'row' (one token per row) or 'groups' (one per group)")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of training steps (default: the preset's)")] = None,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed and data give the same weights")] = 0,
    devices: Annotated[int, typer.Option(help="Processes to share each batch, one per GPU or some CPU cores each")] = 1,
    accelerator: Annotated[str, typer.Option(help=f"One of {', '.join(ACCELERATORS)}")] = "auto",
    sample: Annotated[
        bool, typer.Option("--sample", help="Leave ten seconds of a held-out game in the bundle for everybody to watch")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16")] = False,
    source: Annotated[str, typer.Option(help="Source of the data, for bundle.json")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights, for bundle.json")] = "",
) -> None:
    """Train on recorded games and export a bundle to serve."""
    first = True
    try:
        check_name(name)
        recipe = _recipe(preset, horizon, tokens, steps, seed)
        path = out / name / ".training" / "checkpoint.safetensors"
        check_folder(path.parent)
        damage = _refuse_to_lose(path, resume)
        fabric = launch(devices, accelerator)
        first = fabric.is_global_zero
        console.quiet = not first
        if damage is not None:
            console.print(f"warning: {damage}; the new run takes its place", style="yellow", markup=False)
        console.print(f"reading {data}")
        frames = kept_frames(
            data,
            path.parent / "frames",
            features=features,
            exclude=exclude,
            labels=labels,
            actions=actions,
            episode=episode,
            frame=frame,
            missing=missing,
        )
        for line in roles_table(frames):
            console.print(line, markup=False)
        for kind, remark in remarks(frames):
            console.print(f"{kind}: {remark}", style="yellow" if kind == "warning" else None, markup=False)
        if frames.independent:
            console.print(
                "no 'episode' and no 'frame' column says which rows belong together; they are held out at random"
            )
        frames = replace(frames, frame=None) if unordered else frames
        run = resume_run(frames, path, fabric=fabric) if resume else prepare(frames, recipe, fabric=fabric)
        if sample:
            run.checkpoint.shown = frames_to_show(run)
        # Where they are small, the run has its own copy, of half the size where that loses nothing.
        del frames
        run.checkpoint.summary.licence = licence
        run.checkpoint.summary.data = {"source": source or Path(data).name}
        with _interruptions() as interrupted:
            _say_what_comes(run)
            finished = _train(run, path, interrupted)
        if not first:
            return
        if not finished:
            console.print(f"stopped at step {run.checkpoint.step}; go on with the same command and --resume")
            raise typer.Exit(130)
        folder = export_bundle(load_checkpoint(path), out, name, half=half)
    except EXPECTED as error:
        console.print(f"error: {sentence(error)}", style="red", markup=False)
        # All processes meet the same error and the first tells of it; one that failed would have it killed.
        raise typer.Exit(1 if first else 0) from None
    console.print(f"{folder} is ready: jepa serve --models {out}")


def _recipe(preset: str, horizons: list[int] | None, tokens: str | None, steps: int | None, seed: int) -> Recipe:
    if preset not in PRESETS:
        raise ValueError(f"preset is '{preset}'; it must be one of {', '.join(PRESETS)}")
    changes: dict[str, Any] = {"seed": seed}
    if horizons:
        changes["horizons"] = tuple(sorted(set(horizons)))
    if tokens is not None:
        changes["tokens"] = tokens
    if steps is not None:
        changes["steps"] = steps
    return replace(PRESETS[preset], **changes)


@contextmanager
def _interruptions() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that a run stops between two steps, where its state is whole."""
    interrupted = threading.Event()
    before = {number: signal.signal(number, lambda *_: interrupted.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _refuse_to_lose(path: Path, resume: bool) -> DamagedCheckpoint | None:
    """Raises ValueError where a new run would replace one that can go on; returns what is wrong with one that can't."""
    if resume and not path.is_file():
        raise ValueError(f"there is nothing to resume: {path} does not exist")
    if not resume and path.is_file():
        try:
            stopped = load_checkpoint(path)
        except DamagedCheckpoint as damage:
            return damage
        if stopped.step < stopped.recipe["steps"]:
            raise ValueError(
                f"a run stopped here at step {stopped.step} of {stopped.recipe['steps']}; go on with --resume, "
                f"choose another --name, or delete {path.parent}"
            )
    return None


def _say_what_comes(run: Run) -> None:
    summary, recipe, schema = run.checkpoint.summary, run.recipe, run.checkpoint.schema
    ahead = ", ".join(map(str, run.horizons)) + " frames ahead" if run.batches.ordered else "hidden groups of the row"
    left = recipe.steps - run.checkpoint.step
    seconds = left * seconds_a_step(run)
    console.print(
        f"{summary.rows:,} rows of {summary.episodes} episodes, {schema.input_dim} columns in "
        f"{len(schema.groups)} groups; predicting {ahead}"
    )
    for warning in run.warnings:
        console.print(f"warning: {warning}", style="yellow")
    console.print(
        f"{left} steps of {recipe.batch_size} rows, about {duration(seconds)}; "
        f"{summary.random_start_share:.2g} of the target encoder's random start will be left"
    )


def _train(run: Run, path: Path, interrupted: threading.Event) -> bool:
    """Whether the run came to its end."""
    log = path.with_name("training.jsonl")
    bar = progress_bar(console, "training")
    task = bar.add_task("training", total=run.recipe.steps, completed=run.checkpoint.step)

    def report(made: Report) -> None:
        console.print(
            f"step {made.step}/{made.steps}  loss {made.loss:.4f}  over mean predictor {made.loss_ratio:.3f}  "
            f"std {made.std:.3f}  RankMe {made.rankme:.1f}  {made.rows_per_second:,.0f} rows/s  "
            f"{duration(made.seconds_left)} left"
        )
        for warning in warnings(made.std, made.rankme, made.loss_ratio, run.jepa.config.embed_dim):
            console.print(f"warning: {warning}", style="yellow")
        with log.open("a") as file:
            file.write(json.dumps(made.as_dict()) + "\n")

    def go_on(step: int) -> bool:
        bar.update(task, completed=step)
        return not interrupted.is_set()

    with bar if console.is_terminal else nullcontext():
        return train_run(run, path, report, go_on)
