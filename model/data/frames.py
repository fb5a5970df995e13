"""Frames of games, from a recording: features, episodes, splits, labels, actions and the feature schema."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bundle.columns import RowSource
from bundle.schema import Schema
from model.data import columns as of_column
from model.data.games import games
from model.data.gaps import Gaps, absent, fill
from model.data.matrix import MAX_IN_MEMORY_BYTES
from model.data.ranges import Ranges, distinct
from model.data.recordings import Recording, Source, recording
from model.data.roles import BY_EXCLUDE, LABEL_NAMES, Choices, Column
from model.data.rounding import Rounding
from model.data.selection import Part, Selection, labels_of, select
from model.data.shelf import Shelf
from model.data.symmetry import Symmetry, symmetries

# Those of a row, besides features and labels.
ARRAYS = ("episode", "frame", "split", "absent", "actions")


@dataclass(frozen=True)
class Frames:
    """Rows of games, in the order of the data.

    `frame` counts within an episode and is None if rows have no order; if the data has neither column, every row is an
    episode of its own. `labels` are by name, −1 where a row has none. `symmetries` are those of the data's layout.
    `roles` say what each column of the data is for, and `notes` what a user should know of how it was read.
    """

    features: RowSource  # [rows, columns] of float32
    schema: Schema
    episode: NDArray[np.int64]  # [rows]
    frame: NDArray[np.int64] | None = None  # [rows]
    split: NDArray[np.str_] | None = None  # [rows]
    labels: dict[str, NDArray[np.int64]] = field(default_factory=dict)  # each [rows]
    symmetries: tuple[Symmetry, ...] = ()
    # [rows, G] the groups that are hidden in a row since a number is missing, in whose place stands the column's mean.
    absent: NDArray[np.bool_] | None = None
    # [rows, A] the player's own inputs that stand in the row, NaN where they are not known. Each leads to the
    # frame of the next row ("before") or led to that of its own ("after").
    actions: NDArray[np.float32] | None = None
    action_names: tuple[str, ...] = ()
    actions_recorded: tuple[str, ...] = ()
    # What the data calls episodes 0, 1, …; empty where it numbers them itself.
    episode_names: tuple[str, ...] = ()
    roles: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()
    # Where the arrays are kept as mapped files, None where they are in memory.
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def independent(self) -> bool:
        """Whether every row is an episode of its own."""
        return self.frame is None and len(distinct(self.episode, Ranges.all(len(self)))) == len(self)

    def take(self, rows: NDArray[Any]) -> "Frames":
        """The frames at the given rows (indices or a mask)."""
        return replace(self.each(lambda _, values: values[rows]), features=self.features[rows], folder=None)

    def each(self, change: Callable[[str, NDArray[Any]], NDArray[Any]]) -> "Frames":
        """The frames with every array but the features, given under its name, as `change` returns it."""
        named = {name: getattr(self, name) for name in ARRAYS}
        arrays: dict[str, Any] = {name: None if each is None else change(name, each) for name, each in named.items()}
        labels = {label: change(f"label-{i}", each) for i, (label, each) in enumerate(self.labels.items())}
        return replace(self, **arrays, labels=labels)

    def as_seen(self, rows: slice | NDArray[np.int64] = slice(None)) -> NDArray[np.float32]:
        """[rows, columns] with NaN where a group is hidden, which is how a model's graphs are told."""
        seen = self.features[rows]
        if self.absent is None:
            return seen
        hidden = np.repeat(self.absent[rows], [group.width for group in self.schema.groups], axis=1)
        return np.where(hidden, np.float32(np.nan), seen)

    def called(self, episode: int) -> str:
        """The name of an episode in the data."""
        return self.episode_names[episode] if self.episode_names else str(episode)


def read_frames(
    source: Source,
    *,
    features: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    labels: str | Sequence[str] | None = None,
    actions: str | Sequence[str] | None = None,
    episode: str | None = None,
    frame: str | None = None,
    missing: str | None = None,
    like: Schema | None = None,
    means: Sequence[float] | None = None,
    folder: Path | None = None,
    in_memory_bytes: int = MAX_IN_MEMORY_BYTES,
) -> Frames:
    """Reads Parquet, CSV, Arrow, HDF5 or .npy/.npz from a file, a folder, a glob or several, or takes a DataFrame of
    pandas or polars, an Arrow table, a dict of arrays or an array.

    `features`, `exclude`, `labels` and `actions` are patterns of names, such as `ram_*`; see `roles.assign`. Labels
    hold whole numbers and must not be features as well; None reads those named y_* that do, to look for leaks. `like`,
    the schema of a model, picks the features by its names, and `means` [C] are those of its training, which stand in
    the place of missing numbers (None: the means of the data). `missing` is one of MISSING, refuse if not said. Rows of
    more than `in_memory_bytes` lie in files in `folder`, or (None) in temporary ones that last as long as the frames.
    """
    for option, name in {"episode": episode, "frame": frame}.items():
        if name is not None and not isinstance(name, str):
            raise ValueError(f"{option} is {name!r:.80}; it must be the name of a column, as text")
    data = recording(source, in_memory_bytes, episode)
    named = _patterns("labels", labels)
    said = Choices(
        features=_patterns("features", features) or (),
        exclude=_patterns("exclude", exclude) or (),
        labels=None if named == LABEL_NAMES else named,
        actions=_patterns("actions", actions) or (),
        episode=episode,
        frame=frame,
    ).over(data.told)
    chosen = select(data, said, like)
    gaps = Gaps(chosen.schema.names, data.told.get("missing", "refuse") if missing is None else missing, means)
    shelf = Shelf.of(len(data.table) * len(chosen.features), folder, in_memory_bytes)
    asked = () if labels is not None and not labels else said.labels
    try:
        found = _read(data, chosen, gaps, shelf, asked, strict=labels is not None)
        del data
        return _without_gaps(replace(found, folder=folder if shelf.folder is not None else None), gaps, shelf)
    finally:
        # What Arrow read the recording with.
        pa.default_memory_pool().release_unused()
        if folder is None:
            shelf.forget()


