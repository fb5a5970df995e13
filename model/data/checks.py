"""What is wrong with the frames given, in sentences that say what to do: unnoticed, it would end in a model that has
learned nothing."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.columns import (
    DEAD_STD,
    KINDS,
    MAX_SHARE_OUTSIDE,
    ROWS_AT_ONCE,
    Kind,
    RowSource,
    Statistics,
    TrainingColumns,
    findings,
)
from model.data.frames import Frames
from model.data.ranges import Ranges, distinct
from model.data.timeline import Timeline

# Repetitions and leaks are looked for in a sample of this many rows.
SAMPLE_ROWS = 20_000
# Columns that only count up are looked for in this many episodes, and not in fewer steps than this: by chance a column
# rises a few times on end.
COUNTED_EPISODES = 20
MIN_COUNTED_ROWS = 30
# Games are compared by this many of their rows.
ROWS_OF_A_GAME = 8
# A sentence names this many columns or episodes and only counts the rest.
MAX_NAMED = 5

Rows = NDArray[np.float32]


def check_trainable(frames: Frames, rows: Ranges, statistics: Statistics, horizons: Sequence[int]) -> None:
    """ValueError if the training rows are all one row, or their frame numbers can't be what they should be."""
    if (statistics["min"] == statistics["max"]).all():
        raise ValueError(
            f"all {len(rows):,} training rows are the same row, so there is nothing to learn; check the recording"
        )
    if frames.frame is None:
        return
    timeline = Timeline(frames.episode, frames.frame, rows)
    if said := _repeated(frames, timeline):
        raise ValueError(said)
    stride = timeline.stride
    if odd := [horizon for horizon in horizons if horizon % stride]:
        raise ValueError(
            f"frame numbers rise by {stride} from row to row, and no row is {odd[0]} frames after another; choose "
            f"multiples of {stride}, such as --horizon {2 * stride} --horizon {8 * stride}"
        )


def repeated_frames(frames: Frames) -> list[str]:
    """Which rows have the frame number of another row of their game, in a sentence; nothing is learned from such
    data."""
    if frames.frame is None:
        return []
    said = _repeated(frames, Timeline(frames.episode, frames.frame))
    return [said] if said else []


def _repeated(frames: Frames, timeline: Timeline) -> str | None:
    if (repeated := timeline.repeated()) is None:
        return None
    count, first = repeated
    return (
        f"{count:,} rows repeat a frame of their episode, first frame {first.before} of episode "
        f"{frames.called(first.episode)}; give every game, and every player's view of it, an 'episode' of its own"
    )


def repeated_games(frames: Frames) -> list[str]:
    """Which games are those of others once more, as a few rows of each show, in a sentence."""
    if frames.frame is None:
        return []
    timeline = Timeline(frames.episode, frames.frame)
    lengths, rows = timeline.lengths(), timeline.spread(ROWS_OF_A_GAME)
    found: dict[bytes, int] = {}
    copies: list[tuple[int, int]] = []
    for at, episode in enumerate(timeline.episodes.tolist()):
        digest = hashlib.sha256(np.ascontiguousarray(frames.features[rows[at]]).data)
        digest.update(lengths[at].tobytes())
        if (first := found.setdefault(digest.digest(), episode)) != episode and lengths[at]:
            copies.append((episode, first))
    if not copies:
        return []
    copy, original = (frames.called(each) for each in copies[0])
    return [
        f"{len(copies):,} of {len(timeline.episodes):,} games are the same as others, first {copy} as {original}: if "
        "one of the two is held out, it is known by heart, and every figure will look too good; leave copies out"
    ]


def training_warnings(
    frames: Frames, rows: Ranges, statistics: Statistics, horizons: Sequence[int], batch_size: int
) -> list[str]:
    """What may spoil a run that can start over the training rows; empty if nothing does."""
    found = [
        *_dead_columns(frames, statistics),
        *_repeated_row(frames.features[_sample(rows)], len(rows)),
        *leaked_labels(frames),
    ]
    if len(rows) < batch_size:
        found.append(
            f"{len(rows):,} training rows are fewer than a batch of {batch_size:,}: every step sees them all and soon "
            "knows them by heart; record more games"
        )
    if frames.frame is not None:
        timeline = Timeline(frames.episode, frames.frame, rows)
        found += _short_episodes(frames, timeline, max(horizons))
        found += _gaps(frames, timeline)
    return found


