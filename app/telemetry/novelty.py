"""How novel the frames of the last seconds were, stream by stream, counted in memory that the processes share."""

import logging
import random
from time import monotonic
from typing import NamedTuple

from app.rows import Array
from app.system.counters import COLUMNS_SHARE, Ledger
from bundle.manifest import Manifest
from bundle.novelty import Novelty

logger = logging.getLogger(__name__)

WINDOW_S = 5
# Streams of one process that are told apart; further ones are not followed until one of these falls silent.
MAX_STREAMS = 32
# One request for embeddings in this many is judged, at random. Forecasts that ask for their novelty all count.
SAMPLED = 16
# Between two such requests there are at least so many seconds: to judge one takes about as long as to answer one.
MIN_REST_S = 0.02
# Of one request: its rows are judged on the event loop.
MAX_JUDGED_ROWS = 16
# Of each stream and second: which second it was, how many frames, and the sum of their percentiles.
WIDTH = 3


class StreamNovelty(NamedTuple):
    """How many frames of a stream were judged in the last seconds, and the mean of their percentiles."""

    frames: int
    mean: float


class NoveltyWatch:
    """Counts for one model."""

    def __init__(self, ledger: Ledger, manifest: Manifest, novelty: Novelty | None) -> None:
        """A bundle without `novelty` counts nothing, nor does one for whose counts there is no room."""
        self.measure, self._ledger, self._key = novelty, ledger, ("novelty", manifest.name)
        # Requests until the next one that is judged.
        self._wait = 1
        # Until when no further one is.
        self._rests_until = 0.0
        # The place of each stream on the sheet.
        self._slots: dict[str, int] = {}
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

    def judge(self, stream: str | None, embeddings: Array, rows: Array) -> None:
        """Counts present frames [B, embed_dim], nothing hidden, whose rows are [B, C]: one call in SAMPLED at most."""
        self._wait -= 1
        if self._wait > 0 or self.measure is None:
            return
        self._wait = random.randint(1, 2 * SAMPLED - 1)
        if (now := monotonic()) < self._rests_until:
            return
        self._rests_until = now + MIN_REST_S
        percentiles = self.measure.percentiles(embeddings[:MAX_JUDGED_ROWS])
        self.see(stream, self.measure.with_columns(percentiles, rows[:MAX_JUDGED_ROWS]))

    def see(self, stream: str | None, percentiles: Array) -> None:
        """Counts frames [B] that were judged already."""
        if self.measure is None or (slot := self._slot(stream or "")) is None:
            return
        numbers, second = self._ledger.numbers, float(int(monotonic()))
        place = self._start + WIDTH * (slot * WINDOW_S + int(second) % WINDOW_S)
        if numbers[place] != second:
            numbers[place], numbers[place + 1], numbers[place + 2] = second, 0.0, 0.0
        numbers[place + 1] += len(percentiles)
        numbers[place + 2] += float(percentiles.sum())

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
                recent = [(frames, total) for second, frames, total in seconds if second > oldest and frames]
                if recent:
                    frames, total = map(sum, zip(*recent, strict=True))
                    found.append(StreamNovelty(int(frames), total / frames))
        return sorted(found, key=lambda stream: -stream.mean)
