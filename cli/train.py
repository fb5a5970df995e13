"""`jepa train`: learns from recorded frames, exports, and leaves a bundle that `jepa serve --models` serves."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bundle.folders import check_name
from cli import recipes
from cli.arguments import (
    DATA_HELP,
    ActionsOption,
    EpisodeOption,
    ExcludeOption,
    FeaturesOption,
    FrameOption,
    LabelsOption,
    MissingOption,
    NameOption,
)
from cli.failures import EXPECTED, sentence
from cli.files import check_folder
from cli.recipes import Setting
from cli.roles_table import remarks, roles_table
from model import learning
from model.data.files import name_of
from model.data.frames import Frames
from model.data.kept import kept_frames
from model.training import runs
from model.training.checkpoint import Checkpoint, load_checkpoint
from model.training.devices import ACCELERATORS, launch
from model.training.logs import PACKAGES, check_log
from model.training.recipe import PRESETS
from model.training.run import changed_recipe, check_unfinished, frames_to_show
from model.training.run import resume as resume_run

console = Console(highlight=False, soft_wrap=True)


def train(
    data: Annotated[list[str] | None, typer.Argument(metavar="DATA...", help=DATA_HELP)] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of models; the bundle is written to OUT/NAME/VERSION")
    ] = None,
    preset: Annotated[str | None, typer.Option(help=f"One of {', '.join(PRESETS)} (if not given: default)")] = None,
    name: NameOption = "model",
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run that was stopped")] = False,
    config: Annotated[Path | None, typer.Option(help="TOML file with fields of the recipe")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the recipe, as name=value; may be repeated")
    ] = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print the recipe as a file for --config, and end")
    ] = False,
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
    steps: Annotated[int | None, typer.Option(help="Number of training steps; more make a finished run longer")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many of a run's fifty reports without a better one (0: never)")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed; equal seeds and data give equal weights")] = None,
    devices: Annotated[int, typer.Option(help="Processes to share each batch, one per GPU or some CPU cores each")] = 1,
    accelerator: Annotated[str, typer.Option(help=f"One of {', '.join(ACCELERATORS)}")] = "auto",
    log: Annotated[str | None, typer.Option(help=f"Also write the curves for one of {', '.join(PACKAGES)}")] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Leave ten seconds of a held-out game in the bundle for everybody to watch")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16")] = False,
    source: Annotated[str, typer.Option(help="Source of the data, for bundle.json and the model card")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights, for bundle.json and the model card")] = "",
) -> None:
    """Train on recorded games and export a bundle to serve."""
    first = True
    try:
        on_line = recipes.of_options(horizons=horizon or None, tokens=tokens, steps=steps, patience=patience, seed=seed)
        on_line += map(recipes.of_assignment, set_ or [])
        given = recipes.changes([] if config is None else recipes.of_file(config), on_line)
        recipe = recipes.recipe_of(preset or "default", {} if resume else given)
        if show_config:
            typer.echo(recipes.shown(preset or "default", given), nl=False)
            return
        if not data or out is None:
            raise typer.BadParameter(
                "missing; jepa train DATA --out MODELS" if not data else "missing; name a folder of models",
                param_hint="DATA" if not data else "--out",
            )
        check_name(name)
        if log is not None:
            check_log(log)
        home = runs.home(out, name)
        check_folder(home)
        choices: dict[str, Any] = {
            "features": features,
            "exclude": exclude,
            "labels": labels,
            "actions": actions,
            "episode": episode,
            "frame": frame,
            "missing": missing,
            "unordered": unordered or None,
        }
        choices = {option: value for option, value in choices.items() if value is not None}
        path = damage = None
        if resume:
            path = learning.stopped_run(home)
            choices = _choices_to_resume(load_checkpoint(path), preset, given, choices)
        else:
            damage = runs.check_none_stopped(home)
        fabric = launch(devices, accelerator)
        first = fabric.is_global_zero
        console.quiet = not first
        if damage is not None:
            console.print(f"warning: {damage}; a new run begins beside it", style="yellow", markup=False)
        frames = _frames(data, home / "frames", **choices)
        if path is None:
            run = learning.begin(frames, recipe, fabric, console, shorten="horizons" not in given)
            run.checkpoint.made = {
                "preset": preset or "default",
                "command": _command(data, out, name, preset, config, on_line, choices),
                "choices": choices,
            }
        else:
            changes = {field: setting.value for field, setting in given.items()}
            run = resume_run(frames, path, fabric=fabric, changes=changes)
        if sample:
            run.checkpoint.shown = frames_to_show(run)
        # Where they are small, the run has its own copy, of half the size where that loses nothing.
        del frames
        known = run.checkpoint.summary.data
        learning.describe(run, source=source or ("" if known else name_of(data)), licence=licence)
        path = learning.carry_out(run, home, path, name, console=console, log=log)
        if not first:
            return
        if path is None:
            console.print(f"stopped at step {run.checkpoint.step}; go on with the same command and --resume")
            raise typer.Exit(130)
        folder = learning.export(path, out, name, console=console, half=half)
    except EXPECTED as error:
        console.print(f"error: {sentence(error)}", style="red", markup=False)
        # All processes meet the same error and the first tells of it; one that failed would have it killed.
        raise typer.Exit(1 if first else 0) from None
    console.print(f"{folder} is ready: jepa serve --models {out}")


def _frames(data: list[str], keep: Path, *, unordered: bool = False, **choices: Any) -> Frames:
    """What the data holds, once the user has seen what each column is for; large frames are kept in `keep`."""
    console.print(f"reading {', '.join(data)}", markup=False)
    frames = kept_frames(data, keep, **choices)
    for line in roles_table(frames):
        console.print(line, markup=False)
    for kind, remark in remarks(frames):
        console.print(f"{kind}: {remark}", style="yellow" if kind == "warning" else None, markup=False)
    if frames.independent:
        console.print("no 'episode' and no 'frame' column says which rows belong together; they are held out at random")
    return replace(frames, frame=None) if unordered else frames


def _choices_to_resume(
    stopped: Checkpoint, preset: str | None, given: dict[str, Setting], choices: dict[str, Any]
) -> dict[str, Any]:
    """How the run read its data; ValueError for an option that would make it another run, and for one that is over."""
    before = stopped.made.get("choices", {})
    asked = choices | ({} if preset is None else {"preset": preset})
    began = before | {"preset": stopped.made.get("preset", preset)}
    for option, value in asked.items():
        if began.get(option) != value:
            raise ValueError(
                f"--{option} is {value}, but the run was begun "
                + (f"with {began[option]}" if option in began else "without it")
                + "; leave it out to go on with the run, or train anew without --resume"
            )
    changes = {field: setting.value for field, setting in given.items()}
    check_unfinished(stopped, changed_recipe(stopped, changes))
    return dict(before)


def _command(
    data: list[str],
    out: Path,
    name: str,
    preset: str | None,
    config: Path | None,
    on_line: list[Setting],
    choices: dict[str, Any],
) -> str:
    """The command that begins the same run, for its model card."""
    words = ["jepa", "train", *data, "--out", str(out), "--name", name]
    words += ["--preset", preset] if preset else []
    words += ["--config", str(config)] if config else []
    for field, value, _ in on_line:
        words += ["--set", f"{field}={[*value] if isinstance(value, tuple) else value}"]
    for option, value in choices.items():
        for each in value if isinstance(value, list) else [value]:
            words += [f"--{option}"] if each is True else [f"--{option}", str(each)]
    return shlex.join(words)