def unlike_training(rows: RowSource, names: Sequence[str], statistics: Mapping[str, Sequence[float]]) -> list[str]:
    """How the columns of raw rows [n, C] differ from those that a model was trained on, whose `statistics` its bundle
    holds; empty if they don't, or if the bundle lacks some of these statistics."""
    training = TrainingColumns.of(statistics, len(names))
    if training is None:
        return []
    seen = training.summarise(rows)
    columns: dict[Kind, list[int]] = {kind: [] for kind in KINDS}
    for odd in findings(training, seen):
        columns[odd.kind].append(odd.column)
    found: list[str] = []
    if still := columns["still"]:
        found.append(
            f"{_named(names, still)} never changed in these {len(rows):,} rows but did in training; a single game may "
            "be so, in many games it means columns lost or filled with zeros on the way"
        )
    if woken := columns["woken"]:
        found.append(
            f"{_named(names, woken)} never changed in training, so the model takes no notice of them, but do here; "
            "train on games in which they change if they matter"
        )
    if outside := columns["outside"]:
        worst = max(outside, key=seen.share_outside.__getitem__)
        parts = (rows[start : start + ROWS_AT_ONCE][:, worst] for start in range(0, len(rows), ROWS_AT_ONCE))
        lowest, highest = np.array([(part.min(), part.max()) for part in parts]).T
        found.append(
            f"{_named(names, outside)} lie outside the range of training in over {MAX_SHARE_OUTSIDE:.0%} of the rows, "
            f"{names[worst]} in {seen.share_outside[worst]:.0%} (here {lowest.min():g} … {highest.max():g}, in "
            f"training {statistics['min'][worst]:g} … {statistics['max'][worst]:g}); look for other units or columns "
            "out of place"
        )
    return found


def leaked_labels(frames: Frames) -> list[str]:
    """The labels that are among the features under another name."""
    found = []
    sample = _sample(Ranges.all(len(frames)))
    for label, values in frames.labels.items():
        kept = sample[values[sample] >= 0]
        if len(np.unique(values[kept])) < 2:
            continue
        copies = np.flatnonzero((frames.features[kept] == values[kept, None]).all(0)).tolist()
        if copies:
            found.append(
                f"the label '{label}' is among the features too, as {_named(frames.schema.names, copies)}: a probe for "
                "it only reads the answer; leave such columns out, or give them names that start with y_"
            )
    return found


def counting_columns(frames: Frames) -> list[str]:
    """The columns that rise from every row of a game to the next, as a clock does, in a sentence."""
    if frames.independent:
        return []
    every = Ranges.all(len(frames))
    games = distinct(frames.episode, every)[:COUNTED_EPISODES]
    some = np.asarray(every.where(lambda part: np.isin(frames.episode[part], games)))
    counting, seen = np.ones(len(frames.schema.names), np.bool_), 0
    for game in games.tolist():
        rows = some[frames.episode[some] == game]
        order = rows if frames.frame is None else rows[np.argsort(frames.frame[rows], kind="stable")]
        counting &= (np.diff(frames.features[order], axis=0) > 0).all(0)
        seen += len(rows) - 1
    if seen < MIN_COUNTED_ROWS:
        return []
    columns = np.flatnonzero(counting).tolist()
    if not columns:
        return []
    name = frames.schema.names[columns[0]]
    way = "leave them out with --exclude unless the game shows them"
    if frames.frame is None:
        way = f"say --frame {name} if it counts the frames, and {way.replace('leave them', 'leave others')}"
    return [
        f"{_named(frames.schema.names, columns)} only count up within a game, as a clock or a row number does: what "
        f"is predicted from them is the time; {way}"
    ]


def _dead_columns(frames: Frames, statistics: Statistics) -> list[str]:
    dead = np.flatnonzero(statistics["std"] <= DEAD_STD).tolist()
    if not dead:
        return []
    return [
        f"{_named(frames.schema.names, dead)} never changed in the training rows and are silenced, now and when "
        "served; leave them out, or record games in which they change"
    ]


def _repeated_row(sample: Rows, rows: int) -> list[str]:
    _, counts = np.unique(
        np.ascontiguousarray(sample).view(f"V{sample.itemsize * sample.shape[1]}"), return_counts=True
    )
    share = counts.max() / len(sample)
    if share <= 0.5:
        return []
    return [
        f"{share:.0%} of the {rows:,} training rows are one and the same row; check whether the recording stood still, "
        "and leave such rows out"
    ]


def _short_episodes(frames: Frames, timeline: Timeline, horizon: int) -> list[str]:
    short = [frames.called(episode) for episode in timeline.episodes[timeline.lengths() < horizon].tolist()]
    if not short:
        return []
    return [
        f"{len(short)} of {len(timeline.episodes)} training episodes are no longer than the longest horizon, {horizon} "
        f"frames, and teach nothing ({_listed(short)}); choose a shorter --horizon to use them"
    ]


def _gaps(frames: Frames, timeline: Timeline) -> list[str]:
    if (gaps := timeline.gaps()) is None:
        return []
    count, episodes, first = gaps
    return [
        f"frame numbers jump {count:,} times within {episodes} training episodes, first from {first.before} to "
        f"{first.after} in episode {frames.called(first.episode)}; rows whose later frame is missing teach nothing, so "
        "record every frame"
    ]


def _sample(rows: Ranges) -> NDArray[np.int64]:
    if len(rows) <= SAMPLE_ROWS:
        return np.asarray(rows)
    return rows[np.random.default_rng(0).choice(len(rows), SAMPLE_ROWS, replace=False)]


def _named(names: Sequence[str], columns: Sequence[int]) -> str:
    return f"{len(columns)} of {len(names)} columns ({_listed([names[i] for i in columns])})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")
