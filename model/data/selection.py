"""The numbers of a row: columns of a table, and places in its columns of lists."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bundle.matching import matched
from bundle.schema import Schema, unnamed_columns
from model.data import columns as of_column
from model.data.groups import schema_of
from model.data.lazy import head
from model.data.recordings import Recording
from model.data.roles import BY_ACTIONS, LABEL_NAMES, Choices, Column, as_input, assign, doubts, matching

NO_ACTION = "named as an action, but holds {}, not numbers; number the inputs for the model to be told of them"


class Part(NamedTuple):
    """One number a row: a column of the data, or a place in a column of lists."""

    name: str
    column: str
    place: int | None


class Selection(NamedTuple):
    """What is read of a recording, and as what."""

    roles: list[Column]
    features: list[Part]
    actions: list[Part]
    # Of each, which of `roles.WHEN` it was recorded.
    actions_recorded: tuple[str, ...]
    # The column of each of the roles episode, frame and split that there is.
    keys: dict[str, str]
    schema: Schema
    # What is said of all the columns that are read, and not of some of them alone.
    about: Mapping[str, Any]
    notes: list[str]


def select(data: Recording, said: Choices, like: Schema | None) -> Selection:
    """The columns by what the user said, and otherwise by their names, or by those of a model's schema `like`;
    ValueError if nothing is a feature."""
    table, told = data.table, data.told
    parts = parts_of(table, told)
    roles = roles_of(table, parts, spread(said, parts))
    if not said.actions:
        roles = with_actions_of(data.layout, roles)
    picked = [column.name for column in roles if column.role == "feature"]
    if not picked:
        raise ValueError(f"no column is a feature; the columns are {[*parts][:8]} …: name some with --features")
    notes = [*data.notes, *doubts(roles)]
    about: Mapping[str, Any] = {}
    if like is None:
        usual = roles_of(table, parts, spread(Choices().over(told), parts))
        described = [column.name for column in usual if column.role == "feature"]
        schema = schema_of(picked, described, data.about)
        # A symmetry moves numbers among all columns.
        about = data.about if picked == described else {}
    else:
        # Its groups are the model's, and nothing is learned here, which is what symmetries are for.
        schema = like
        picked, remarks = matched(like.names, picked, picked if said.features else [*parts])
        notes += remarks
    features = [parts[name] for name in picked]
    kinds = {part.name: table.schema.field(part.column).type for part in features}
    of_column.check_numbers(kinds, lambda name: table[parts[name].column])
    return Selection(
        roles,
        features,
        [parts[column.name] for column in roles if column.recorded],
        tuple(column.recorded for column in roles if column.recorded),
        {column.role: parts[column.name].column for column in roles if column.role in ("episode", "frame", "split")},
        schema,
        about,
        notes,
    )


def parts_of(table: pa.Table, told: Mapping[str, Any]) -> dict[str, Part]:
    """What may be a feature, by name: the columns, and the numbers in columns of lists."""
    parts: dict[str, Part] = {}
    for column in table.column_names:
        kind = table.schema.field(column).type
        count = 0
        if column == "features" or of_column.is_list(kind):
            try:
                count = of_column.width(column, head(table)[column])
            except ValueError:
                # Such as lists of text beside the features; it is told where the column is asked for.
                if column == "features":
                    raise
        names = [f"{column}_{i}" for i in range(count)]
        if column == "features":
            names = [*Schema.of(unnamed_columns(count), {"names": told["names"]} if "names" in told else {}).names]
        for place, name in enumerate(names):
            parts[name] = Part(name, column, place)
        if not names:
            parts.setdefault(column, Part(column, column, None))
    return parts


def spread(choices: Choices, parts: Mapping[str, Part]) -> Choices:
    """The choices, with the names of the numbers in a column of lists in place of the name of the column, and the names
    of the labels, which are no lists."""
    listed: dict[str, list[str]] = {}
    for part in parts.values():
        if part.place is not None:
            listed.setdefault(part.column, []).append(part.name)

    def within(patterns: tuple[str, ...]) -> tuple[str, ...]:
        found: list[str] = []
        for pattern in patterns:
            inside = [name for column in matching([*listed], [pattern]) for name in listed[column]]
            found += inside if inside and not matching([*parts], [pattern]) else [pattern]
        return tuple(found)

    plain = [part.name for part in parts.values() if part.place is None]
    return replace(
        choices,
        labels=None if choices.labels is None else tuple(matching(plain, choices.labels)),
        features=within(choices.features),
        exclude=within(choices.exclude),
        actions=within(choices.actions),
    )


def roles_of(table: pa.Table, parts: Mapping[str, Part], choices: Choices) -> list[Column]:
    types: dict[str, str] = {}
    for part in parts.values():
        kind = table.schema.field(part.column).type
        types[part.name] = str(kind if part.place is None else kind.value_type)

    def column_of(name: str) -> pa.ChunkedArray:
        return table[parts[name].column]

    roles = assign(
        types,
        choices,
        lambda name: of_column.is_whole(column_of(name)),
        lambda name: of_column.has_fractions(column_of(name)),
    )
    roles = [
        column._replace(role="left out", recorded="", why=NO_ACTION.format(column.type), doubtful=True)
        if column.recorded and BY_ACTIONS not in column.why and not _holds_numbers(table, parts[column.name])
        else column
        for column in roles
    ]
    if "features" not in table.column_names or choices.features:
        return roles

    def beside(column: Column) -> Column:
        if column.recorded:
            return column._replace(role="action")
        return column._replace(role="left out", why="beside 'features', which holds them")

    return [
        beside(column) if column.role == "feature" and parts[column.name].column != "features" else column
        for column in roles
    ]


def with_actions_of(about: Mapping[str, Any], roles: Sequence[Column]) -> list[Column]:
    """The roles, in which those features are the player's own inputs as well that a known layout says are."""
    patterns = about.get("actions", [])
    return [
        as_input(column._replace(why="by the layout"), about.get("actions_recorded"))
        if column.role == "feature" and not column.recorded and matching([column.name], patterns)
        else column
        for column in roles
    ]


