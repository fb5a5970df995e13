"""Whether novelty finds what a model does not know: two columns swapped, and characters or stages left out.

    .venv/bin/python -m benchmarks.lab.novelty melee287_train.parquet --labels y_own_char y_opp_char y_stage

Swapped columns: in each try, two columns that vary are exchanged in 60 frames of a held-out game whose labels training
knew. The quantiles are those of half of these games, the tries and usual stretches of the other half, and the other way
round. A try is found if the stretch is above so many percent by the novelty of its frames, the mean, or by how badly
its columns fit each other, both as the service counts them. A try whose frames are the same afterwards, as where both
columns are 0 throughout, is counted apart. Of what is found by the columns, those that are named are counted.

Left out: mean and covariance are fitted without the games of one class of a label, and its five-second windows told
from those of held-out games (ROC AUC). The encoder itself has seen that class, so this says what the distance can do
with a known space; `benchmarks.lab.unknown` trains encoders that have not.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from app.telemetry.novelty import ODD_PERCENTILE
from app.telemetry.odd_rows import MAX_ROWS
from bundle.folders import locate
from bundle.misfits import Misfits, misfits
from bundle.novelty import Judged, Novelty
from bundle.reader import Bundle, read_bundle
from cli.embedding import BundleEmbedder
from model.data.frames import Frames, read_frames
from model.data.splits import split_rows

SOON_FRAMES, WINDOW_FRAMES = 60, 300
# Percentiles above which a stretch is found.
LIMITS = (90, 95, 99)
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
    """Of tries [n]: the two columns, which tries changed a number at all, and what the service would say of each; and
    of usual stretches [m]."""

    pairs: NDArray[np.int64]  # [n, 2]
    changed: NDArray[np.bool_]
    novelty: Rows
    columns: Rows
    named: list[Misfits | None]  # None where columns are not named
    usual_novelty: Rows
    usual_columns: Rows


def swaps_of(bundle: Bundle, novelty: Novelty, frames: Frames, rows: NDArray[np.int64], tries: int) -> Swaps:
    """In frames of `rows` [n], which lie game by game."""
    embedder, rng, measure = BundleEmbedder(bundle), np.random.default_rng(0), novelty.columns
    if measure is None:
        raise ValueError("the columns have no measure; give rows of at most 1,024 columns")

    def judged(features: Rows) -> Judged:
        return novelty.judge(novelty.percentiles(embedder.now(features)), features)

    def by_columns(oddities: Rows) -> Rows:
        return measure.percentiles(oddities).astype(np.float32)

    features, games = frames.features[rows], frames.episode[rows]
    varying = np.flatnonzero(features.std(0) > 0)
    starts = np.flatnonzero(games[:-SOON_FRAMES] == games[SOON_FRAMES:])
    parts, pairs, changed = [], [], []
    for _ in range(tries):
        start = rng.choice(starts)
        part = features[start : start + SOON_FRAMES].copy()
        one, other = np.sort(rng.choice(varying, 2, replace=False))
        pairs.append((one, other))
        changed.append(bool((part[:, one] != part[:, other]).any()))
        part[:, [one, other]] = part[:, [other, one]]
        parts.append(part)
    found, usual = judged(np.concatenate(parts)), judged(features)
    assert found.oddities is not None
    assert usual.oddities is not None
    oddities = found.oddities.reshape(tries, SOON_FRAMES)
    columns = by_columns(oddities.mean(1))
    limit = measure.quantiles[ODD_PERCENTILE]
    return Swaps(
        np.array(pairs),
        np.array(changed),
        found.percentiles.reshape(tries, SOON_FRAMES).mean(1),
        columns,
        [
            misfits(measure, part[odd > limit][-MAX_ROWS:]) if percentile >= ODD_PERCENTILE else None
            for part, odd, percentile in zip(parts, oddities, columns, strict=True)
        ],
        means(usual.percentiles, games, SOON_FRAMES),
        by_columns(means(usual.oddities, games, SOON_FRAMES)),
    )


def swaps_found(
    bundle: Bundle, frames: Frames, train: NDArray[np.int64], rows: NDArray[np.int64], tries: int
) -> Iterator[Swaps]:
    """For either half of the games of `rows`, by the quantiles of the other half."""
    embedder, games = BundleEmbedder(bundle), np.unique(frames.episode[rows])
    learned = frames.features[train]
    is_first = np.isin(frames.episode[rows], np.random.default_rng(0).permutation(games)[: len(games) // 2])
    for judged, quantiles in ((rows[is_first], rows[~is_first]), (rows[~is_first], rows[is_first])):
        others = frames.features[quantiles]
        novelty = Novelty.fit(embedder.now(learned), embedder.now(others), (learned, others))
        yield swaps_of(bundle, novelty, frames, judged, tries // 2)


def summary(parts: Sequence[Swaps]) -> Iterator[str]:
    changed = np.concatenate([part.changed for part in parts])
    yield f"{len(changed)} swaps, of which {changed.sum()} change a frame"
    for what, found, usual in (
        ("novelty", [part.novelty for part in parts], [part.usual_novelty for part in parts]),
        ("columns", [part.columns for part in parts], [part.usual_columns for part in parts]),
    ):
        for limit in LIMITS:
            yield (
                f"{what} of {limit} or more: {(np.concatenate(found)[changed] >= limit).sum()} of these, and "
                f"{(np.concatenate(usual) >= limit).mean():.2%} of usual stretches"
            )
    told = [
        (set(pair.tolist()), named)
        for part in parts
        for pair, named in zip(part.pairs, part.named, strict=True)
        if named is not None
    ]
    counts = (
        ("the first that is named is one of the two", [pair & set(named.columns[:1]) for pair, named in told]),
        ("one of the two is among the misfits", [pair & set(named.columns) for pair, named in told]),
        ("a swap is named", [named.swap for _, named in told]),
        ("and it is the right one", [named.swap and pair == set(named.swap) for pair, named in told]),
        ("one of the two is named", [pair & {*named.columns, *(named.swap or ())} for pair, named in told]),
    )
    for what, each in counts:
        yield f"of {len(told)} that are named: {what}: {sum(map(bool, each))}"


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
        distances = Novelty.fit(embeddings[kept], embeddings[known]).distances(embeddings)
        yield int(value), auc_of_windows(distances, games, known, train & of_class)


def auc_of_windows(values: Rows, games: NDArray[np.int64], known: NDArray[np.bool_], far: NDArray[np.bool_]) -> float:
    """How well five-second windows of the rows `far` are told from those of `known` by the mean of their values."""
    windows = [means(values[part], games[part], WINDOW_FRAMES) for part in (far, known)]
    return float(roc_auc_score(np.repeat([1, 0], [*map(len, windows)]), np.concatenate(windows)))


def beginnings(frames: Frames) -> NDArray[np.int64]:
    """The rows of a stretch at the beginning of each game, so that windows are of frames in a row."""
    return np.concatenate(
        [np.flatnonzero(frames.episode == game)[: 10 * WINDOW_FRAMES] for game in np.unique(frames.episode)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--labels", nargs="+", default=[])
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--rows", type=int, default=60_000, help="of training that the measures are fitted on")
    given = parser.parse_args()
    bundle = read_bundle(locate("default"))
    frames = read_frames(given.data, labels=given.labels, like=bundle.manifest.feature_schema)
    train, held_out = split_rows(frames)
    known = known_games(frames, np.asarray(train), np.asarray(held_out))
    print(f"{len(np.unique(frames.episode[known]))} of {len(np.unique(frames.episode[held_out]))} games are known")
    drawn = np.sort(train.drawn(given.rows, np.random.default_rng(0)))
    for line in summary(list(swaps_found(bundle, frames, drawn, known, given.tries))):
        print(line)
    rows = beginnings(frames)
    rows = rows[np.isin(rows, train) | np.isin(rows, held_out)]
    embeddings = BundleEmbedder(bundle).now(frames.features[rows])
    for label in given.labels:
        aucs = dict(told_apart(embeddings, frames.labels[label][rows], frames.episode[rows], np.isin(rows, train)))
        for value, auc in aucs.items():
            print(f"{label} {value}: AUC {auc:.3f}")
        print(f"{label}: mean AUC {np.mean([*aucs.values()]):.3f} over {len(aucs)} classes")


if __name__ == "__main__":
    main()
