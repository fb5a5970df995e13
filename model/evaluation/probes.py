"""Is the embedding worth having? The same linear probe on raw features, PCA, an untrained encoder and the JEPA."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from bundle.columns import column_statistics
from model.data.frames import Frames
from model.networks.encoding import FeatureEncoding
from model.networks.jepa import JEPA
from model.training import diagnostics
from model.training.recipe import Recipe

Rows = NDArray[np.float32]  # [rows, columns]
Classes = NDArray[np.int64]  # [rows], −1: none
Classifier = Callable[[Rows, Classes], Any]  # training rows → what has classes_ and predict_proba

PROBE_CLIP = 8.0
PROBE_L2 = 10.0  # of the standardised rows: C = 1 / PROBE_L2
NEIGHBOURS = 15
NEIGHBOUR_ROWS = 20_000
LEAST_TEST_ROWS = 20  # of a class, or of a game, to be counted in a mean over them
MOST_CLASSES = 64
LEAST_CLASS_ROWS = 2  # boosted trees hold out a part of each class
HEALTH_ROWS = 4096
DEAD_SHARE = 1e-3  # of the largest dim's standard deviation
LEAST_VARIANCE = 1e-6  # of the first principal component's


@dataclass(frozen=True)
class Label:
    """What a probe is asked to tell."""

    train: Classes
    test: Classes
    left_out: str = ""  # which classes, in words


@dataclass(frozen=True)
class Score:
    """How well one label is told. `auc` is the mean over classes, each against the rest; `balanced_accuracy` (mean
    recall) and `f1` are means over the classes that training and test both have, `weighted_f1` by their test rows.
    Each spread is the standard deviation over the test games, NaN where fewer than two can be scored."""

    auc: float
    accuracy: float
    balanced_accuracy: float
    f1: float
    weighted_f1: float
    auc_spread: float
    accuracy_spread: float
    balanced_accuracy_spread: float


@dataclass(frozen=True)
class Health:
    """What the embeddings look like without any label; a dead dim hardly differs between rows."""

    rankme: float
    effective_rank: int
    std: float
    least_std: float
    largest_std: float
    dead_dims: int
    dims: int


def linear_probe(train: Rows, labels: Classes) -> Pipeline:
    """Multinomial logistic regression on standardised columns, clipped to ±8; at most 200 steps of L-BFGS."""
    probe = make_pipeline(_standardiser(), LogisticRegression(C=1 / PROBE_L2, max_iter=200, tol=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return probe.fit(train, labels)


def nearest_neighbours(train: Rows, labels: Classes) -> Pipeline:
    """The share of each class among the 15 nearest of 20,000 training rows."""
    train, labels = train[:NEIGHBOUR_ROWS], labels[:NEIGHBOUR_ROWS]
    return make_pipeline(_standardiser(), KNeighborsClassifier(min(NEIGHBOURS, len(train)))).fit(train, labels)


def boosted_trees(train: Rows, labels: Classes) -> HistGradientBoostingClassifier:
    """Gradient-boosted trees: the mark that a linear probe on a good embedding should reach."""
    return HistGradientBoostingClassifier(max_iter=200, learning_rate=0.1, random_state=0).fit(train, labels)


def _standardiser() -> Pipeline:
    clip = FunctionTransformer(np.clip, kw_args={"a_min": -PROBE_CLIP, "a_max": PROBE_CLIP})
    return make_pipeline(StandardScaler(), clip)


def usable_label(train: Classes, test: Classes, least_entropy: float = 0.0) -> Label:
    """The label with at most 64 classes, the most common; ValueError, saying why, where a probe could learn nothing.

    Anand et al. (2019) leave out labels of less than 0.6 nats, a nearly constant byte of RAM for one.
    """
    if not (train >= 0).any():
        raise ValueError("−1 (none) in every training row")
    values, counts = np.unique(train[train >= 0], return_counts=True)
    if len(values) == 1:
        raise ValueError("one class only in the training rows")
    share = counts / counts.sum()
    if -(share * np.log(share)).sum() < least_entropy:
        raise ValueError(f"entropy below {least_entropy:g} nats")
    common = np.argsort(-counts, kind="stable")[:MOST_CLASSES]
    kept = values[common[counts[common] >= LEAST_CLASS_ROWS]]
    if len(kept) < 2:
        raise ValueError(f"fewer than two classes with {LEAST_CLASS_ROWS} training rows")
    left_out = np.setdiff1d(values, kept)
    test = np.where(np.isin(test, left_out), -1, test)
    if not (test >= 0).any():
        raise ValueError("−1 (none) in every test row")
    if not np.isin(test, kept).any():
        raise ValueError("no test row of a class that the training rows have")
    if not len(left_out):
        return Label(train, test)
    rows = np.isin(train, left_out)
    return Label(
        np.where(rows, -1, train),
        test,
        f"the {len(kept)} most common of {len(values)} classes; rows of the others "
        f"({100 * rows.sum() / counts.sum():.2g} %) are left out",
    )


def score(classifier: Classifier, train: Rows, test: Rows, label: Label, games: Classes) -> Score:
    """Fits on the training rows [n, D] and scores the test rows [m, D] of `games` [m]; rows without the label count
    neither way, those of a class that training lacks are wrong in `accuracy` and no class of their own elsewhere."""
    fit, asked = label.train >= 0, label.test >= 0
    classes, truth, games = np.unique(label.train[fit]), label.test[asked], games[asked]
    fitted = classifier(train[fit], label.train[fit])
    probabilities = np.zeros((len(truth), len(classes)))  # of a class that no neighbour can have: 0
    probabilities[:, np.isin(classes, fitted.classes_)] = fitted.predict_proba(test[asked])
    names, counts = np.unique(games, return_counts=True)
    each = [
        _measures(probabilities[games == game], truth[games == game], classes)
        for game in names[counts >= LEAST_TEST_ROWS]
    ]
    spreads = {
        f"{name}_spread": _spread([one[name] for one in each]) for name in ("auc", "accuracy", "balanced_accuracy")
    }
    return Score(**_measures(probabilities, truth, classes), **spreads)


def _measures(probabilities: NDArray[np.float64], truth: Classes, classes: Classes) -> dict[str, float]:
    guess = classes[probabilities.argmax(1)]
    present = np.intersect1d(truth, classes)
    measures = {"auc": auc(probabilities, truth, classes), "accuracy": float((guess == truth).mean())}
    if not len(present):
        return measures | dict.fromkeys(("balanced_accuracy", "f1", "weighted_f1"), float("nan"))
    _, recall, f1, rows = precision_recall_fscore_support(truth, guess, labels=present, zero_division=0)
    return measures | {
        "balanced_accuracy": float(recall.mean()),
        "f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=rows)),
    }


def auc(probabilities: NDArray[Any], truth: Classes, classes: Classes) -> float:
    """ROC AUC, for two classes of the second, for more the mean over classes against the rest; those with fewer
    than 20 rows on either side are left out; NaN if none remains."""
    columns = range(1, 2) if len(classes) == 2 else range(len(classes))
    each = []
    for column in columns:
        is_class = truth == classes[column]
        if min(is_class.sum(), (~is_class).sum()) >= LEAST_TEST_ROWS:
            each.append(roc_auc_score(is_class, probabilities[:, column]))
    return float(np.mean(each)) if each else float("nan")


def _spread(values: list[float]) -> float:
    known = np.array(values)[~np.isnan(values)]
    return float(known.std()) if len(known) > 1 else float("nan")


def health(embeddings: Rows) -> Health:
    rows = torch.from_numpy(embeddings[:HEALTH_ROWS].astype(np.float32))
    std = rows.std(0)
    return Health(
        rankme=diagnostics.rankme(rows),
        effective_rank=diagnostics.effective_rank(rows),
        std=diagnostics.mean_std(rows),
        least_std=float(std.min()),
        largest_std=float(std.max()),
        dead_dims=int((std <= DEAD_SHARE * std.max()).sum()),
        dims=rows.shape[1],
    )


def principal_components(train: Rows, test: Rows, width: int) -> tuple[Rows, Rows]:
    """The first `width` principal components of the standardised columns, or as many as hold any variance."""
    standardiser = _standardiser().fit(train)
    train, test = standardiser.transform(train), standardiser.transform(test)
    pca = PCA(min(width, *train.shape), random_state=0).fit(train)
    # Beyond the rank of the data there is rounding noise, which a probe that standardises would take for numbers.
    alive = pca.explained_variance_ >= LEAST_VARIANCE * pca.explained_variance_[0]
    return pca.transform(train)[:, alive], pca.transform(test)[:, alive]


def untrained_encoder(frames: Frames, recipe: Recipe) -> Callable[[Rows], Rows]:
    """The same network before its first step: what the architecture alone is worth."""
    torch.manual_seed(recipe.seed)
    encoding = FeatureEncoding.fit(frames.features, frames.schema, column_statistics(frames.features))
    jepa = JEPA(recipe.config(frames.schema, ordered=frames.frame is not None), encoding).eval()

    def embed(rows: Rows) -> Rows:
        with torch.inference_mode():
            parts = [
                jepa.context_encoder(jepa.encoding(torch.from_numpy(part)))
                for part in np.array_split(rows, len(rows) // 2048 + 1)
            ]
        embeddings: Rows = torch.cat(parts).numpy()
        return embeddings

    return embed
