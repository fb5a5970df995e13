"""Which row comes how many frames after which, from where each stretch of frames begins and ends: no table of rows."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.data.ranges import Ranges, Rows

# Data with more runs than one in this many rows is put in order, 8 bytes a row, and then has fewer.
MIN_RUN_ROWS = 4


class Gap(NamedTuple):
    """Where frame numbers jump."""

    episode: int
    before: int
    after: int


class Timeline:
    """The rows of each episode in the order of their frames, as R runs in which frame numbers rise by `pace` from row
    to row. The arrays [R] are in order of episode and frame."""

    def __init__(self, episode: Rows, frame: Rows, rows: Ranges | None = None) -> None:
        """Of the `rows` (None: all) of data with these episodes and frame numbers [n], which may be mapped files."""
        self._episode, self._frame = episode, frame
        rows = Ranges.all(len(frame)) if rows is None else rows
        # Where rows are not in order: the row at each place of time, [n].
        self._order: Rows | None = None
        self.pace = _usual_step(episode, frame, rows)
        self._find_runs(rows.chunks())
        if self._overlap() or len(self.first) * MIN_RUN_ROWS > len(rows):
            chosen = np.asarray(rows)
            self._order = chosen[np.lexsort((frame[chosen], episode[chosen]))]
            self.pace = _usual_step(episode, frame, self._order)
            places = Ranges.all(len(rows)).chunks()
            self._find_runs(self._order[place] for place in places)
        self.episodes = np.unique(self.episode)
        # One sortable number for an episode and a frame.
        self._low, self._high = (int(self.first.min()), int(self.last.max())) if len(self.first) else (0, 0)
        self._key = self._keys(self.episode, self.first)

    def _find_runs(self, parts: Iterable[Any]) -> None:
        found: list[tuple[Rows, Rows, Rows]] = []
        place, before = 0, None
        for part in parts:
            episode, frame = np.asarray(self._episode[part], np.int64), np.asarray(self._frame[part], np.int64)
            goes_on = (np.diff(episode) == 0) & (np.diff(frame) == self.pace)
            begins = np.flatnonzero(~np.concatenate([[before == (episode[0], frame[0] - self.pace)], goes_on]))
            found.append((episode[begins], frame[begins], begins + place))
            place, before = place + len(frame), (episode[-1], frame[-1])
        none = np.zeros(0, np.int64)
        found = found or [(none, none, none)]
        episode, first, start = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        count = np.diff(np.concatenate([start, [place]]))
        order = np.lexsort((first, episode))
        self.episode, self.first, self.start, self.count = (each[order] for each in (episode, first, start, count))
        self.last = self.first + (self.count - 1) * self.pace

    def _overlap(self) -> bool:
        return bool(((np.diff(self.episode) == 0) & (self.first[1:] <= self.last[:-1])).any())

    def _keys(self, episode: Rows, frame: Rows) -> Rows:
        span = self._high - self._low + 1
        keys: Rows = np.searchsorted(self.episodes, episode) * span + (frame - self._low)
        return keys

    def _run_at(self, episode: Rows, frame: Rows) -> Rows:
        """The run that holds this frame of this episode, −1 where none does."""
        key = self._keys(episode, frame.clip(self._low, self._high))
        # Where a frame is repeated a run ends with it and others begin with it: the first of them is taken.
        run = np.searchsorted(self._key, key) - 1
        run = np.where((run >= 0) & self._holds(run, episode, frame), run, (run + 1).clip(max=len(self._key) - 1))
        return np.where(self._holds(run, episode, frame), run, -1)

    def _holds(self, run: Rows, episode: Rows, frame: Rows) -> NDArray[np.bool_]:
        ahead = frame - self.first[run]
        within = (ahead >= 0) & (frame <= self.last[run]) & (ahead % self.pace == 0)
        held: NDArray[np.bool_] = within & (self.episode[run] == episode)
        return held

    def ahead(self, rows: Rows, horizon: int | Rows) -> Rows:
        """For each of the rows [n] the row `horizon` frames (a number, or [n]) later in its episode, −1 if there is
        none."""
        episode, frame = self._episode[rows], self._frame[rows] + horizon
        run = self._run_at(episode, frame)
        place = self.start[run] + (frame - self.first[run]) // self.pace
        found = place if self._order is None else self._order[place.clip(0, len(self._order) - 1)]
        return np.where(horizon == 0, rows, np.where(run >= 0, found, -1))

    def with_later_rows(self, rows: Ranges, horizons: Sequence[int]) -> Ranges:
        """Those of the rows that have a later row at every horizon."""
        # What lies between two frames of one run is there, and a run's rows stand together where rows are in order.
        if self._order is not None or any(horizon % self.pace for horizon in horizons):
            inner = np.zeros_like(self.count)
        else:
            inner = (self.count - max(horizons) // self.pace).clip(min=0)
        order = np.argsort(self.start)
        start, inner, count = self.start[order], inner[order], self.count[order]
        sure, doubtful = Ranges(start, start + inner), Ranges(start + inner, start + count)
        return Ranges.joined([rows & sure, *self._looked_up(rows & doubtful, horizons)])

    def _looked_up(self, rows: Ranges, horizons: Sequence[int]) -> Iterator[Ranges]:
        for place in Ranges.all(len(rows)).chunks():
            part = rows[place]
            for horizon in horizons:
                part = part[self.ahead(part, horizon) >= 0]
            yield Ranges.of(part)

    @property
    def stride(self) -> int:
        """The greatest number by whose multiples frame numbers rise in an episode; 1 where none has two rows."""
        steps = self._steps()
        within = [self.pace] if (self.count > 1).any() else []
        return int(np.gcd.reduce(np.array([*within, *steps[steps > 0].tolist()], np.int64))) or 1

    def repeated(self) -> tuple[int, Gap] | None:
        """How many rows repeat a frame of their episode, and the first of them."""
        return self._jumps(self._steps() == 0)

    def gaps(self) -> tuple[int, int, Gap] | None:
        """How many times frame numbers jump, in how many episodes, and the first time."""
        jumps = self._steps() > self.stride
        found = self._jumps(jumps)
        return None if found is None else (found[0], len(np.unique(self.episode[:-1][jumps])), found[1])

    def lengths(self) -> Rows:
        """How many frames after its first row the last one of each of the `episodes` comes."""
        bounds = np.searchsorted(self.episode, self.episodes)
        last = np.maximum.reduceat(self.last, bounds)
        return last - self.first[bounds]

    def spread(self, count: int) -> Rows:
        """[episodes, count] rows of each of the `episodes`, at even distances in its first run."""
        run = np.searchsorted(self.episode, self.episodes)
        place = self.start[run, None] + (self.count[run, None] - 1) * np.arange(count) // max(count - 1, 1)
        return place if self._order is None else self._order[place]

    def _steps(self) -> Rows:
        """By how much the frame number rises from the end of each run to the next, −1 where that is another episode."""
        return np.where(np.diff(self.episode) == 0, self.first[1:] - self.last[:-1], -1)

    def _jumps(self, jumps: NDArray[np.bool_]) -> tuple[int, Gap] | None:
        at = np.flatnonzero(jumps)
        if not len(at):
            return None
        run = at[0]
        return len(at), Gap(int(self.episode[run]), int(self.last[run]), int(self.first[run + 1]))


def _usual_step(episode: Rows, frame: Rows, rows: Ranges | Rows) -> int:
    """The most usual rise of the frame number from row to row, judged by the first of the rows."""
    head = rows[np.arange(min(len(rows), 65_536))]
    steps = np.diff(frame[head])[np.diff(episode[head]) == 0]
    steps, counts = np.unique(steps[steps > 0], return_counts=True)
    return int(steps[counts.argmax()]) if len(steps) else 1
