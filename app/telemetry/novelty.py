"""How novel the frames of the last seconds were, stream by stream, counted in memory that the processes share."""

import logging
import random
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

import numpy as np

from app.rows import Array
from app.system.counters import COLUMNS_SHARE, Ledger
from app.telemetry.odd_rows import OddRows
from bundle.manifest import Manifest
from bundle.misfits import Misfits, misfits
from bundle.novelty import Judged, Novelty

logger = logging.getLogger(__name__)

WINDOW_S = 5
# Streams of one process that are told apart; further ones are not followed until one of these falls silent.
MAX_STREAMS = 32
# One request for embeddings in this many is judged, at random. Forecasts that ask for their novelty all count.
SAMPLED = 16
# For each row that is judged no further request is for so many seconds: fifty rows a second, whoever sends them.
REST_S = 0.02
# They are judged together, so many seconds after the ones before: what that takes, longer than to answer one, goes into
# fetching the measure into the processor's cache, and what the next run needs out of it.
LOOK_EVERY_S = 0.1
# Of one request; so many in all do not wait. They are judged on the event loop.
MAX_JUDGED_ROWS = 16
# Of each stream and second: which second it was, how many frames, and the sums of their percentiles and of how odd
# their columns were.
WIDTH = 4
# Columns are named once the mean frame of a stream is odder than this percentage of held-out frames.
ODD_PERCENTILE = 99


class StreamNovelty(NamedTuple):
    """How many frames were judged in the last seconds, the mean of their percentiles, and the percentile of how odd
    their columns were on average; None if nothing is known of columns."""

    frames: int
    mean: float
    columns: float | None


def overall(streams: Sequence[StreamNovelty]) -> StreamNovelty | None:
    """All as one, with the columns of the stream where they are worst; None if there is no stream."""
    if not streams:
        return None
    frames = sum(stream.frames for stream in streams)
    mean = sum(stream.frames * stream.mean for stream in streams) / frames
    columns = max((stream.columns for stream in streams if stream.columns is not None), default=None)
    return StreamNovelty(frames, mean, columns)


