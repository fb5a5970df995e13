"""Compares embeddings with raw features, PCA and an untrained encoder by fitting the same probes to each."""

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

# [rows, columns]
Rows = NDArray[np.float32]
# [rows], −1 where a row has no label.
Classes = NDArray[np.int64]
# Fits training rows and their classes, and returns an estimator with classes_ and predict_proba.
Classifier = Callable[[Rows, Classes], Any]

# Standardised columns are clipped to this many standard deviations.
PROBE_CLIP = 8.0
# L2 penalty on the weights of standardised columns; scikit-learn's C is its inverse.
PROBE_L2 = 10.0
NEIGHBOURS = 15
MAX_NEIGHBOUR_ROWS = 20_000
# A class or a game with fewer test rows than this is left out of means over classes or games.
MIN_TEST_ROWS = 20
MAX_CLASSES = 64
# Boosted trees hold out a part of every class, so a class needs two rows.
MIN_CLASS_ROWS = 2
MAX_HEALTH_ROWS = 4096
# A dim is dead if its standard deviation is below this share of the largest dim's.
DEAD_SHARE = 1e-3
# A principal component is rounding noise if its variance is below this share of the first one's.
MIN_VARIANCE_SHARE = 1e-6


@dataclass(frozen=True)
class Label:
    """A label for a probe to predict. `left_out` says in words which of its classes were left out, if any."""

    train: Classes
    test: Classes
    left_out: str = ""


@dataclass(frozen=True)
class Score:
    """How well a probe predicts one label.

    `auc` is the mean over classes of one class against the rest. `balanced_accuracy` (mean recall) and `f1` are means
    over the classes that occur in both training and test, and `weighted_f1` weights them by their test rows. A spread
    is the standard deviation over test games, NaN if fewer than two games can be scored.
    """

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
    """Statistics of embeddings that need no labels; a dead dim hardly varies between rows."""

    rankme: float
    effective_rank: int
    std: float
    least_std: float
    largest_std: float
    dead_dims: int
    dims: int


def linear_probe(train: Rows, labels: Classes) -> Pipeline:
    """Multinomial logistic regression on standardised columns clipped to ±8, with at most 200 steps of L-BFGS."""
    probe = make_pipeline(_standardiser(), LogisticRegression(C=1 / PROBE_L2, max_iter=200, tol=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return probe.fit(train, labels)


def nearest_neighbours(train: Rows, labels: Classes) -> Pipeline:
    """Predicts the share of each class among the 15 nearest neighbours in at most 20,000 training rows."""
    train, labels = train[:MAX_NEIGHBOUR_ROWS], labels[:MAX_NEIGHBOUR_ROWS]
    return make_pipeline(_standardiser(), KNeighborsClassifier(min(NEIGHBOURS, len(train)))).fit(train, labels)


def boosted_trees(train: Rows, labels: Classes) -> HistGradientBoostingClassifier:
    """Gradient-boosted trees, the benchmark that a linear probe on a good embedding should reach."""
    return HistGradientBoostingClassifier(max_iter=200, learning_rate=0.1, random_state=0).fit(train, labels)


def _standardiser() -> Pipeline:
    clip = FunctionTransformer(np.clip, kw_args={"a_min": -PROBE_CLIP, "a_max": PROBE_CLIP})
    return make_pipeline(StandardScaler(), clip)


def usable_label(train: Classes, test: Classes, least_entropy: float = 0.0) -> Label:
    """Reduces a label to its 64 most common classes; ValueError says why if a probe could not learn from it.

    Anand et al. (2019) leave out labels with an entropy below 0.6 nats, such as a byte of RAM that is nearly constant.
    """
    if not (train >= 0).any():
        raise ValueError("−1 (none) in every training row")
    values, counts = np.unique(train[train >= 0], return_counts=True)
    if len(values) == 1:
        raise ValueError("one class only in the training rows")
    share = counts / counts.sum()
    if -(share * np.log(share)).sum() < least_entropy:
        raise ValueError(f"entropy below {least_entropy:g} nats")
    common = np.argsort(-counts, kind="stable")[:MAX_CLASSES]
    kept = values[common[counts[common] >= MIN_CLASS_ROWS]]
    if len(kept) < 2:
        raise ValueError(f"fewer than two classes with {MIN_CLASS_ROWS} training rows")
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
    """Fits a classifier on training rows [n, D] and scores it on test rows [m, D], which belong to `games` [m].

    Rows without a label are ignored. Test rows of a class that training lacks count as errors in `accuracy`, and the
    class is left out of means over classes.
    """
    probabilities, truth, classes = predicted(classifier, train, test, label)
    games = games[label.test >= 0]
    names, counts = np.unique(games, return_counts=True)
    each = [
        _measures(probabilities[games == game], truth[games == game], classes)
        for game in names[counts >= MIN_TEST_ROWS]
    ]
    spreads = {
        f"{name}_spread": _spread([one[name] for one in each]) for name in ("auc", "accuracy", "balanced_accuracy")
    }
    return Score(**_measures(probabilities, truth, classes), **spreads)


def predicted(
    classifier: Classifier, train: Rows, test: Rows, label: Label
) -> tuple[NDArray[np.float64], Classes, Classes]:
    """Fits a classifier on the training rows that have a label → for the m test rows that have one the probabilities
    [m, K] and the true classes [m]; and the K classes of the training rows."""
    fit, asked = label.train >= 0, label.test >= 0
    classes, truth = np.unique(label.train[fit]), label.test[asked]
    fitted = classifier(train[fit], label.train[fit])
    # A classifier may not have fitted every class (nearest neighbours use a part of the rows); the others stay at 0.
    probabilities = np.zeros((len(truth), len(classes)))
    probabilities[:, np.isin(classes, fitted.classes_)] = fitted.predict_proba(test[asked])
    return probabilities, truth, classes


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
    """ROC AUC: of the second class if there are two, else the mean over classes, each against the rest.

    A class with fewer than 20 rows on either side is left out; NaN if none remains.
    """
    columns = range(1, 2) if len(classes) == 2 else range(len(classes))
    each = []
    for column in columns:
        is_class = truth == classes[column]
        if min(is_class.sum(), (~is_class).sum()) >= MIN_TEST_ROWS:
            each.append(roc_auc_score(is_class, probabilities[:, column]))
    return float(np.mean(each)) if each else float("nan")


def _spread(values: list[float]) -> float:
    known = np.array(values)[~np.isnan(values)]
    return float(known.std()) if len(known) > 1 else float("nan")


def health(embeddings: Rows) -> Health:
    """Measures the first 4,096 embeddings [n, D]."""
    rows = torch.from_numpy(embeddings[:MAX_HEALTH_ROWS].astype(np.float32))
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
    """Projects rows to `width` principal components of the standardised columns, fewer if their rank is lower."""
    standardiser = _standardiser().fit(train)
    train, test = standardiser.transform(train), standardiser.transform(test)
    pca = PCA(min(width, *train.shape), random_state=0).fit(train)
    # Components beyond the rank of the data are rounding noise, which the probe's standardisation would amplify.
    alive = pca.explained_variance_ >= MIN_VARIANCE_SHARE * pca.explained_variance_[0]
    return pca.transform(train)[:, alive], pca.transform(test)[:, alive]


def untrained_encoder(frames: Frames, recipe: Recipe) -> Callable[[Rows], Rows]:
    """The same network before its first training step, which shows what the architecture contributes by itself."""
    torch.manual_seed(recipe.seed)
    encoding = FeatureEncoding.fit(frames.features[:], frames.schema, column_statistics(frames.features))
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
