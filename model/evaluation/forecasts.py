"""What the predictor's answers are worth: heads that learned from present frames alone, against rivals that saw as
little, and against probes that were given labels of the future."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bundle.heads import Head, Heads
from model.data.frames import Frames
from model.data.splits import looking_ahead
from model.evaluation.heads import STRAIGHT, Embedder, Indices, Linear, Rows, fit_linear
from model.evaluation.measures import Measures, measures, ranking
from model.evaluation.probes import PROBE_CLIP
from model.evaluation.rivals import later_columns, tree_values
from model.evaluation.targets import Target

# Lines of the table, in its order.
OURS = "predictor"
PERSISTENCE = "persistence"
LATER_COLUMNS = "raw → later raw, linear"
LATER_COLUMNS_NETWORK = "raw → later raw, network"
LATER_EMBEDDING = "embedding → later embedding, linear"
LABELLED_RAW = "raw, with labels of the future"
LABELLED_TREES = "raw, boosted trees with labels of the future"
LABELLED_EMBEDDING = "embedding, with labels of the future"
UNLABELLED = (PERSISTENCE, LATER_COLUMNS, LATER_COLUMNS_NETWORK, LATER_EMBEDDING)
# L2 penalty of linear maps between standardised columns.
MAP_PENALTY = 100.0
# Of the training games one in so many chooses the penalties of the rivals.
CHOOSING = 8
# Of a single game these choose.
STRETCHES = 4


class Mean(NamedTuple):
    """Of some gains, with its standard error; NaN if there are fewer than two."""

    gain: float
    error: float
    up: int
    games: int

    @classmethod
    def of(cls, gains: NDArray[np.float64]) -> Self:
        """[games], NaN for one that could not be scored."""
        known = gains[~np.isnan(gains)]
        count, several = len(known), len(known) > 1
        return cls(
            float(known.mean()) if several else float("nan"),
            float(known.std(ddof=1) / np.sqrt(count)) if several else float("nan"),
            int((known > 0).sum()),
            count,
        )


class Compared(NamedTuple):
    """One line of a head and horizon. `gains` says how far ours is above it in ROC AUC within each test game, NaN where
    a game has too few rows of either answer, or the head is a number."""

    measures: Measures
    gains: NDArray[np.float64]  # [test games], in the order of their numbers

    @property
    def mean(self) -> Mean:
        """Over the games that can be scored."""
        return Mean.of(self.gains)


def over_best(heads: Sequence[Mapping[str, Compared]], rivals: Sequence[str]) -> Mean:
    """How far ours is above the best of the rivals, which is chosen for each head by its ROC AUC over all games: the
    mean over heads in each game, and of those the mean over games."""
    gains = []
    for lines in heads:
        known = [lines[name] for name in rivals if name in lines and not np.isnan(lines[name].measures.auc)]
        if known:
            gains.append(max(known, key=lambda one: one.measures.auc).gains)
    if not gains:
        return Mean.of(np.array([]))
    table = np.stack(gains)  # [heads, games]
    counts = (~np.isnan(table)).sum(0)
    return Mean.of(np.nansum(table, 0)[counts > 0] / counts[counts > 0])


class Parts(NamedTuple):
    """Training rows and test rows of one representation, each [n, D]."""

    train: Rows
    test: Rows


def compare(
    heads: Heads,
    targets: Sequence[Target],
    frames: Frames,
    train: Indices,
    test: Indices,
    embedder: Embedder,
    horizons: Sequence[int],
    told: Callable[[str], None] = lambda _: None,
    *,
    network_size: int = 0,
    trees: bool = False,
) -> dict[str, dict[int, dict[str, Compared]]]:
    """Head → horizon → line → how it did on the rows `test`; `targets` are the heads' answers in the frames. With a
    `network_size`, in weights, a network of that size forecasts columns, too."""
    raw = _standardised(frames.features[train], frames.features[test])
    embedding = Parts(embedder.now(frames.take(train).as_seen()), embedder.now(frames.take(test).as_seen()))
    context = embedder.context(frames.take(test).as_seen())
    chooses, later_row = _choosing(frames.episode[train]), looking_ahead(frames)
    told("heads on raw columns")
    on_raw = {t.head.name: _fit(t.head, raw.train, t.at(train), chooses) for t in targets}
    found: dict[str, dict[int, dict[str, Compared]]] = {target.head.name: {} for target in targets}
    for horizon in horizons:
        told(f"{horizon} frames ahead")
        later_train, later_test = (later_row(rows, horizon) for rows in (train, test))
        if not ((later_train >= 0).any() and (later_test >= 0).any()):
            # Every game is shorter.
            continue
        expected = embedder.expected(context, horizon)
        has_later = later_train >= 0
        later_raw = _standardised(frames.features[train], frames.features[later_train]).test
        columns = _mapped(raw, later_raw, has_later)
        embeddings = _mapped(embedding, embedder.now(frames.take(later_train).as_seen()), has_later)
        by_network = None
        if network_size:
            told(f"a network for columns {horizon} frames ahead")
            x, y = raw.train[has_later], later_raw[has_later]
            by_network = later_columns(x, y, chooses[has_later], raw.test, network_size)
        index = 1 + list(embedder.horizons).index(horizon)
        for target in targets:
            head = target.head
            ours = heads.select([head.name])
            future = target.at(later_train)
            linear = {
                LATER_COLUMNS: (on_raw[head.name], columns),
                **({} if by_network is None else {LATER_COLUMNS_NETWORK: (on_raw[head.name], by_network)}),
                LABELLED_RAW: (_fit(head, raw.train, future, chooses), raw.test),
                LABELLED_EMBEDDING: (_fit(head, embedding.train, future, chooses), embedding.test),
            }
            lines = {
                OURS: ours.values(expected, index),
                PERSISTENCE: ours.values(embedding.test, 0),
                LATER_EMBEDDING: ours.values(embeddings, 0),
                **{name: _answers(head, fit, rows) for name, (fit, rows) in linear.items() if fit is not None},
            }
            if trees:
                told(f"trees for {head.name} {horizon} frames ahead")
                grown = tree_values(head, raw.train, future, raw.test)
                lines |= {} if grown is None else {LABELLED_TREES: grown}
            truth = target.at(later_test)
            found[head.name][horizon] = dict(_compared(head, lines, truth, frames.episode[test]))
    return found


def _compared(head: Head, lines: dict[str, Rows], truth: Rows, games: Indices) -> Iterator[tuple[str, Compared]]:
    known = ~np.isnan(truth)
    masks = [known & (games == game) for game in np.unique(games)]

    def by_game(values: Rows) -> NDArray[np.float64]:
        if head.kind == "number":
            return np.full(len(masks), np.nan)
        # Of a game with too few rows, `ranking` is NaN.
        return np.array([ranking(head.kind, values[mask], truth[mask]) for mask in masks])

    ours = by_game(lines[OURS])
    for name, values in lines.items():
        yield name, Compared(measures(head.kind, values[known], truth[known]), ours - by_game(values))


def _standardised(train: Rows, test: Rows) -> Parts:
    """By the training rows, clipped as probes clip."""
    centre, spread = train.mean(0), train.std(0)
    spread = np.where(spread < 1e-6, 1, spread)
    both = [np.clip((rows - centre) / spread, -PROBE_CLIP, PROBE_CLIP).astype(np.float32) for rows in (train, test)]
    return Parts(*both)


def _mapped(parts: Parts, then: Rows, has_later: NDArray[np.bool_]) -> Rows:
    """What a linear map from rows to later rows [n, D], learned where there are such, expects of the test rows."""
    x, y = parts.train[has_later], then[has_later]
    centre, level = x.mean(0), y.mean(0)
    x = x - centre
    gram = (x.T @ x).astype(np.float64) + MAP_PENALTY * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (y - level)).astype(np.float32)
    expected: Rows = (parts.test - centre) @ weights + level
    return expected


def _choosing(games: Indices) -> NDArray[np.bool_]:
    """[n] the rows of some training games, or some stretches of a single one."""
    of = np.unique(games, return_inverse=True)[1]
    if not of.any():
        of = np.arange(len(games)) * (STRETCHES * CHOOSING) // len(games)
    chooses: NDArray[np.bool_] = of % min(CHOOSING, of.max() + 1) == 0
    return chooses


def _fit(head: Head, x: Rows, y: Rows, chooses: NDArray[np.bool_]) -> Linear | None:
    """A head with the penalty that does best on the rows that choose it, and then learned from all; None where there
    are too few labels."""
    try:
        chosen = fit_linear(head, x[~chooses], y[~chooses], x[chooses], y[chooses])
    except ValueError:
        return None
    return fit_linear(head, x, y, x[chooses], y[chooses], (chosen.penalty,))


def _answers(head: Head, linear: Linear, x: Rows) -> Rows:
    plain = np.tile(np.array(STRAIGHT, np.float32), (1, len(head.outputs), 1))
    return Heads((head,), linear.weights, linear.biases, plain).values(x, 0)
