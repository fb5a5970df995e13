"""The feature schema: which column of a row is which, and which columns belong together."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


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
