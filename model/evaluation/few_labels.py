"""What a representation is worth where few games are labelled."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GridSearchCV, GroupKFold

from model.evaluation import probes
from model.evaluation.plan import Job
from model.evaluation.probes import Classes, Label, Rows

# Labelled games, and how often they are drawn: fewer games differ more. All games are one draw more.
DRAWS: Mapping[int, int] = {1: 4, 2: 4, 4: 3, 8: 3, 16: 2}
# Trees are tuned to up to so many games.
MAX_TUNED_GAMES = 16
# Parts of these games, each of which judges the trees of the others.
FOLDS = 2
# What trees are tuned among: from a few small trees, for few labels, to many larger ones.
TREES = {"max_leaf_nodes": [4, 16], "max_iter": [30, 80]}


class Mean(NamedTuple):
    """ROC AUC over several draws of games, NaN where none could be scored, and its standard error over them, NaN of
    fewer than two."""

    auc: float
    draws: int
    error: float

    @classmethod
    def of(cls, aucs: list[float]) -> "Mean":
        known = [auc for auc in aucs if not np.isnan(auc)]
        error = float(np.std(known, ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")
        return cls(float(np.mean(known)) if known else float("nan"), len(known), error)


# Label → line → games → score.
FewLabels = dict[str, dict[str, dict[int, Mean]]]


def few_labels(jobs: list[Job], labels: Mapping[str, Label], games: Classes, seed: int) -> FewLabels:
    """Fits each job on the rows of some training games, whose games are `games` [n], for each label, and on those of
    all. All lines learn from the same games; numbers of games that there are not are left out. Boosted trees are tuned
    to each draw of up to 16 games."""
    every = len(np.unique(games))
    drawn = {count: list(_draws(games, count, seed)) for count in DRAWS if count < every}
    drawn[every] = [np.arange(len(games))]
    found: FewLabels = {}
    for name, label in labels.items():
        lines: dict[str, dict[int, Mean]] = {job.name: {} for job in jobs}
        for count, draws in drawn.items():
            parts = [(rows, part) for rows in draws if (part := _part(label, rows)) is not None]
            for job in jobs:
                if job.classifier is probes.boosted_trees and count > MAX_TUNED_GAMES:
                    continue
                train, test = job.view
                lines[job.name][count] = Mean.of(
                    [
                        probes.auc(*probes.predicted(_classifier(job, part, games[rows]), train[rows], test, part))
                        for rows, part in parts
                    ]
                )
        found[name] = lines
    return found


def _classifier(job: Job, label: Label, games: Classes) -> probes.Classifier:
    if job.classifier is not probes.boosted_trees:
        return job.classifier
    return partial(tuned_trees, games=games[label.train >= 0])


def tuned_trees(train: Rows, labels: Classes, *, games: Classes) -> GridSearchCV:
    """Boosted trees of the size that does best on games held out in turn; of one game, on stretches of it."""
    count = len(np.unique(games))
    if count == 1:
        games, count = np.arange(len(games)) * FOLDS // len(games), FOLDS
    trees = HistGradientBoostingClassifier(early_stopping=False, random_state=0)
    search = GridSearchCV(trees, TREES, scoring=_ranks, cv=GroupKFold(min(FOLDS, count)))
    return search.fit(train, labels, groups=games)


def _ranks(trees: Any, rows: Rows, truth: Classes) -> float:
    """As trees are scored in the end; .5 of a fold that has no two classes."""
    auc = probes.auc(trees.predict_proba(rows), truth, trees.classes_)
    return 0.5 if np.isnan(auc) else auc


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
