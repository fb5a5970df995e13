"""Is the embedding worth having? The same linear probe on raw features, PCA, an untrained encoder and the JEPA."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from model import diagnostics
from model.data import Frames
from model.encoding import FeatureEncoding, column_statistics
from model.jepa import JEPA
from model.recipe import Recipe

Rows = NDArray[np.float32]
Classifier = Callable[[Rows, NDArray[np.int64], Rows], Rows]  # train x, train y, test x → probabilities of the classes

PROBE_CLIP = 8.0
PROBE_L2 = 10.0  # of the standardised rows: C = 1 / PROBE_L2
NEIGHBOURS = 15
NEIGHBOUR_ROWS = 20_000
LEAST_TEST_ROWS = 20  # of a class, or of a game, to be counted in a mean over them


@dataclass(frozen=True)
class Score:
    """How well one label is told: `auc` is the mean over classes, each against the rest; `auc_spread` is the
    standard deviation of the AUC over the test games."""

    auc: float
    accuracy: float
    balanced_accuracy: float
    auc_spread: float


@dataclass(frozen=True)
class Health:
    """What the embeddings look like without any label."""

    rankme: float
    effective_rank: int
    std: float


def linear_probe(train: Rows, labels: NDArray[np.int64], test: Rows) -> Rows:
    """Multinomial logistic regression on standardised columns, clipped to ±8."""
    train, test = standardised(train, test)
    probe = LogisticRegression(C=1 / PROBE_L2, max_iter=200, tol=1e-3).fit(train, labels)
    probabilities: Rows = probe.predict_proba(test)
    return probabilities


def nearest_neighbours(train: Rows, labels: NDArray[np.int64], test: Rows) -> Rows:
    """The share of each class among the 15 nearest of 20,000 training rows."""
    train, test = standardised(train[:NEIGHBOUR_ROWS], test)
    neighbours = KNeighborsClassifier(NEIGHBOURS).fit(train, labels[:NEIGHBOUR_ROWS])
    shares: Rows = neighbours.predict_proba(test)
    return shares


def boosted_trees(train: Rows, labels: NDArray[np.int64], test: Rows) -> Rows:
    """Gradient-boosted trees: the mark that a linear probe on a good embedding should reach."""
    trees = HistGradientBoostingClassifier(max_iter=200, learning_rate=0.1, random_state=0).fit(train, labels)
    probabilities: Rows = trees.predict_proba(test)
    return probabilities


def standardised(train: Rows, test: Rows) -> tuple[Rows, Rows]:
    scaler = StandardScaler().fit(train)
    return tuple(np.clip(scaler.transform(rows), -PROBE_CLIP, PROBE_CLIP) for rows in (train, test))


def score(
    classifier: Classifier,
    train: Rows,
    train_labels: NDArray[np.int64],
    test: Rows,
    test_labels: NDArray[np.int64],
    games: NDArray[np.int64],
) -> Score:
    """Fits on the training rows [n, D] and scores the test rows [m, D]; a label of −1 means none."""
    fit, asked = train_labels >= 0, test_labels >= 0
    classes = np.unique(train_labels[fit])
    probabilities = classifier(train[fit], train_labels[fit], test[asked])
    truth, games = test_labels[asked], games[asked]
    guess = classes[probabilities.argmax(1)]
    known = np.isin(truth, classes)
    per_game = [
        auc(probabilities[games == game], truth[games == game], classes)
        for game in np.unique(games)
        if (games == game).sum() >= LEAST_TEST_ROWS
    ]
    return Score(
        auc=auc(probabilities, truth, classes),
        accuracy=float(accuracy_score(truth, guess)),
        balanced_accuracy=float(balanced_accuracy_score(truth[known], guess[known])),
        auc_spread=float(np.nanstd(per_game)) if per_game else float("nan"),
    )


def auc(probabilities: Rows, truth: NDArray[np.int64], classes: NDArray[np.int64]) -> float:
    """ROC AUC, for two classes of the second, for more the mean over classes against the rest; those with fewer
    than 20 rows on either side are left out; NaN if none remains."""
    columns = range(1, 2) if len(classes) == 2 else range(len(classes))
    each = []
    for column in columns:
        is_class = truth == classes[column]
        if min(is_class.sum(), (~is_class).sum()) >= LEAST_TEST_ROWS:
            each.append(roc_auc_score(is_class, probabilities[:, column]))
    return float(np.mean(each)) if each else float("nan")


def health(embeddings: Rows) -> Health:
    rows = torch.from_numpy(embeddings[:4096].astype(np.float32))
    return Health(diagnostics.rankme(rows), diagnostics.effective_rank(rows), diagnostics.mean_std(rows))


def principal_components(train: Rows, test: Rows, width: int) -> tuple[Rows, Rows]:
    """The first `width` principal components of the standardised columns, or as many as there are."""
    train, test = standardised(train, test)
    pca = PCA(min(width, train.shape[1], len(train)), random_state=0).fit(train)
    return pca.transform(train), pca.transform(test)


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
