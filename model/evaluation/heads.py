"""Fits linear heads to frozen embeddings of present frames, and calibrates what the predictor's output says of later
ones: the head itself labels the later frames, so that takes no labels of the future."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from bundle.heads import Head, Heads, Kind
from model.data.frames import Frames
from model.data.splits import looking_ahead
from model.evaluation.calibration import calibrate, steps
from model.evaluation.measures import Measures, measures
from model.evaluation.targets import MIN_LABELLED_ROWS, Target

Rows = NDArray[np.float32]
Indices = NDArray[np.int64]
# Weights [D, K] and biases [K] of standardised dimensions, their penalty, and their loss on held-out rows.
Step = tuple[NDArray[Any], NDArray[Any], float, float]

# L2 penalties on the weights of standardised dimensions beside the summed loss; the one whose head is best on held-out
# games is taken, from the strongest on.
PENALTIES = (10_000.0, 1000.0, 100.0, 10.0, 1.0)
# How much less likely a class without a training row is than the others.
ABSENT_LOG_ODDS = 10.0
# The scale, the shift, the bend and the knee of an output that is not calibrated.
STRAIGHT = (1, 0, 0, 0)
# Parts of the held-out games; the table of each part is made with a calibration from the others.
FOLDS = 5


class Embedder(Protocol):
    """The graphs of a bundle on any number of rows."""

    @property
    def horizons(self) -> Sequence[int]:
        """Frames ahead, in the order of the manifest."""

    def now(self, features: Rows) -> Rows:
        """[n, C] → [n, D] by the target encoder."""

    def context(self, features: Rows) -> Rows:
        """[n, C] → [n, D] by the context encoder."""

    def expected(self, context: Rows, horizon: int) -> Rows:
        """[n, D] of the context encoder → [n, D] by the predictor."""


class Linear(NamedTuple):
    """A head before calibration."""

    weights: Rows  # [D, K]
    biases: Rows  # [K]
    penalty: float


@dataclass(frozen=True)
class Fit:
    """Heads, and for each how well it did on held-out games: by its place among the heads, and by the horizon."""

    heads: Heads
    tables: list[dict[int, Measures]]
    penalties: list[float]


@dataclass(frozen=True)
class HeldOut:
    """What heads say of held-out frames at one horizon, and what came."""

    scores: Rows  # [n, O] before calibration
    wanted: Rows  # [n, O] what they are calibrated to, NaN where that is not known
    truth: Rows  # [n, heads] the labels, NaN where there is none
    games: Indices  # [n]


def fit_heads(
    targets: Sequence[Target],
    frames: Frames,
    train: Indices,
    held_out: Indices,
    embedder: Embedder,
    told: Callable[[str], None] = lambda _: None,
) -> Fit:
    """Heads fitted on the rows `train`, and chosen, calibrated and measured on the rows `held_out`."""
    x, held_x = embedder.now(frames.take(train).as_seen()), embedder.now(frames.take(held_out).as_seen())
    fitted = []
    for target in targets:
        told(target.head.name)
        fitted.append(fit_linear(target.head, x, target.at(train), held_x, target.at(held_out)))
    outputs = sum(len(target.head.outputs) for target in targets)
    calibration = np.tile(np.array(STRAIGHT, np.float32), (1 + len(embedder.horizons), outputs, 1))
    heads = Heads(
        tuple(target.head for target in targets),
        np.concatenate([each.weights for each in fitted], axis=1),
        np.concatenate([each.biases for each in fitted]),
        calibration,
    )
    tables: list[dict[int, Measures]] = [{} for _ in targets]
    now = HeldOut(heads.raw(held_x), one_hot(targets, held_out), truths(targets, held_out), frames.episode[held_out])
    calibration[0] = _calibrated(heads, now, 0, tables)
    rules = _rules(heads, now)
    context, later_row = embedder.context(frames.take(held_out).as_seen()), looking_ahead(frames)
    for index, horizon in enumerate(embedder.horizons, 1):
        told(f"{horizon} frames ahead")
        ahead = later_row(held_out, horizon)
        rows = np.flatnonzero(ahead >= 0)
        if not len(rows):
            raise ValueError(f"no held-out row has a frame {horizon} later in its episode; give longer games")
        later = HeldOut(
            heads.raw(embedder.expected(context[rows], horizon)),
            _own_answers(heads, rules, embedder.now(frames.take(ahead[rows]).as_seen())),
            truths(targets, ahead[rows]),
            frames.episode[held_out[rows]],
        )
        # At horizon 0 a table may have the labels of the same frames already.
        calibration[index] = _calibrated(heads, later, horizon, tables)
    return Fit(replace(heads, calibration=calibration), tables, [each.penalty for each in fitted])


def fit_linear(
    head: Head, x: Rows, y: Rows, held_x: Rows, held_y: Rows, penalties: Sequence[float] = PENALTIES
) -> Linear:
    """From embeddings [n, D] and labels [n], NaN for none; the penalty is chosen on those held out."""
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    if not len(y):
        raise ValueError(f"'{head.name}' has no label in the training rows")
    centre, spread = x.mean(0), np.maximum(x.std(0), 1e-6)
    known = ~np.isnan(held_y)
    if known.sum() < MIN_LABELLED_ROWS:
        raise ValueError(f"'{head.name}' has {known.sum()} labels in the held-out rows; it needs {MIN_LABELLED_ROWS}")
    held_x, held_y = (held_x[known] - centre) / spread, held_y[known]
    paths = _ridge_path if head.kind == "number" else _logistic_path
    best, least = None, np.inf
    for weights, biases, penalty, loss in paths((x - centre) / spread, y, held_x, held_y, len(head.outputs), penalties):
        if loss < least:
            best, least = Linear(weights / spread[:, None], biases - centre / spread @ weights, penalty), loss
        else:
            # Weaker penalties only fit the training games better.
            break
    assert best is not None
    return Linear(best.weights.astype(np.float32), best.biases.astype(np.float32), best.penalty)


def _logistic_path(
    x: Rows, y: Rows, held_x: Rows, held_y: Rows, outputs: int, penalties: Sequence[float]
) -> Iterator[Step]:
    if len(np.unique(y)) < 2:
        raise ValueError("one class only in the training rows")
    # Newton's method takes few steps, but the square of the number of weights in memory.
    solver = "newton-cholesky" if outputs == 1 else "lbfgs"
    model = LogisticRegression(solver=solver, max_iter=200, tol=1e-4, warm_start=True)
    for penalty in penalties:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=1 / penalty).fit(x, y)
        weights, biases = model.coef_.T, model.intercept_
        if outputs > 1:
            weights, biases = _of_all_classes(model, outputs)
        yield weights, biases, penalty, _log_loss(held_x @ weights + biases, held_y)


def _of_all_classes(model: LogisticRegression, outputs: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """[D, K] and [K]; a class that the training rows lack is as good as impossible."""
    weights, biases = model.coef_.T, model.intercept_
    if len(model.classes_) == 2:
        # Of two classes the solver has the second alone.
        weights, biases = np.hstack([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
    places = model.classes_.astype(int)
    whole, levels = np.zeros((len(weights), outputs)), np.full(outputs, biases.min() - ABSENT_LOG_ODDS)
    whole[:, places], levels[places] = weights, biases
    return whole, levels


def _log_loss(scores: NDArray[Any], truth: Rows) -> float:
    """Of scores [n, K] for labels [n]; one column if they are those of the second of two classes."""
    if scores.shape[1] == 1:
        return float(np.mean(np.logaddexp(0, scores[:, 0]) - truth * scores[:, 0]))
    chosen = scores[np.arange(len(truth)), truth.astype(int)]
    return float(np.mean(np.logaddexp.reduce(scores, axis=1) - chosen))


def _ridge_path(x: Rows, y: Rows, held_x: Rows, held_y: Rows, _: int, penalties: Sequence[float]) -> Iterator[Step]:
    level = y.mean(dtype=np.float64)
    gram, moment = (x.T @ x).astype(np.float64), x.T @ (y - level)
    for penalty in penalties:
        weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), moment)[:, None]
        loss = float(np.square(held_x @ weights[:, 0] + level - held_y).mean())
        yield weights, np.array([level]), penalty, loss


def _rules(heads: Heads, now: HeldOut) -> dict[int, IsotonicRegression]:
    """By the column of each binary head, what makes probabilities of its scores. They label later frames, so an error
    of theirs would be learned at every horizon; the four numbers of a calibration leave one, and steps hardly any."""
    rules = {}
    for head, span in spans(heads):
        if head.kind == "binary":
            known = ~np.isnan(now.wanted[:, span.start])
            rules[span.start] = steps(now.scores[known, span.start], now.wanted[known, span.start])
    return rules


def _own_answers(heads: Heads, rules: dict[int, IsotonicRegression], embeddings: Rows) -> Rows:
    """[n, D] → [n, O]: what heads say of later frames."""
    scores = heads.raw(embeddings)
    values = heads.from_raw(scores, 0)
    for column, rule in rules.items():
        values[:, column] = rule.predict(scores[:, column])
    return values


def _calibrated(heads: Heads, held_out: HeldOut, horizon: int, tables: list[dict[int, Measures]]) -> Rows:
    """[O, 4] of one horizon, and the tables with that horizon."""
    whole = np.empty((len(heads.biases), len(STRAIGHT)), np.float32)
    values = np.empty_like(held_out.scores)
    for head, span in spans(heads):
        whole[span] = _of_head(head.kind, held_out, span, np.ones(len(held_out.games), bool))
    for part in folds(held_out.games):
        fold = np.empty_like(whole)
        for head, span in spans(heads):
            fold[span] = _of_head(head.kind, held_out, span, ~part)
        crossed = replace(heads, calibration=fold[None])
        values[part] = crossed.from_raw(held_out.scores[part], 0)
    for place, (head, span) in enumerate(spans(heads)):
        truth = held_out.truth[:, place]
        known = ~np.isnan(truth)
        found = measures(head.kind, values[known, span], truth[known])
        tables[place].setdefault(horizon, found)
    return whole


def _of_head(kind: Kind, held_out: HeldOut, span: slice, rows: NDArray[np.bool_]) -> Rows:
    wanted = held_out.wanted[:, span]
    rows = rows & ~np.isnan(wanted).any(axis=1)
    return calibrate(held_out.scores[rows, span], wanted[rows], kind)


def spans(heads: Heads) -> list[tuple[Head, slice]]:
    """The heads with their columns among the outputs."""
    stops = np.cumsum([len(head.outputs) for head in heads.heads]).tolist()
    return [(head, slice(stop - len(head.outputs), stop)) for head, stop in zip(heads.heads, stops, strict=True)]


def folds(games: Indices) -> list[NDArray[np.bool_]]:
    """Masks [n] of parts that have whole games each; of one game alone, stretches of it."""
    names = np.unique(games)
    of = np.searchsorted(names, games) if len(names) > 1 else np.arange(len(games)) * FOLDS // len(games)
    count = min(FOLDS, of.max() + 1)
    return [of % count == part for part in range(count)]


def truths(targets: Sequence[Target], rows: Indices) -> Rows:
    """[n, heads], NaN where a row has no label."""
    return np.stack([target.at(rows) for target in targets], axis=1)


def one_hot(targets: Sequence[Target], rows: Indices) -> Rows:
    """[n, O]: numbers and answers of binary heads as they are, classes as 0 and 1; NaN where there is no label."""
    columns = []
    for target in targets:
        labels = target.at(rows)[:, None]
        if target.head.kind == "classes":
            places = np.arange(len(target.head.outputs))
            labels = np.where(np.isnan(labels), np.nan, labels == places)
        columns.append(labels)
    return np.concatenate(columns, axis=1).astype(np.float32)
