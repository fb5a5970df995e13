"""Reads frames of games from files: features, episodes, splits, labels and the feature schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bundle.schema import Group, Schema
from model.data import columns as of_column
from model.data.descriptions import description, layout
from model.data.files import data_files, join, read_table
from model.data.gaps import absent, fill, gaps
from model.data.groups import shared_groups
from model.data.matching import by_position, check_names, surplus
from model.data.roles import LABEL_NAMES, Choices, Column, doubts, matching
from model.data.selection import parts_of, roles_of, spread, values_of
from model.data.symmetry import Symmetry, symmetries


@dataclass(frozen=True)
class Frames:
    """Rows of games, in the order of the data.

    `frame` counts within an episode and is None if rows have no order; if the data has neither column, every row is an
    episode of its own. `labels` are by name, −1 where a row has none. `symmetries` are those of the data's layout.
    `roles` say what each column of the data is for, and `notes` what a user should know of how it was read.
    """

    features: NDArray[np.float32]  # [rows, columns]
    schema: Schema
    episode: NDArray[np.int64]  # [rows]
    frame: NDArray[np.int64] | None = None  # [rows]
    split: NDArray[np.str_] | None = None  # [rows]
    labels: dict[str, NDArray[np.int64]] = field(default_factory=dict)  # each [rows]
    symmetries: tuple[Symmetry, ...] = ()
    # [rows, G] the groups that are hidden in a row since a number is missing, in whose place stands the column's mean.
    absent: NDArray[np.bool_] | None = None
    # What the data calls episodes 0, 1, …; empty where it numbers them itself.
    episode_names: tuple[str, ...] = ()
    roles: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.features)

    @property
    def independent(self) -> bool:
        """Whether every row is an episode of its own."""
        return self.frame is None and len(np.unique(self.episode)) == len(self)

    def take(self, rows: NDArray[Any]) -> "Frames":
        """The frames at the given rows (indices or a mask)."""
        return replace(
            self,
            features=self.features[rows],
            episode=self.episode[rows],
            frame=None if self.frame is None else self.frame[rows],
            split=None if self.split is None else self.split[rows],
            labels={name: values[rows] for name, values in self.labels.items()},
            absent=None if self.absent is None else self.absent[rows],
        )

    def as_seen(self) -> NDArray[np.float32]:
        """[rows, columns] with NaN where a group is hidden, which is how a model's graphs are told."""
        if self.absent is None:
            return self.features
        hidden = np.repeat(self.absent, [group.width for group in self.schema.groups], axis=1)
        return np.where(hidden, np.float32(np.nan), self.features)

    def called(self, episode: int) -> str:
        """The name of an episode in the data."""
        return self.episode_names[episode] if self.episode_names else str(episode)


def read_frames(
    source: str | Path,
    *,
    features: str | Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    labels: Sequence[str] | None = LABEL_NAMES,
    actions: Sequence[str] | None = None,
    episode: str | None = None,
    frame: str | None = None,
    missing: str | None = None,
    like: Schema | None = None,
) -> Frames:
    """Reads a file, a folder or a glob of files: Parquet, CSV, Arrow or .npy/.npz.

    `features`, `exclude`, `labels` and `actions` are patterns of names, such as `ram_*`; see `roles.assign`. Labels
    hold whole numbers and must not be features as well; None reads those named y_* that do, to look for leaks. `like`,
    the schema of a model, picks the features by its names. `missing` is one of MISSING, refuse if not said.
    """
    paths = data_files(source)
    base = Path(source) if Path(source).is_dir() else None
    tables = [read_table(path, base) for path in paths]
    table = join(tables, paths)
    file = np.repeat(np.arange(len(tables)), [len(one) for one in tables])
    del tables
    told = description(paths[0].parent)
    chosen = Choices(
        features=(features,) if isinstance(features, str) else tuple(features or ()),
        exclude=tuple(exclude or ()),
        labels=None if labels is None or tuple(labels) == LABEL_NAMES else tuple(labels),
        actions=tuple(actions or ()),
        episode=episode,
        frame=frame,
    )
    about = told | layout(table.schema.metadata or {}, paths[0])
    parts = parts_of(table, told)
    said = chosen.over(told)
    choices = spread(said, parts)
    roles = roles_of(table, parts, choices)
    picked = [column.name for column in roles if column.role == "feature"]
    if not picked:
        raise ValueError(f"no column is a feature; the columns are {[*parts][:8]} …: name some with --features")
    notes = doubts(roles)
    if like is None:
        usual = roles_of(table, parts, spread(Choices().over(told), parts))
        described = [column.name for column in usual if column.role == "feature"]
        schema = _schema(picked, described, about)
        # A symmetry moves numbers among all columns.
        about = about if picked == described else {}
    else:
        # Its groups are the model's, and nothing is learned here, which is what symmetries are for.
        schema, about = like, {}
        picked, remarks = _alike(like.names, picked, picked if choices.features else [*parts])
        notes += remarks
    keys = {column.role: parts[column.name].column for column in roles}
    number = of_column.whole(keys["frame"], table[keys["frame"]]) if "frame" in keys else None
    games, names = _episodes(table, keys.get("episode"), number, file, [path.name for path in paths])
    split = of_column.splits(keys["split"], table[keys["split"]]) if "split" in keys else None
    asked = () if labels is not None and not labels else said.labels
    known = _labels(table, asked, picked, strict=labels is not None)
    values = values_of(table, [parts[name] for name in picked])
    found = Frames(
        values, schema, games, number, split, known, symmetries(schema, about), None, names, tuple(roles), tuple(notes)
    )
    return _without_gaps(found, told.get("missing", "refuse") if missing is None else missing)


