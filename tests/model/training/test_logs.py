"""Curves for other programs."""

import csv
import json
import sys

import pytest

from model.training import runs
from model.training.logs import PACKAGES, RunLog, check_log
from tests.support.small_run import SMALL

POINT = {"objective": 3.0, "loss": 0.25, "loss_ratio": 0.5, "std": 1.0, "rankme": 9.0, "rows_per_second": 100.0}


def points(*steps):
    return [{"step": step, "steps": 9, **POINT, "seconds_left": 1.0} for step in steps]


def write(kind, folder, *steps):
    log = RunLog(kind, folder, "toy", SMALL.as_dict())
    for point in points(*steps):
        log.write(point)
    log.close(True)


def test_a_csv_file_holds_every_point_also_those_before_the_run_was_resumed(tmp_path):
    write("csv", tmp_path, 1, 2)
    (tmp_path / runs.REPORTS).write_text("".join(json.dumps(point) + "\n" for point in points(1, 2)))
    write("csv", tmp_path, 3)
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3]
    assert {name: float(rows[-1][name]) for name in POINT} == POINT


def test_tensorboard_reads_the_points(tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write("tensorboard", tmp_path, 1, 2)
    write("tensorboard", tmp_path, 3)
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(each.step, each.value) for each in read.Scalars("loss")] == [(1, 0.25), (2, 0.25), (3, 0.25)]


def test_mlflow_has_one_run_of_one_that_is_resumed_also_with_more_steps(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="needs mlflow and pytorch-lightning")
    pytest.importorskip("pytorch_lightning", reason="needs mlflow and pytorch-lightning")
    from mlflow import MlflowClient

    place = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    for steps, first in ((2, 1), (4, 3)):
        log = RunLog("mlflow", tmp_path, "toy", SMALL.as_dict() | {"steps": steps})
        for point in points(first, first + 1):
            log.write(point)
        log.close(True)
    client = MlflowClient(place)
    (experiment,) = (each for each in client.search_experiments() if each.name == "toy")
    (run,) = client.search_runs([experiment.experiment_id])
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3, 4]
    assert run.data.params["steps"] == "2"


@pytest.mark.parametrize("kind", [kind for kind, packages in PACKAGES.items() if packages])
def test_a_log_whose_packages_are_missing_says_what_to_install(kind, monkeypatch):
    for package in PACKAGES[kind]:
        monkeypatch.setitem(sys.modules, package, None)
    names = " ".join(PACKAGES[kind]).replace("_", "-")
    with pytest.raises(ValueError, match=f"the log for {kind} needs .*; install it with: pip install {names}"):
        check_log(kind)


def test_an_unknown_log_names_those_there_are():
    with pytest.raises(ValueError, match="log is 'paper'; it must be one of csv, tensorboard, wandb, mlflow"):
        check_log("paper")
