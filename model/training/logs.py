"""Curves of a run for other programs, written by the loggers of Lightning."""

import json
import os
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from model.training.runs import REPORTS

# What each kind needs that the extra `train` does not install.
PACKAGES = {
    "csv": (),
    "tensorboard": ("tensorboard",),
    "wandb": ("pytorch_lightning", "wandb"),
    "mlflow": ("pytorch_lightning", "mlflow"),
}
# Holds what wandb or MLflow calls a run, so that one that is resumed there stays one.
LOGGED_AS = "logged-as.json"


def check_log(kind: str) -> None:
    """Raises ValueError unless curves of that kind can be written."""
    if kind not in PACKAGES:
        raise ValueError(f"log is '{kind}'; it must be one of {', '.join(PACKAGES)}")
    missing = []
    for package in PACKAGES[kind]:
        try:
            import_module(package)
        except ModuleNotFoundError:
            missing.append(package.replace("_", "-"))
    if missing:
        names = " ".join(missing)
        raise ValueError(f"the log for {kind} needs {' and '.join(missing)}; install it with: pip install {names}")


class RunLog:
    """Writes the reports of one run to one of Lightning's loggers."""

    def __init__(self, kind: str, folder: Path, name: str, recipe: dict[str, Any]) -> None:
        """`folder` is the run's, `name` that of the model, which TensorBoard does not need."""
        self._kind = kind
        try:
            self._logger, goes_on = _logger(kind, folder, name)
        # What these programs raise for a server that does not answer, or a key that is wrong, is of their own kinds.
        except Exception as error:
            raise ValueError(f"the log for {kind} cannot begin: {error}; mend that, or train without --log") from error
        if kind == "csv":
            # Its file is begun anew by every process that writes to it.
            for report in _reports(folder):
                self.write(report)
        # MLflow refuses to change what it knows of a run, such as its steps.
        elif not (kind == "mlflow" and goes_on):
            self._logger.log_hyperparams(recipe)

    def write(self, report: Mapping[str, Any]) -> None:
        """One point of each curve."""
        metrics = {name: value for name, value in report.items() if name not in ("step", "steps", "seconds_left")}
        self._logger.log_metrics(metrics, step=report["step"])

    def close(self, finished: bool) -> None:
        self._logger.finalize("success" if finished else "aborted")
        if self._kind == "wandb":
            # Else the next run of the same program would go on with this one.
            self._logger.experiment.finish()


def _reports(folder: Path) -> list[dict[str, Any]]:
    path = folder / REPORTS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _logger(kind: str, folder: Path, name: str) -> tuple[Any, bool]:
    """And whether it goes on with a run that wandb or MLflow knows already."""
    if kind == "csv":
        shutil.rmtree(folder / kind, ignore_errors=True)
        return CSVLogger(folder, name=kind, version="", flush_logs_every_n_steps=1), False
    if kind == "tensorboard":
        return TensorBoardLogger(folder, name=kind, version=""), False
    about = folder / LOGGED_AS
    known = json.loads(about.read_text()) if about.is_file() else {}
    title, before = f"{name}-{folder.name}", known.get(kind)
    loggers: Any = import_module("pytorch_lightning.loggers")
    if kind == "wandb":
        project = os.environ.get("WANDB_PROJECT", name)
        logger = loggers.WandbLogger(project=project, name=title, save_dir=folder, id=before, resume="allow")
    else:
        place = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder.parent.absolute()}/mlflow.db")
        logger = loggers.MLFlowLogger(name, run_name=title, tracking_uri=place, run_id=before)
    # Asking for it begins the run there.
    logger.experiment  # noqa: B018
    about.write_text(json.dumps(known | {kind: logger.version}))
    return logger, before is not None
