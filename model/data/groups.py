"""Groups of columns that are named by what the names of their columns share."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bundle.schema import UNNAMED_GROUPS, Group, Schema, equal_groups, unnamed_columns

# More groups than this would cost a token each and tell a bot nothing that it could hide; see `_parts`.
MAX_GROUPS = 32
# Where one part of a name ends and the next begins, as in own_x, observation.state_3, ram12 and joint 2.
BREAK = re.compile(r"[_./\s-]+|(?<=[^\d_./\s-])(?=\d)")


def schema_of(picked: Sequence[str], described: Sequence[str], about: Mapping[str, Any]) -> Schema:
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


def shared_groups(names: Sequence[str]) -> tuple[Group, ...]:
    """Consecutive groups of the columns `names`: own_x and own_y become own, and a column that shares nothing bears its
    own name. Columns that were never named, and those that all share all of their words, are cut into equal parts."""
    if [*names] == unnamed_columns(len(names)):
        return equal_groups(len(names), min(UNNAMED_GROUPS, len(names)))
    words = [[word for word in BREAK.split(name) if word and not word.isdigit()] for name in names]
    runs: list[list[int]] = []
    for depth in range(1, max(map(len, words), default=0) + 1):
        beginnings = ["\0".join(those[:depth]) or name for name, those in zip(names, words, strict=True)]
        runs = [[*run] for _, run in itertools.groupby(range(len(names)), beginnings.__getitem__)]
        if len(runs) > 1:
            break
    if not 1 < len(runs) <= MAX_GROUPS:
        return _parts(names)
    return _named(names, [(run[0], run[-1] + 1) for run in runs], depth)


def _parts(names: Sequence[str]) -> tuple[Group, ...]:
    """Equal parts, named by their first and last column."""
    parts = equal_groups(len(names), min(UNNAMED_GROUPS, len(names)))
    return tuple(Group(_ends(names[part.start : part.stop]), part.start, part.stop) for part in parts)


def _named(names: Sequence[str], runs: Sequence[tuple[int, int]], depth: int) -> tuple[Group, ...]:
    groups: list[Group] = []
    taken: set[str] = set()
    for start, stop in runs:
        called = names[start] if stop - start == 1 else _shared(names[start], depth)
        if called in taken or (stop - start > 1 and called in names):
            # The same words begin columns further on, too: own_x, opp_x, own_y, own_z.
            called = _ends(names[start:stop])
        taken.add(called)
        groups.append(Group(called, start, stop))
    return tuple(groups)


def _shared(name: str, depth: int) -> str:
    """The first `depth` words of a name, as it spells them."""
    ends = [match.start() for match in BREAK.finditer(name) if match.start() > 0]
    return name[: ends[depth - 1]] if len(ends) >= depth else name


def _ends(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]}…{names[-1]}"