def _schema(picked: Sequence[str], described: Sequence[str], about: Mapping[str, Any]) -> Schema:
    """The schema of the columns `picked`, of which `about` says what it says of those `described`."""
    if [*picked] == [*described]:
        whole = Schema.of(picked, about)
        return whole if "groups" in about else Schema(whole.names, shared_groups(whole.names))
    if "groups" not in about or not {*picked} <= {*described}:
        return Schema(tuple(picked), shared_groups(picked))
    groups, stop = [], 0
    for group in Schema.of(described, about).groups:
        kept = sum(name in {*picked} for name in described[group.start : group.stop])
        groups += [Group(group.name, stop, stop + kept)] if kept else []
        stop += kept
    return Schema(tuple(picked), tuple(groups))


def _alike(wanted: Sequence[str], picked: list[str], given: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns of a model among those `given`, and what must be said of it; `picked` are its features."""
    if by_place := by_position(wanted, picked):
        return picked, [by_place]
    check_names(wanted, given)
    rest = surplus(wanted, picked)
    return [*wanted], [] if rest is None else [rest]


def _episodes(
    table: pa.Table, column: str | None, frame: NDArray[np.int64] | None, file: NDArray[np.int64], files: Sequence[str]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Without a column that tells games apart, a file is one if frames are numbered, else every row is."""
    if column is not None:
        return of_column.episodes(column, table[column], file, files)
    if frame is None:
        return np.arange(len(table)), ()
    return file, tuple(files) if len(files) > 1 else ()


def _labels(
    table: pa.Table, asked: Sequence[str] | None, picked: Sequence[str], *, strict: bool
) -> dict[str, NDArray[np.int64]]:
    """The labels `asked` for, None: those whose name says so; unless `strict`, what is no label is left out."""
    plain = [field.name for field in table.schema if not of_column.is_list(field.type)]
    names = matching(plain, LABEL_NAMES if asked is None else asked)
    both = sorted({*names} & {*picked})
    if both and asked is not None:
        raise ValueError(
            f"{', '.join(both)}: a label that is also a feature tells nothing, the probe would only copy it; "
            "name other labels with --labels, or pick the feature columns with --features"
        )
    columns = {name: table[name] for name in names if name not in both}
    return of_column.labels(columns if strict else {name: c for name, c in columns.items() if of_column.is_whole(c)})


def _without_gaps(frames: Frames, missing: object) -> Frames:
    """The frames without NaN, and without the rows that have one if `missing` says so."""
    values, names = frames.features, frames.schema.names
    columns = gaps(values, names, missing)
    if not columns:
        return frames
    some = f"numbers are missing in {len(columns)} of {len(names)} columns (first in {names[columns[0]]})"
    odd = np.asarray(np.isnan(values[:, columns]).any(axis=1))
    if missing == "drop":
        if odd.all():
            raise ValueError(
                f"{some}, in every row; choose --missing hide or mean, or leave columns out with --exclude"
            )
        note = f"{some}: {odd.sum():,} of {len(values):,} rows are dropped"
        return replace(frames.take(~odd), notes=(*frames.notes, note))
    hidden = absent(values, columns, frames.schema.groups) if missing == "hide" else None
    if hidden is not None and hidden.all(1).any():
        raise ValueError(
            f"{some}, and row {np.flatnonzero(hidden.all(1))[0]} would have nothing left to see; choose --missing drop "
            "or mean"
        )
    fill(values, columns, names)
    what = "their groups are hidden in" if missing == "hide" else "the mean of the column stands in"
    note = f"{some}: {what} {odd.sum():,} of {len(values):,} rows"
    return replace(frames, absent=hidden, notes=(*frames.notes, note))
