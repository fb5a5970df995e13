"""Where runs are: `<models>/<name>/.training/<number>/`, a folder for each, numbered from 1."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.training.checkpoint import DamagedCheckpoint, load_checkpoint

HOME = ".training"
CHECKPOINT = "checkpoint.safetensors"
# A line a report, from which curves are drawn while the run goes on.
REPORTS = "training.jsonl"
# What the run was asked for, to be given to --config.
RECIPE = "recipe.toml"


def home(models: Path, name: str) -> Path:
    """The folder of the runs of a model."""
    return models / name / HOME


def newest(runs: Path) -> Path | None:
    """The folder of the latest run that has a checkpoint; None where there is none."""
    return max(
        (path.parent for path in runs.glob(f"*/{CHECKPOINT}") if path.parent.name.isdigit()), key=_number, default=None
    )


def make_folder(runs: Path) -> Path:
    """A new folder for a run; another that begins at the same time gets its own."""
    number = max((_number(path) for path in runs.glob("*") if path.name.isdigit()), default=0)
    while True:
        number += 1
        folder = runs / str(number)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder


def check_none_stopped(runs: Path) -> DamagedCheckpoint | None:
    """Raises ValueError where the latest run can go on; returns what is wrong with one that can't."""
    run = newest(runs)
    if run is None:
        return None
    try:
        stopped = load_checkpoint(run / CHECKPOINT)
    except DamagedCheckpoint as damage:
        return damage
    if not stopped.finished():
        with held(run, alone=False):
            pass
        raise ValueError(
            f"a run stopped here at step {stopped.step} of {stopped.recipe['steps']}; go on with --resume, "
            f"choose another --name, or delete {run}"
        )
    return None


@contextmanager
def held(run: Path, *, alone: bool = True) -> Iterator[None]:
    """Keeps the folder of a run for this process, or (not `alone`) for all that only look; ValueError if another
    process has it, whose files would be mixed with ours."""
    try:
        import fcntl
    except ModuleNotFoundError:
        # Windows has no such locks; there nothing keeps two processes from one run.
        yield
        return
    folder = os.open(run, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"the run in {run} goes on in another process; wait until it ends, or choose another --name"
            ) from None
        except OSError:
            # Some network file systems have no locks either.
            pass
        yield
    finally:
        os.close(folder)


def _number(folder: Path) -> int:
    return int(folder.name)
