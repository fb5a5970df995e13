"""How much of what a bundle's predictor knows does a linear probe read off?

    OMP_NUM_THREADS=1 python -m benchmarks.lab.readout melee287_train.parquet --keep FOLDER

Probes on what the predictor says of later frames when it is told the inputs of the player: of the frame AHEAD, and of
that and later ones side by side. How strongly a probe is regularised is chosen on every fourth of the games that it
learns from. ROC AUC on validation games, and how far it is above the probe of `benchmarks.lab.actions`, which is
regularised by the same for all, paired by game.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.lab.actions import AHEAD, Asked, Rows, Values, auc, forecasts
from benchmarks.lab.frozen import Frozen, opened, session, some_games
from model.data.frames import read_frames
from model.data.ranges import Ranges
from model.data.splits import split_rows
from model.evaluation.probes import linear_probe

LABELS = ("own action, t+48", "opponent's action, t+48")
# Frames ahead whose embeddings stand side by side.
VIEWS = ((AHEAD,), (AHEAD, 30), (AHEAD, 30, 60))
STRENGTHS = (100.0, 1000.0, 3000.0)
EVERY_GAME = 4


def probe(values: Values, labels: Rows, strength: float) -> Pipeline:
    """Multinomial logistic regression with that weight of L2."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / strength, max_iter=200)).fit(values, labels)


def scores(fitted: Pipeline, values: Values, labels: Rows) -> float:
    return auc(labels, fitted.predict_proba(values), fitted.classes_)


def chosen_strength(values: Values, labels: Rows, games: Rows) -> float:
    """The weight of L2 by which the other games tell most of those that are held out."""
    held_out = np.isin(games, np.unique(games)[::EVERY_GAME])
    found = [
        scores(probe(values[~held_out], labels[~held_out], each), values[held_out], labels[held_out])
        for each in STRENGTHS
    ]
    return STRENGTHS[int(np.argmax(found))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--keep", type=Path, required=True, help="folder for embeddings")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--games", type=int, default=36, help="to learn from")
    parser.add_argument("--rows", type=int, default=24_000, help="that the probes learn on, and are tested on")
    options = parser.parse_args()
    frames, bundle = read_frames(options.data, labels=["y_*"]), opened(options.bundle)
    train, val = split_rows(frames)
    train = some_games(frames, train, options.games)
    frozen = Frozen(frames, bundle, options.keep, max_actions=24)
    parts = [(frozen.views[0], Ranges.joined([train, val]))]
    fit, test = (Asked(frozen, rows, options.rows, parts) for rows in (train, val))
    predictor = session(bundle, "predictor")

    def view(asked: Asked, horizons: tuple[int, ...]) -> Values:
        return np.hstack([forecasts(predictor, asked.context, asked.actions, horizon) for horizon in horizons])

    names = {"frames " + " and ".join(map(str, horizons)): horizons for horizons in VIEWS}
    learned = {name: view(fit, horizons) for name, horizons in names.items()}
    tested = {name: view(test, horizons) for name, horizons in names.items()}
    learned["the frame itself"], tested["the frame itself"] = (
        np.asarray(each.target[each.later], np.float32) for each in (fit, test)
    )
    for label in LABELS:
        known, asked = fit.labels[label] >= 0, test.labels[label] >= 0
        labels, truth, games = fit.labels[label][known], test.labels[label][asked], test.games[asked]

        def by_game(fitted: Pipeline, values: Values, truth: Rows = truth, games: Rows = games) -> Values:
            return np.array([scores(fitted, values[games == one], truth[games == one]) for one in np.unique(games)])

        first = next(iter(names))
        base = by_game(linear_probe(learned[first][known], labels), tested[first][asked])
        for name, values in learned.items():
            strength = chosen_strength(values[known], labels, fit.games[known])
            fitted = probe(values[known], labels, strength)
            above = by_game(fitted, tested[name][asked]) - base
            error = above.std(ddof=1) / len(above) ** 0.5
            print(f"{label}, {name}: {scores(fitted, tested[name][asked], truth):.3f}, by L2 of {strength:g};", end=" ")
            print(f"above {above.mean():+.4f} ± {error:.4f}, {(above > 0).sum()} games up", flush=True)


if __name__ == "__main__":
    main()
