"""The feature schema: which column of a row is which, and which columns belong together."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

UNNAMED_GROUPS = 8
# Frames ahead whose inputs a predictor takes, numbers of one input, and of all of them for one row.
MAX_ACTION_FRAMES, MAX_ACTION_COLUMNS, MAX_ACTION_NUMBERS = 1000, 1000, 2**17
# Names in a message.
MAX_NAMES_SHOWN = 20
MAX_NAME_CHARS_SHOWN = 64


class Group(NamedTuple):
    """A named run of columns, from `start` up to but not including `stop`.

    A bot may hide a group, and may ask the predictor for one.
    """

    name: str
    start: int
    stop: int

    @property
    def width(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Schema:
    """Names of the columns of a row, and the groups that cut it into consecutive parts without gap or overlap."""

    names: tuple[str, ...]
    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names has {_twice(self.names)} more than once; every column needs a name of its own")
        check_groups(self.groups, self.input_dim)

    @classmethod
    def from_dict(cls, values: Any) -> "Schema":
        """The schema whose `as_dict` is `values`, a document that may hold further keys; ValueError for any other."""
        match values:
            case {"names": [*names], "groups": [*groups]} if all(isinstance(name, str) for name in names):
                return cls(tuple(names), tuple(map(_group, groups)))
        raise ValueError("must hold names, a list of strings, and groups, a list of objects with name, start and stop")

    @classmethod
    def of(cls, names: Sequence[str], about: Mapping[str, Any]) -> "Schema":
        """The schema of the columns `names`; `about`, such as a schema.json, may rename them and cut them into groups,
        and without groups they are cut into equal ones."""
        given, groups = about.get("names", [*names]), about.get("groups")
        if not isinstance(given, list) or len(given) != len(names) or not all(isinstance(name, str) for name in given):
            came = f"a list of {len(given)}" if isinstance(given, list) else repr(given)
            raise ValueError(f"names is {came}; it must list {len(names)} strings, one a column")
        if groups is None:
            return cls(tuple(given), equal_groups(len(names), min(UNNAMED_GROUPS, len(names))))
        if not isinstance(groups, list):
            raise ValueError(f"groups is {groups!r}; it must be a list of [name, start, stop]")
        return cls(tuple(given), tuple(map(_group, groups)))

    @property
    def input_dim(self) -> int:
        return len(self.names)

    @property
    def hash(self) -> str:
        return schema_hash(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """What bundle.json says of the schema."""
        return {"names": list(self.names), "groups": [group._asdict() for group in self.groups]}


def schema_hash(schema: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON: bot and model agree on a row's layout if they agree on this."""
    return hashlib.sha256(json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_description(path: Path) -> dict[str, Any]:
    """The object in a schema.json, for `Schema.of` to check; ValueError where the file holds none."""
    try:
        described = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(described, dict):
        raise ValueError(f"{path} holds a {type(described).__name__}; it must be an object with names and groups")
    return described


def unnamed_columns(count: int) -> list[str]:
    """Names for columns that came without: f000, f001, …"""
    return [f"f{i:03d}" for i in range(count)]


def check_groups(groups: Sequence[Group], input_dim: int) -> None:
    """Raises ValueError unless `groups` cut the columns 0 … input_dim into consecutive named runs."""
    names = [group.name for group in groups]
    if len(set(names)) != len(names):
        raise ValueError(f"groups {_few(names)} repeat a name; every group needs a name of its own")
    if problem := _break(groups, input_dim):
        raise ValueError(f"groups must cut the columns 0 … {input_dim} into consecutive parts: {problem}")


def equal_groups(input_dim: int, count: int) -> tuple[Group, ...]:
    """`count` consecutive groups whose widths differ by at most one column."""
    edges = [input_dim * i // count for i in range(count + 1)]
    return tuple(Group(f"patch{i}", edges[i], edges[i + 1]) for i in range(count))


def group_of_columns(groups: Sequence[Group]) -> list[int]:
    """[C]: for each column, the index in `groups` of the group that holds it."""
    return [i for i, group in enumerate(groups) for _ in range(group.width)]


def _twice(names: Sequence[str]) -> str:
    """Which names come more than once, as a message lists them."""
    return _few(sorted(name for name, count in Counter(names).items() if count > 1))


def _few(names: Sequence[str]) -> str:
    """The first of the names, as a message lists them."""
    shown = ", ".join(repr(name[:MAX_NAME_CHARS_SHOWN]) for name in names[:MAX_NAMES_SHOWN])
    return f"[{shown}]" if len(names) <= MAX_NAMES_SHOWN else f"[{shown}, and {len(names) - MAX_NAMES_SHOWN} more]"


def _break(groups: Sequence[Group], input_dim: int) -> str | None:
    """The first place where `groups` leave a gap, overlap, hold nothing or end too soon or too late."""
    expected = 0
    for group in groups:
        if group.start != expected:
            return f"group '{group.name}' starts at column {group.start}; it must start at {expected}"
        if group.stop <= group.start:
            return f"group '{group.name}' [{group.start}, {group.stop}) is empty; stop must exceed start"
        expected = group.stop
    if expected != input_dim:
        return f"groups end at column {expected}; they must cover all {input_dim} columns of input_dim"
    return None


def _group(given: Any) -> Group:
    match given:
        case [str(name), int(start), int(stop)] | {"name": str(name), "start": int(start), "stop": int(stop)}:
            return Group(name, start, stop)
    raise ValueError(f"groups has {given!r}; a group is [name, start, stop]")