def _read(
    data: Recording, chosen: Selection, gaps: Gaps, shelf: Shelf, labels: Sequence[str] | None, *, strict: bool
) -> Frames:
    """The arrays of the frames on the shelf, with gaps as they are; without `strict`, what is no label is left out."""
    table, keys, names = data.table, chosen.keys, [part.name for part in chosen.features]
    known = games(table, keys, chosen.roles, data.file, data.files)
    episode = shelf.put("episode", known.episode)
    frame = None if known.frame is None else shelf.put("frame", known.frame)
    rounding = Rounding(chosen.features)
    features = shelf.put_rows("features", len(names), _features(table, chosen.features, gaps, shelf, rounding))
    split = of_column.splits(keys["split"], table[keys["split"]]) if "split" in keys else None
    excluded = {column.name for column in chosen.roles if column.why == BY_EXCLUDE}
    found = labels_of(table, labels, names, excluded, strict)
    notes = [*chosen.notes, *rounding.notes(), *known.notes]
    return Frames(
        features=features,
        schema=chosen.schema,
        episode=episode,
        frame=frame,
        split=None if split is None else shelf.put("split", split),
        labels={name: shelf.put(f"label-{i}", values) for i, (name, values) in enumerate(found)},
        symmetries=symmetries(chosen.schema, chosen.about),
        actions=_actions(table, chosen.actions, shelf) if chosen.actions else None,
        action_names=tuple(part.name for part in chosen.actions),
        actions_recorded=chosen.actions_recorded,
        episode_names=known.names,
        roles=tuple(_shown(column, known.going_on) for column in chosen.roles),
        notes=tuple(notes),
    )


def _shown(column: Column, going_on: int) -> Column:
    """The column, of which the table of roles also says where a choice was made that could be meant otherwise."""
    if column.role != "episode" or not going_on:
        return column
    return column._replace(why=f"{column.why}; {going_on:,} times one game goes on in another file")


def _features(
    table: Any, parts: Sequence[Part], gaps: Gaps, shelf: Shelf, rounding: Rounding
) -> Iterator[NDArray[np.float32]]:
    """The rows of the table part by part, without those that are dropped."""
    for values in shelf.values(table, parts, rounding.look):
        odd = gaps.look(values)
        yield values[~odd] if gaps.missing == "drop" and odd.any() else values
    if gaps.missing == "drop" and gaps.odd_rows().all():
        raise ValueError(
            f"{_said(gaps)}, in every row; choose --missing hide or mean, or leave columns out with --exclude"
        )


def _actions(table: Any, parts: Sequence[Part], shelf: Shelf) -> NDArray[np.float32]:
    kept = shelf.blank("actions", (len(table), len(parts)), np.float32)
    at = 0
    for values in shelf.values(table, parts):
        if odd := np.argwhere(np.isinf(values))[:1].tolist():
            name = parts[odd[0][1]].name
            raise ValueError(
                f"action '{name}' is infinite in row {at + odd[0][0]}; actions are finite numbers, or nothing where "
                f"they are not known: mend the recording, or leave the column out with --exclude '{name}'"
            )
        kept[at : at + len(values)] = values
        at += len(values)
    return kept


def _patterns(option: str, given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    patterns = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    if isinstance(given, Mapping) or not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(f"{option} is {given!r:.80}; it must be a pattern of names such as 'ram_*', or a list of them")
    return patterns


def _without_gaps(frames: Frames, gaps: Gaps, shelf: Shelf) -> Frames:
    """The frames with something in the place of what is missing; the rows that are dropped are already gone."""
    columns, names, groups = gaps.columns, frames.schema.names, frames.schema.groups
    if not columns:
        return frames
    some, odd = _said(gaps), gaps.odd_rows()
    if gaps.missing == "drop":
        note = f"{some}: {odd.sum():,} of {len(odd):,} rows are dropped"
        return replace(frames.each(lambda name, values: shelf.put(name, values[~odd])), notes=(*frames.notes, note))
    hides, means, row = gaps.missing == "hide", gaps.means(), 0
    hidden = shelf.blank("absent", (len(frames), len(groups)), np.bool_) if hides else None

    def change(values: NDArray[np.float32]) -> None:
        nonlocal row
        if hidden is not None:
            here = absent(values, columns, groups)
            if here.all(1).any():
                raise ValueError(
                    f"{some}, and row {row + np.flatnonzero(here.all(1))[0]} would have nothing left to see; choose "
                    "--missing drop or mean"
                )
            hidden[row : row + len(values)] = here
        fill(values, columns, means)
        row += len(values)

    features = shelf.rewritten("features", frames.features, len(names), change)
    whose = "the mean of the column" if gaps.training is None else "the mean of the column in the model's training"
    what = "their groups are hidden in" if hides else f"{whose} stands in"
    note = f"{some}: {what} {odd.sum():,} of {len(odd):,} rows"
    return replace(frames, features=features, absent=hidden, notes=(*frames.notes, note))


def _said(gaps: Gaps) -> str:
    first = gaps.names[gaps.columns[0]]
    return f"numbers are missing in {len(gaps.columns)} of {len(gaps.names)} columns (first in {first})"
