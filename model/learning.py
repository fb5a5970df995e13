"""From frames to a bundle: a run that is begun or resumed, shown, written to a folder of its own and exported."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from rich.console import Console

from bundle.folders import check_name
from model.data.frames import Frames
from model.export.bundle import export_bundle
from model.export.card import model_card
from model.training import runs
from model.training.checkpoint import load_checkpoint
from model.training.devices import launch
from model.training.horizons import within_reach
from model.training.logs import RunLog, check_log
from model.training.loop import best_of
from model.training.loop import train as train_run
from model.training.progress import RunProgress, waiting
from model.training.recipe import Recipe, of_preset
from model.training.run import Run, changed_recipe, check_unfinished, prepare
from model.training.run import resume as resume_run


def train(
    frames: Frames,
    *,
    out: str | Path,
    name: str = "model",
    preset: str = "default",
    resume: bool = False,
    log: str | None = None,
    source: str = "",
    licence: str = "",
    **recipe: Any,
) -> Path:
    """Trains on the frames and returns the folder of the bundle, `<out>/<name>/<version>`, as `jepa train` does.

    `recipe` are fields of a `Recipe`, over those of the preset. With `resume` the run that was stopped last goes on,
    with its own recipe. ValueError says what is wrong with the frames or a field; Ctrl-C raises KeyboardInterrupt
    once the run is saved.
    """
    check_name(name)
    if log is not None:
        check_log(log)
    home = runs.home(Path(out), name)
    console = Console(highlight=False, soft_wrap=True)
    fabric = launch(accelerator="auto")
    console.quiet = not fabric.is_global_zero
    if resume:
        path = stopped_run(home)
        stopped = load_checkpoint(path)
        check_unfinished(stopped, changed_recipe(stopped, recipe))
        run = resume_run(frames, path, fabric=fabric, changes=recipe)
    else:
        chosen = of_preset(preset).changed(recipe)
        if damage := runs.check_none_stopped(home):
            console.print(f"warning: {damage}; a new run begins beside it", style="yellow", markup=False)
        run = begin(frames, chosen, fabric, console, shorten="horizons" not in recipe)
        given = ", ".join(f"{key}={value!r}" for key, value in {"name": name, "preset": preset, **recipe}.items())
        run.checkpoint.made = {"preset": preset, "command": f"model.train(frames, {given})"}
        path = None
    describe(run, source=source, licence=licence)
    path = carry_out(run, home, path, name, console=console, log=log)
    if path is None:
        raise KeyboardInterrupt(f"stopped at step {run.checkpoint.step}; go on with resume=True")
    folder = export(path, Path(out), name, console=console) if fabric.is_global_zero else None
    return Path(fabric.broadcast(str(folder)))


def begin(frames: Frames, recipe: Recipe, fabric: Fabric, console: Console, *, shorten: bool) -> Run:
    """A run of the recipe; `shorten` leaves out the horizons that the games are too short for, and says so."""
    if shorten:
        recipe, note = within_reach(frames, recipe)
        if note is not None:
            console.print(f"note: {note}", markup=False)
    return prepare(frames, recipe, fabric=fabric)


def stopped_run(home: Path) -> Path:
    """The checkpoint of the latest run; ValueError where there is none, or another process goes on with it."""
    folder = runs.newest(home)
    if folder is None:
        raise ValueError(f"there is nothing to resume: {home} holds no run")
    with runs.held(folder, alone=False):
        return folder / runs.CHECKPOINT


def describe(run: Run, *, source: str, licence: str) -> None:
    """Says in the run where its data comes from and under which licence its weights are, if that is known."""
    summary = run.checkpoint.summary
    summary.licence = licence or summary.licence
    if source:
        summary.data = {"source": source}


def carry_out(
    run: Run, home: Path, path: Path | None, name: str, *, console: Console, log: str | None = None
) -> Path | None:
    """Runs it to its end and shows how it goes; its checkpoint, or None where Ctrl-C or SIGTERM stopped it.

    `path` is the checkpoint that it is resumed from; without one the run gets a folder of its own in `home`.
    """
    with ExitStack() as ends:
        if path is None:
            folder = _new_folder(run.fabric, home)
            ends.callback(_remove_unless_begun, folder)
            path = folder / runs.CHECKPOINT
        if run.fabric.is_global_zero:
            ends.enter_context(runs.held(path.parent))
            (path.parent / runs.RECIPE).write_text(run.recipe.as_toml())
        interrupted = ends.enter_context(interruptions())
        tell = ends.enter_context(_logged(log, path.parent, name, run))
        progress = RunProgress(console, run, path.parent / runs.REPORTS, tell)
        progress.say_what_comes()

        def go_on(step: int) -> bool:
            progress.step(step)
            return not interrupted.is_set()

        with progress.bar():
            finished = train_run(run, path, progress.report, go_on)
    if not finished:
        return None
    progress.say_how_it_ended()
    return path


def export(path: Path, out: Path, name: str, *, console: Console, half: bool = False) -> Path:
    """A bundle of the best weights of the run whose checkpoint is at `path`; whatever goes wrong says how to get it."""
    best = best_of(path)
    try:
        checkpoint = load_checkpoint(best)
        with waiting(console, f"exporting to {out / name}"):
            return export_bundle(checkpoint, out, name, half=half, card=model_card(checkpoint, name))
    except BaseException as error:
        error.add_note(f"the run is finished and kept: jepa export {best} --out {out} --name {name}")
        raise


@contextmanager
def interruptions() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that a run stops between two steps, where its state is whole."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        # Signals go to the main thread.
        yield interrupted
        return
    before = {number: signal.signal(number, lambda *_: interrupted.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _new_folder(fabric: Fabric, home: Path) -> Path:
    """A folder that all processes of the run know."""
    made = str(runs.make_folder(home)) if fabric.is_global_zero else ""
    return Path(fabric.broadcast(made))


def _remove_unless_begun(folder: Path) -> None:
    if not (folder / runs.CHECKPOINT).exists():
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _logged(kind: str | None, folder: Path, name: str, run: Run) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """What takes the reports of a run, for the kind of log that is wanted."""
    if kind is None or not run.fabric.is_global_zero:
        yield lambda _: None
        return
    log = RunLog(kind, folder, name, run.recipe.as_dict())
    try:
        yield log.write
    finally:
        log.close(run.checkpoint.finished())
