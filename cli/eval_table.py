"""Formats the results of `jepa eval` as text."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from model.evaluation.few_labels import FewLabels
from model.evaluation.plan import Scores
from model.evaluation.probes import Health, Label, Score

METRICS = {
    "auc": "ROC AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "bal. accuracy",
    "f1": "F1",
    "weighted_f1": "weighted F1",
}


def table(scores: Scores, labels: Mapping[str, Label]) -> Iterator[str]:
    """Yields a block per label with a line per representation, and a last block with the means over labels."""
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


def few_labels_table(found: FewLabels) -> Iterator[str]:
    """A block per label: ROC AUC of each line by the number of labelled games."""
    for name, lines in found.items():
        counts = sorted({count for cells in lines.values() for count in cells})
        if not counts:
            continue
        width = max(map(len, lines))
        yield f"\n{name} with few labelled games: ROC AUC"
        titles = {count: f"{count} game{'s' * (count > 1)}" for count in counts}
        yield "  ".join([" " * width, *titles.values()])
        for line, cells in lines.items():
            numbers = (
                f"{_number(cells[count].auc if count in cells else float('nan')):<{len(title)}}"
                for count, title in titles.items()
            )
            yield "  ".join([f"{line:<{width}}", *numbers]).rstrip()


def few_labels_document(found: FewLabels) -> dict[str, Any]:
    """For JSON: label → line → labelled games → score."""
    return {
        name: {line: {str(count): cell._asdict() for count, cell in cells.items()} for line, cells in lines.items()}
        for name, lines in found.items()
    }


def means(scores: Scores) -> dict[str, dict[str, float]]:
    """Representation → metric → mean over the labels for which the metric is known."""
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
    """One line on the health of the embeddings called `name`."""
    return (
        f"{name}: RankMe {found.rankme:.1f} of {found.dims}, 95 % of the variance in {found.effective_rank} dims; "
        f"std of a dim {found.std:.3f} (least {found.least_std:.3g}, largest {found.largest_std:.3g}), "
        f"{found.dead_dims} dead"
    )
