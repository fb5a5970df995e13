"""Which probes `jepa eval` runs, how long they should take, and what they found, in words."""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import evaluation
from model.evaluation import Classifier, Health, Label, Score

PILOT_ROWS = 2000
METRICS = {
    "auc": "ROC AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "bal. accuracy",
    "f1": "F1",
    "weighted_f1": "weighted F1",
}

View = tuple[NDArray[np.float32], NDArray[np.float32]]  # train, test rows
Scores = dict[str, dict[str, Score]]  # representation → label


class Job(NamedTuple):
    """One line of the table."""

    name: str
    classifier: Classifier
    view: View


def planned(views: Mapping[str, View], *, trees: bool, neighbours: bool) -> list[Job]:
    """The linear probe on each view, and the others on those that they tell something of."""
    jobs = [Job(name, evaluation.linear_probe, view) for name, view in views.items()]
    if neighbours:
        jobs += [Job(f"{name}, kNN", evaluation.nearest_neighbours, views[name]) for name in ("raw", "target")]
    if trees:
        jobs.append(Job("raw, boosted trees", evaluation.boosted_trees, views["raw"]))
    return jobs


def expected_seconds(jobs: list[Job], labels: Mapping[str, Label]) -> tuple[float, float]:
    """Of all jobs, and of the boosted trees among them, by one small fit on this machine now."""
    rows = jobs[0].view[0][:PILOT_ROWS]
    classes = np.arange(len(rows)) % 2  # not a label's own, of which so few rows may have one only
    started = time.perf_counter()
    evaluation.linear_probe(rows, classes)
    pace = (time.perf_counter() - started) / work(evaluation.linear_probe, len(rows), 0, rows.shape[1], 2)
    each = [(job, pace * _work_of(job, label)) for job in jobs for label in labels.values()]
    trees = sum(seconds for job, seconds in each if job.classifier is evaluation.boosted_trees)
    return sum(seconds for _, seconds in each), trees


def _work_of(job: Job, label: Label) -> float:
    known = label.train[label.train >= 0]
    return work(job.classifier, len(known), int((label.test >= 0).sum()), job.view[0].shape[1], len(np.unique(known)))


def work(classifier: Classifier, rows: int, test_rows: int, width: int, classes: int) -> float:
    """Seconds on one core of the server where the constants were measured, on Melee frames of 287 columns, 2,000 to
    60,000 rows, 2 and 11 classes."""
    if classifier is evaluation.boosted_trees:
        return (1 if classes == 2 else classes) * (1.4 + 1.4e-6 * rows * width)
    if classifier is evaluation.nearest_neighbours:
        return 5.2e-11 * min(rows, evaluation.NEIGHBOUR_ROWS) * test_rows * width
    return 8e-9 * rows * width * (4 + classes)


def table(scores: Scores, labels: Mapping[str, Label]) -> Iterator[str]:
    """A block a label, a line a representation; the last block is the mean over the labels."""
    for name, label in labels.items():
        classes, rows = len(np.unique(label.train[label.train >= 0])), int((label.test >= 0).sum())
        yield f"\n{name}: {label.left_out or f'{classes} classes'}; {rows:,} test rows"
        yield from _block(
            {line: {metric: _cell(row[name], metric) for metric in METRICS} for line, row in scores.items()}
        )
    if len(labels) > 1:
        yield f"\nmean of {len(labels)} labels"
        yield from _block(
            {line: {m: _number(found) for m, found in row.items()} for line, row in means(scores).items()}
        )


def means(scores: Scores) -> dict[str, dict[str, float]]:
    """Representation → metric → mean over the labels, of the AUC over those that have one."""
    found = {}
    for name, row in scores.items():
        columns = {metric: np.array([getattr(score, metric) for score in row.values()]) for metric in METRICS}
        known = {metric: column[~np.isnan(column)] for metric, column in columns.items()}
        found[name] = {metric: float(each.mean()) if len(each) else float("nan") for metric, each in known.items()}
    return found


def _block(lines: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    widths = {
        metric: max(len(title), *(len(cells[metric]) for cells in lines.values())) for metric, title in METRICS.items()
    }
    first = max(map(len, lines))
    yield "  ".join([" " * first, *(f"{title:<{widths[metric]}}" for metric, title in METRICS.items())]).rstrip()
    for name, cells in lines.items():
        yield "  ".join([f"{name:<{first}}", *(f"{cells[m]:<{widths[m]}}" for m in METRICS)]).rstrip()


def _cell(score: Score, metric: str) -> str:
    spread = getattr(score, f"{metric}_spread", float("nan"))
    return _number(getattr(score, metric)) + ("" if np.isnan(spread) else f" ±{spread:.3f}")


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def health_line(name: str, found: Health) -> str:
    return (
        f"{name}: RankMe {found.rankme:.1f} of {found.dims}, 95 % of the variance in {found.effective_rank} dims; "
        f"std of a dim {found.std:.3f} (least {found.least_std:.3g}, largest {found.largest_std:.3g}), "
        f"{found.dead_dims} dead"
    )
