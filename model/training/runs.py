"""Where runs are: `<models>/<name>/.training/<number>/`, a folder for each, numbered from 1."""

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
        raise ValueError(
            f"a run stopped here at step {stopped.step} of {stopped.recipe['steps']}; go on with --resume, "
            f"choose another --name, or delete {run}"
        )
    return None


def _number(folder: Path) -> int:
    return int(folder.name)