def values_of(table: pa.Table, picked: Sequence[Part]) -> NDArray[np.float32]:
    """[rows, columns] of the parts, NaN where there is nothing."""
    lists = {part.column for part in picked if part.place is not None}
    matrices = {column: of_column.listed(column, table[column]) for column in lists}
    if len(matrices) == 1 and [part.place for part in picked] == [*range(next(iter(matrices.values())).shape[1])]:
        # Arrow's memory must not be written to.
        return next(iter(matrices.values())).copy()
    values = np.empty((len(table), len(picked)), np.float32)
    for i, part in enumerate(picked):
        kind = table.schema.field(part.column).type
        if part.place is not None:
            values[:, i] = matrices[part.column][:, part.place]
        elif of_column.is_list(kind):
            values[:, i] = of_column.listed(part.column, table[part.column])[:, 0]
        else:
            values[:, i] = of_column.numbers(part.column, table[part.column])
    return values


def labels_of(
    table: pa.Table, asked: Sequence[str] | None, picked: Sequence[str], excluded: Collection[str], strict: bool
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """The labels `asked` for, None: those whose name says so, without those `excluded`; unless `strict`, what is no
    label is left out."""
    plain = [field.name for field in table.schema if not of_column.is_list(field.type) and field.name not in excluded]
    names = matching(plain, LABEL_NAMES if asked is None else asked)
    both = sorted({*names} & {*picked})
    if both and asked is not None:
        raise ValueError(
            f"{', '.join(both)}: a label that is also a feature tells nothing, the probe would only copy it; "
            "name other labels with --labels, or pick the feature columns with --features"
        )
    columns = {name: table[name] for name in names if name not in both}
    return of_column.labels(
        columns
        if strict
        else {name: c for name, c in columns.items() if of_column.is_number(c.type) and not of_column.has_fractions(c)}
    )


def _holds_numbers(table: pa.Table, part: Part) -> bool:
    kind = table.schema.field(part.column).type
    return part.place is not None or of_column.is_number(kind)
