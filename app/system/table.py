"""Numbers that the processes of a service tell each other, by key, in memory that they share since before the fork."""

import mmap
from collections.abc import Hashable

SLOTS = 2**12


class Board:
    """A table by hash, which is the same in all of them. A key that nobody wrote has 0; none is ever taken off."""

    def __init__(self) -> None:
        self._table = memoryview(mmap.mmap(-1, 16 * SLOTS)).cast("q")  # pairs of a key and its number

    def __getitem__(self, key: Hashable) -> int:
        slot = self._slot(key)
        return self._table[slot + 1] if self._table[slot] else 0

    def __setitem__(self, key: Hashable, number: int) -> None:
        slot = self._slot(key)
        # In this order: who finds the key finds a number that was meant for it.
        self._table[slot + 1] = number
        self._table[slot] = hash(key)

    def _slot(self, key: Hashable) -> int:
        """Where the key stands or may be written."""
        wanted = hash(key)
        for step in range(SLOTS):
            slot = 2 * ((wanted + step) % SLOTS)
            if self._table[slot] in (0, wanted):
                return slot
        raise MemoryError(f"the processes have no room for more than {SLOTS} numbers")
