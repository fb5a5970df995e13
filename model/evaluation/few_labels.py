"""What a representation is worth where few games are labelled."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.evaluation import probes
from model.evaluation.plan import Job
from model.evaluation.probes import Classes, Label

# Labelled games, and how often they are drawn: fewer games differ more.
DRAWS: Mapping[int, int] = {1: 3, 2: 3, 4: 2, 8: 2}


class Mean(NamedTuple):
    """ROC AUC over several draws of games; NaN where none could be scored."""

    auc: float
    draws: int


# Label → line → games → score.
FewLabels = dict[str, dict[str, dict[int, Mean]]]


def few_labels(
    jobs: list[Job], labels: Mapping[str, Label], games: Classes, test_games: Classes, seed: int
) -> FewLabels:
    """Fits each job on the rows of some training games, whose games are `games` [n], for each label. All lines learn
    from the same games; numbers of games that there are not are left out."""
    counts = [count for count in DRAWS if count < len(np.unique(games))]
    drawn = {count: list(_draws(games, count, seed)) for count in counts}
    found: FewLabels = {}
    for name, label in labels.items():
        lines: dict[str, dict[int, Mean]] = {job.name: {} for job in jobs}
        for count in counts:
            parts = [(rows, part) for rows in drawn[count] if (part := _part(label, rows)) is not None]
            for job in jobs:
                train, test = job.view
                aucs = [probes.score(job.classifier, train[rows], test, part, test_games).auc for rows, part in parts]
                known = [auc for auc in aucs if not np.isnan(auc)]
                lines[job.name][count] = Mean(float(np.mean(known)) if known else float("nan"), len(known))
        found[name] = lines
    return found


def _draws(games: Classes, count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The rows of `count` games, some times over; a draw has no game of an earlier one while there are others."""
    names = np.random.default_rng((seed, count)).permutation(np.unique(games))
    for draw in range(DRAWS[count]):
        yield np.flatnonzero(np.isin(games, np.take(names, range(draw * count, (draw + 1) * count), mode="wrap")))


def _part(label: Label, rows: NDArray[np.int64]) -> Label | None:
    try:
        return probes.usable_label(label.train[rows], label.test)
    except ValueError:
        # A game may know one class only.
        return None
