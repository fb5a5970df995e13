"""The newest rows whose columns do not fit each other, in memory that the processes share."""

from time import monotonic

import numpy as np
from numpy.typing import NDArray

from app.rows import Array
from app.system.counters import COLUMNS_SHARE, Ledger

# Of each process; so many name the columns about as well as more would.
MAX_ROWS = 16


class OddRows:
    """Those of one model, which are odder than `limit`."""

    def __init__(self, ledger: Ledger, name: str, columns: int, limit: float) -> None:
        """MemoryError where there is no room."""
        self._ledger, self.limit, self._key = ledger, limit, ("odd rows", name, str(columns))
        # Of each row: when it came, then its numbers.
        self._shape = MAX_ROWS, 1 + columns
        self._start = ledger.place(self._key, MAX_ROWS * (1 + columns), COLUMNS_SHARE)
        self._next = 0
        # The version that was served before has left its rows here.
        self._own()[:, 0] = 0.0

    def _own(self) -> NDArray[np.float64]:
        stop = self._start + self._shape[0] * self._shape[1]
        return np.asarray(self._ledger.numbers)[self._start : stop].reshape(self._shape)

    def see(self, rows: Array, oddities: Array) -> None:
        """Keeps the odd ones among rows [B, C] in place of the oldest."""
        own, now = self._own(), monotonic()
        for row in rows[oddities > self.limit][-MAX_ROWS:]:
            place = own[self._next]
            # Whoever reads meanwhile sees no row half old and half new.
            place[0] = 0.0
            place[1:] = row
            place[0] = now
            self._next = (self._next + 1) % MAX_ROWS

    def since(self, moment: float) -> Array:
        """[n, C] of all processes, the newest first, at most MAX_ROWS."""
        sheets = [np.reshape(numbers, self._shape) for numbers in self._ledger.on_each_sheet(self._key)]
        rows = np.concatenate(sheets)
        rows = rows[np.argsort(-rows[:, 0], kind="stable")][:MAX_ROWS]
        return rows[rows[:, 0] > moment, 1:].astype(np.float32)
