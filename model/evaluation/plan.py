"""Which probes `jepa eval` fits, and how long they are expected to take."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.evaluation import probes
from model.evaluation.probes import Classifier, Label, Score

# Rows of the small fit that measures the speed of this machine.
PILOT_ROWS = 2000
# Training rows [n, D] and test rows [m, D] of one representation.
View = tuple[NDArray[np.float32], NDArray[np.float32]]
# Representation → label → score.
Scores = dict[str, dict[str, Score]]


class Job(NamedTuple):
    """One line of the table: a classifier to fit on one view, for every label."""

    name: str
    classifier: Classifier
    view: View


def planned(views: Mapping[str, View], *, trees: bool, neighbours: bool) -> list[Job]:
    """The linear probe on every view, and the other classifiers on the views where they are informative."""
    jobs = [Job(name, probes.linear_probe, view) for name, view in views.items()]
    if neighbours:
        jobs += [Job(f"{name}, kNN", probes.nearest_neighbours, views[name]) for name in ("raw", "target")]
    if trees:
        jobs.append(Job("raw, boosted trees", probes.boosted_trees, views["raw"]))
    return jobs


def expected_seconds(jobs: list[Job], labels: Mapping[str, Label]) -> tuple[float, float]:
    """Estimated seconds of all jobs, and of the boosted trees alone, scaled by a small fit that is timed now."""
    rows = jobs[0].view[0][:PILOT_ROWS]
    # Made-up classes, because so few rows might contain only one class of a real label.
    classes = np.arange(len(rows)) % 2
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
    """Seconds that a fit takes on one core of the machine where the constants were measured.

    They were measured on Melee frames with 287 columns, 2,000 to 60,000 rows, and 2 and 11 classes.
    """
    if classifier is probes.boosted_trees:
        return (1 if classes == 2 else classes) * (1.4 + 1.4e-6 * rows * width)
    if classifier is probes.nearest_neighbours:
        return 5.2e-11 * min(rows, probes.MAX_NEIGHBOUR_ROWS) * test_rows * width
    return 8e-9 * rows * width * (4 + classes)
