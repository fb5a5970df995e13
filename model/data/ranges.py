"""Rows of a table, kept as ranges: the memory they take depends on how often they break, not on how many they are."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

# Rows that are read at once.
CHUNK_ROWS = 65_536
# Of more rows than this, some are drawn by Floyd's algorithm, since a permutation takes 8 bytes a row.
MAX_SHUFFLED_ROWS = 1 << 24


class Ranges:
    """Ascending rows: all from `start` up to but not including `stop`, [K] each."""

    def __init__(self, start: Rows, stop: Rows) -> None:
        self.start, self.stop = start, stop
        # [K + 1]: how many rows lie in the ranges before.
        self._before = np.concatenate([[0], np.cumsum(stop - start)])

    @classmethod
    def all(cls, count: int) -> Self:
        """The rows 0 … count."""
        return cls(np.array([0]), np.array([count]))

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """The ascending rows [n]."""
        if not len(rows):
            return cls(rows, rows)
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        return cls(rows[np.concatenate([[0], breaks])], rows[np.concatenate([breaks, [len(rows)]]) - 1] + 1)

    @classmethod
    def joined(cls, parts: Iterable["Ranges"]) -> Self:
        """The rows of all parts, none of which is in two."""
        none = np.zeros(0, np.int64)
        ends = [(none, none), *((part.start, part.stop) for part in parts)]
        start, stop = (np.concatenate(each) for each in zip(*ends, strict=True))
        order = np.argsort(start)
        order = order[(stop > start)[order]]
        start, stop = start[order], stop[order]
        begins = np.concatenate([[True], start[1:] != stop[:-1]])[: len(start)]
        # A range ends where the next one begins, and the last one at the end.
        return cls(start[begins], stop[np.roll(begins, -1)])

    def __len__(self) -> int:
        return int(self._before[-1])

    def __and__(self, other: "Ranges") -> "Ranges":
        """The rows of both."""
        first = np.searchsorted(other.stop, self.start, side="right")
        count = (np.searchsorted(other.start, self.stop) - first).clip(min=0)
        mine = np.repeat(np.arange(len(count)), count)
        theirs = first[mine] + np.arange(len(mine)) - np.repeat(np.cumsum(count) - count, count)
        return Ranges(
            np.maximum(self.start[mine], other.start[theirs]), np.minimum(self.stop[mine], other.stop[theirs])
        )

    def __getitem__(self, places: Any) -> Rows:
        """The rows at these places among them, as of a list: numbers from 0, a mask or a slice."""
        if isinstance(places, slice):
            places = np.arange(len(self))[places]
        places = np.asarray(places)
        if places.dtype == np.bool_:
            places = np.flatnonzero(places)
        at = np.searchsorted(self._before, places, side="right") - 1
        found: Rows = self.start[at] + (places - self._before[at])
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[np.arange(len(self))], dtype)

    def longest(self) -> tuple[int, int]:
        """The first of the longest ranges, as its first row and the one after its last."""
        at = int((self.stop - self.start).argmax())
        return int(self.start[at]), int(self.stop[at])

    def tolist(self) -> list[int]:
        listed: list[int] = np.asarray(self).tolist()
        return listed

    def chunks(self, count: int = CHUNK_ROWS) -> Iterator[slice | Rows]:
        """The rows, at most `count` at once: a slice where they are one range."""
        for first in range(0, len(self), count):
            last = min(first + count, len(self)) - 1
            start, end = (int(row) for row in self[np.array([first, last])])
            yield slice(start, end + 1) if end - start == last - first else self[np.arange(first, last + 1)]

    def where(self, holds: Callable[[slice | Rows], NDArray[np.bool_]]) -> "Ranges":
        """Those of the rows for which `holds`, which is given some at once, is true."""
        kept = []
        for part in self.chunks():
            rows = np.arange(part.start, part.stop) if isinstance(part, slice) else part
            kept.append(Ranges.of(rows[holds(part)]))
        return Ranges.joined(kept)

    def drawn(self, count: int, rng: np.random.Generator) -> Rows:
        """`count` of the rows at random, all of them if there are fewer, none twice."""
        if len(self) > MAX_SHUFFLED_ROWS:
            return self[rng.choice(len(self), min(count, len(self)), replace=False)]
        return self[rng.permutation(len(self))[:count]]

    def evenly(self, count: int) -> Rows:
        """`count` of the rows at even distances, or all."""
        return self[np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64)]


def distinct(values: Rows, rows: Ranges) -> Rows:
    """The distinct ones among the values [n] of the rows, ascending."""
    found = [np.zeros(0, np.int64)]
    for part in rows.chunks():
        some = np.asarray(values[part])
        found.append(np.unique(some[np.concatenate([[True], some[1:] != some[:-1]])]))
    return np.unique(np.concatenate(found))
