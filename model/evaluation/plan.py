"""Which probes `jepa eval` runs, and how long they should take."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.evaluation import probes
from model.evaluation.probes import Classifier, Label, Score

PILOT_ROWS = 2000
View = tuple[NDArray[np.float32], NDArray[np.float32]]  # train, test rows
Scores = dict[str, dict[str, Score]]  # representation → label


class Job(NamedTuple):
    """One line of the table."""

    name: str
    classifier: Classifier
    view: View


def planned(views: Mapping[str, View], *, trees: bool, neighbours: bool) -> list[Job]:
    """The linear probe on each view, and the others on those that they tell something of."""
    jobs = [Job(name, probes.linear_probe, view) for name, view in views.items()]
    if neighbours:
        jobs += [Job(f"{name}, kNN", probes.nearest_neighbours, views[name]) for name in ("raw", "target")]
    if trees:
        jobs.append(Job("raw, boosted trees", probes.boosted_trees, views["raw"]))
    return jobs


def expected_seconds(jobs: list[Job], labels: Mapping[str, Label]) -> tuple[float, float]:
    """Of all jobs, and of the boosted trees among them, by one small fit on this machine now."""
    rows = jobs[0].view[0][:PILOT_ROWS]
    classes = np.arange(len(rows)) % 2  # not a label's own, of which so few rows may have one only
    started = time.perf_counter()
    probes.linear_probe(rows, classes)
    pace = (time.perf_counter() - started) / work(probes.linear_probe, len(rows), 0, rows.shape[1], 2)
    each = [(job, pace * _work_of(job, label)) for job in jobs for label in labels.values()]
    trees = sum(seconds for job, seconds in each if job.classifier is probes.boosted_trees)
    return sum(seconds for _, seconds in each), trees


def _work_of(job: Job, label: Label) -> float:
    known = label.train[label.train >= 0]
    return work(job.classifier, len(known), int((label.test >= 0).sum()), job.view[0].shape[1], len(np.unique(known)))


def work(classifier: Classifier, rows: int, test_rows: int, width: int, classes: int) -> float:
    """Seconds on one core of the server where the constants were measured, on Melee frames of 287 columns, 2,000 to
    60,000 rows, 2 and 11 classes."""
    if classifier is probes.boosted_trees:
        return (1 if classes == 2 else classes) * (1.4 + 1.4e-6 * rows * width)
    if classifier is probes.nearest_neighbours:
        return 5.2e-11 * min(rows, probes.NEIGHBOUR_ROWS) * test_rows * width
    return 8e-9 * rows * width * (4 + classes)
