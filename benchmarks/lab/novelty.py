"""Whether novelty finds what a model does not know: two columns swapped, and characters or stages left out.

    .venv/bin/python -m benchmarks.lab.novelty melee287_train.parquet --labels y_own_char y_opp_char y_stage

Swapped columns: in each try, two columns that vary are exchanged in 60 frames of a held-out game whose labels training
knew, and found if the mean novelty of these frames, in percent, is above that of 90 or 99 of 100 usual stretches of
such games. A try whose frames are the same afterwards, as where both columns are 0 throughout, is counted apart. Left
out: mean and covariance are fitted without the games of one class of a label, and its five-second windows told from
those of held-out games (ROC AUC). The encoder itself has seen that class, so this says what the distance can do with a
known space.
"""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from app.settings import DEFAULT_MODEL
from bundle.folders import locate
from bundle.novelty import Novelty
from bundle.reader import Bundle, read_bundle
from cli.embedding import BundleEmbedder
from model.data.frames import Frames, read_frames
from model.data.splits import split_rows

SOON_FRAMES, WINDOW_FRAMES = 60, 300
SHARES = (0.9, 0.99)
# A class needs as many games to be left out, and as many rows of other classes to remain.
MIN_GAMES, MIN_ROWS = 2, 1000

Rows = NDArray[np.float32]


def means(values: Rows, games: NDArray[np.int64], length: int) -> Rows:
    """[n] → the mean of each full stretch of `length` rows within a game, end to end."""
    found = [
        values[games == game][: (games == game).sum() // length * length].reshape(-1, length).mean(1)
        for game in np.unique(games)
    ]
    return np.concatenate(found)


class Swaps(NamedTuple):
    """Of so many tries: how many changed a number at all, more than half of the frames, and how many of each kind were
    found, by the share of usual stretches that they must be above."""

    tries: int
    changed: int
    mostly_changed: int
    found: dict[float, tuple[int, int, int]]


def swaps_found(bundle: Bundle, frames: Frames, rows: NDArray[np.int64], tries: int, *, by_columns: bool) -> Swaps:
    """Of frames in `rows` [n], which lie game by game; `by_columns` says whether these count or the embedding alone."""
    embedder, novelty, rng = BundleEmbedder(bundle), bundle.novelty, np.random.default_rng(0)
    assert novelty is not None

    def percentiles(features: Rows) -> Rows:
        found = novelty.percentiles(embedder.now(features))
        return novelty.with_columns(found, features) if by_columns else found

    features, games = frames.features[rows], frames.episode[rows]
    stretches = means(percentiles(features), games, SOON_FRAMES)
    varying = np.flatnonzero(features.std(0) > 0)
    starts = np.flatnonzero(games[:-SOON_FRAMES] == games[SOON_FRAMES:])
    parts, changed = [], []
    for _ in range(tries):
        start = rng.choice(starts)
        part = features[start : start + SOON_FRAMES].copy()
        one, other = rng.choice(varying, 2, replace=False)
        changed.append(float((part[:, one] != part[:, other]).mean()))
        part[:, [one, other]] = part[:, [other, one]]
        parts.append(part)
    novelties = percentiles(np.concatenate(parts)).reshape(tries, SOON_FRAMES).mean(1)
    kinds = np.ones(tries, bool), np.array(changed) > 0, np.array(changed) > 0.5
    found = {}
    for share in SHARES:
        stands_out = novelties > np.quantile(stretches, share)
        every, some, most = (int((stands_out & kind).sum()) for kind in kinds)
        found[share] = every, some, most
    return Swaps(tries, int(kinds[1].sum()), int(kinds[2].sum()), found)


def known_games(frames: Frames, train: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of games that have no class of a label which training lacks."""
    strange = np.zeros(len(rows), bool)
    for values in frames.labels.values():
        strange |= ~np.isin(values[rows], np.unique(values[train]))
    return rows[~np.isin(frames.episode[rows], frames.episode[rows][strange])]


def told_apart(
    embeddings: Rows, classes: NDArray[np.int64], games: NDArray[np.int64], train: NDArray[np.bool_]
) -> Iterator[tuple[int, float]]:
    """Each class of the training games that some of them have and others have not, with the AUC of its windows against
    those of the held-out games without it."""
    for value in np.unique(classes[train & (classes >= 0)]):
        of_class = np.isin(games, games[classes == value])
        kept, known = train & ~of_class, ~train & ~of_class
        if len(np.unique(games[train & of_class])) < MIN_GAMES or min(kept.sum(), known.sum()) < MIN_ROWS:
            continue
        novelty = Novelty.fit(embeddings[kept], embeddings[known])
        far, near = (
            means(novelty.distances(embeddings[part]), games[part], WINDOW_FRAMES) for part in (train & of_class, known)
        )
        yield int(value), float(roc_auc_score(np.repeat([1, 0], [len(far), len(near)]), np.concatenate([far, near])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--labels", nargs="+", default=[])
    parser.add_argument("--tries", type=int, default=100)
    given = parser.parse_args()
    bundle = read_bundle(locate("default", DEFAULT_MODEL))
    frames = read_frames(given.data, labels=given.labels, like=bundle.manifest.feature_schema)
    train, held_out = split_rows(frames)
    known = known_games(frames, np.asarray(train), np.asarray(held_out))
    print(f"{len(np.unique(frames.episode[known]))} of {len(np.unique(frames.episode[held_out]))} games are known")
    for by_columns in (False, True):
        swaps = swaps_found(bundle, frames, known, given.tries, by_columns=by_columns)
        print("by the embedding or the columns:" if by_columns else "by the embedding:")
        for share, (every, some, most) in swaps.found.items():
            print(
                f"{every} of {swaps.tries} swaps found in {SOON_FRAMES} frames, above {share:.0%} of usual stretches: "
                f"{some} of {swaps.changed} that change a frame, {most} of {swaps.mostly_changed} that change most"
            )
    # A stretch of each game's beginning, so that windows are of frames in a row.
    rows = np.concatenate(
        [np.flatnonzero(frames.episode == game)[: 10 * WINDOW_FRAMES] for game in np.unique(frames.episode)]
    )
    rows = rows[np.isin(rows, train) | np.isin(rows, held_out)]
    embeddings = BundleEmbedder(bundle).now(frames.features[rows])
    for label in given.labels:
        aucs = dict(told_apart(embeddings, frames.labels[label][rows], frames.episode[rows], np.isin(rows, train)))
        for value, auc in aucs.items():
            print(f"{label} {value}: AUC {auc:.3f}")
        print(f"{label}: mean AUC {np.mean([*aucs.values()]):.3f} over {len(aucs)} classes")


if __name__ == "__main__":
    main()