class NoveltyWatch:
    """Counts for one model."""

    def __init__(self, ledger: Ledger, manifest: Manifest, novelty: Novelty | None) -> None:
        """A bundle without `novelty` counts nothing, nor does one for whose counts there is no room."""
        self.measure, self._ledger, self._key = novelty, ledger, ("novelty", manifest.name)
        # Requests until the next one that is judged.
        self._wait = 1
        # Until when no further one is, and from when on those are that wait: their streams, embeddings and rows.
        self._rests_until = self._looks_at = 0.0
        self._waiting: list[tuple[str | None, Array, Array]] = []
        # The place of each stream on the sheet.
        self._slots: dict[str, int] = {}
        self._odd_rows: OddRows | None = None
        if novelty is None:
            return
        size = MAX_STREAMS * WINDOW_S * WIDTH
        try:
            self._start = ledger.place(self._key, size, COLUMNS_SHARE)
        except MemoryError as error:
            logger.warning("the novelty of %s is not watched: %s", manifest.name, error)
            self.measure = None
            return
        # The version that was served before has left its counts here.
        for place in range(self._start, self._start + size):
            ledger.numbers[place] = 0.0
        if (columns := novelty.columns) is None:
            return
        try:
            limit = float(columns.quantiles[ODD_PERCENTILE])
            self._odd_rows = OddRows(ledger, manifest.name, manifest.input_dim, limit)
        except MemoryError as error:
            logger.warning("columns of %s that do not fit are not named: %s", manifest.name, error)

    def judge(self, stream: str | None, embeddings: Array, rows: Array) -> None:
        """Counts present frames [B, embed_dim], nothing hidden, whose rows are [B, C]: one call in SAMPLED at most."""
        self._wait -= 1
        if self._wait > 0 or self.measure is None:
            return
        self._wait = random.randint(1, 2 * SAMPLED - 1)
        if (now := monotonic()) < self._rests_until:
            return
        self._rests_until = now + REST_S * min(len(rows), MAX_JUDGED_ROWS)
        if now > self._looks_at + WINDOW_S:
            self._waiting.clear()
        # Copies, as these are parts of whole runs and requests.
        self._waiting.append((stream, embeddings[:MAX_JUDGED_ROWS].copy(), rows[:MAX_JUDGED_ROWS].copy()))
        if now >= self._looks_at or sum(len(rows) for _, _, rows in self._waiting) >= MAX_JUDGED_ROWS:
            self._looks_at = now + LOOK_EVERY_S
            self._look(self.measure)

    def _look(self, measure: Novelty) -> None:
        embeddings, rows = (np.concatenate(parts) for parts in list(zip(*self._waiting, strict=True))[1:])
        judged = measure.judge(measure.percentiles(embeddings), rows)
        start = 0
        for stream, _, own in self._waiting:
            part = slice(start, start := start + len(own))
            oddities = None if judged.oddities is None else judged.oddities[part]
            self.see(stream, Judged(judged.percentiles[part], oddities), own)
        self._waiting.clear()

    def see(self, stream: str | None, judged: Judged, rows: Array) -> None:
        """Counts frames that were judged already, whose rows are [B, C]."""
        if self.measure is None or (slot := self._slot(stream or "")) is None:
            return
        numbers, second = self._ledger.numbers, float(int(monotonic()))
        place = self._start + WIDTH * (slot * WINDOW_S + int(second) % WINDOW_S)
        if numbers[place] != second:
            numbers[place], numbers[place + 1], numbers[place + 2], numbers[place + 3] = second, 0.0, 0.0, 0.0
        numbers[place + 1] += len(judged.percentiles)
        numbers[place + 2] += float(judged.percentiles.sum())
        if judged.oddities is not None:
            numbers[place + 3] += (total := float(judged.oddities.sum()))
            # None is negative, so that a small sum has no large one.
            if self._odd_rows is not None and total > self._odd_rows.limit:
                self._odd_rows.see(rows, judged.oddities)

    def _slot(self, stream: str) -> int | None:
        """None where other streams take all places."""
        if stream not in self._slots and len(self._slots) == MAX_STREAMS:
            oldest = monotonic() - WINDOW_S
            silent = [name for name, slot in self._slots.items() if self._last_second(slot) < oldest]
            if not silent:
                return None
            self._slots[stream] = self._slots.pop(silent[0])
        return self._slots.setdefault(stream, len(self._slots))

    def _last_second(self, slot: int) -> float:
        start = self._start + slot * WINDOW_S * WIDTH
        return max(self._ledger.numbers[start : start + WINDOW_S * WIDTH : WIDTH])

    def report(self) -> list[StreamNovelty]:
        """Of all processes together, the most novel stream first."""
        if self.measure is None:
            return []
        oldest, found = int(monotonic()) - WINDOW_S, []
        for numbers in self._ledger.on_each_sheet(self._key):
            for start in range(0, len(numbers), WINDOW_S * WIDTH):
                seconds = [numbers[at : at + WIDTH] for at in range(start, start + WINDOW_S * WIDTH, WIDTH)]
                recent = [counts for second, *counts in seconds if second > oldest and counts[0]]
                if recent:
                    frames, total, oddity = map(sum, zip(*recent, strict=True))
                    columns = self.measure.columns
                    odd = None if columns is None else float(columns.percentiles(oddity / frames))
                    found.append(StreamNovelty(int(frames), total / frames, odd))
        return sorted(found, key=lambda stream: -stream.mean)

    def misfits(self) -> Misfits:
        """The columns that do not fit the others in the odd frames of the last seconds: tens of milliseconds of work,
        and only worth it for a stream that is odd on average, since a usual one has rare odd frames as well."""
        if self.measure is not None and self.measure.columns is not None and self._odd_rows is not None:
            rows = self._odd_rows.since(monotonic() - WINDOW_S)
            if len(rows):
                return misfits(self.measure.columns, rows)
        return Misfits((), None)
