"""The feature schema: which column of a row is which, and which columns belong together."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

UNNAMED_GROUPS = 8


class Group(NamedTuple):
    """A named run of columns, `start` included, `stop` not: what a bot may hide and a predictor may be asked for."""

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
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"names has {twice} more than once; every column needs a name of its own")
        check_groups(self.groups, self.input_dim)

    @classmethod
    def of(cls, names: Sequence[str], about: Mapping[str, Any]) -> "Schema":
        """The schema of the columns `names`, which `about` (a schema.json, say) may name otherwise and cut into groups;
        where it cuts none, equal groups."""
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
        """SHA-256 (hex) of the canonical JSON: two services with equal hashes read a row alike."""
        canonical = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def as_dict(self) -> dict[str, object]:
        return {"names": list(self.names), "groups": [group._asdict() for group in self.groups]}


def read_description(path: Path) -> dict[str, Any]:
    """What a schema.json says; `Schema.of` knows what it may say."""
    try:
        described = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(described, dict):
        raise ValueError(f"{path} holds a {type(described).__name__}; it must be an object with names and groups")
    return described


def unnamed_columns(count: int) -> list[str]:
    return [f"f{i:03d}" for i in range(count)]


def check_groups(groups: Sequence[Group], input_dim: int) -> None:
    """Raises ValueError unless `groups` are the columns 0 … input_dim, cut into consecutive named runs."""
    names = [group.name for group in groups]
    if len(set(names)) != len(names):
        raise ValueError(f"groups {names} repeat a name; every group needs a name of its own")
    expected = 0
    for group in groups:
        if group.start != expected:
            raise ValueError(f"group '{group.name}' starts at column {group.start}; it must start at {expected}")
        if group.stop <= group.start:
            raise ValueError(f"group '{group.name}' [{group.start}, {group.stop}) is empty; stop must exceed start")
        expected = group.stop
    if expected != input_dim:
        raise ValueError(f"groups end at column {expected}; they must cover all {input_dim} columns of input_dim")


def equal_groups(input_dim: int, count: int) -> tuple[Group, ...]:
    """`count` consecutive groups whose widths differ by one column at most."""
    edges = [input_dim * i // count for i in range(count + 1)]
    return tuple(Group(f"patch{i}", edges[i], edges[i + 1]) for i in range(count))


def group_of_columns(groups: Sequence[Group]) -> list[int]:
    """[C]: the place in `groups` of the one that each column is in."""
    return [i for i, group in enumerate(groups) for _ in range(group.width)]


def _group(given: Any) -> Group:
    match given:
        case [str(name), int(start), int(stop)] | {"name": str(name), "start": int(start), "stop": int(stop)}:
            return Group(name, start, stop)
    raise ValueError(f"groups has {given!r}; a group is [name, start, stop]")
