"""Numbers by key, in memory that the processes of a service share since before they were forked."""

import mmap
from collections.abc import Hashable
from time import monotonic_ns

# Cells of a process. A key may stand in any of NEAR_CELLS cells, from the one on that its hash says.
MAX_CELLS = 2**14
NEAR_CELLS = 8


class Table:
    """Of the numbers that processes wrote for one key, the newest counts.

    A process writes to a column of its own and reads those of all. So two processes never take the same free cell, and
    no number is lost, at whatever point one of them is interrupted or killed. A lock could not promise that: a process
    that is killed while it holds one never releases it. Within a process only the event loop writes; any thread may
    read.

    A cell is three words of 8 bytes, each of which is written and read at once: key, number, moment. Their order keeps
    a reader from taking a number for that of another key, or an old number for a new one: a cell has no key while it
    changes hands, and the moment is written after the number.

    Keys stand as their hashes, which are the same in all processes that were forked from one; 0 stands in a free cell.
    """

    def __init__(self, processes: int = 1, *, forgets: bool = False) -> None:
        """Where all cells near a key are taken, one that `forgets` drops the oldest of them; others raise."""
        # The last keys of a column have as many cells after them as any other.
        self._width = MAX_CELLS + NEAR_CELLS
        words = memoryview(mmap.mmap(-1, 3 * 8 * self._width * processes)).cast("q")
        size = self._width * processes
        self._keys, self._numbers, self._moments = (words[at * size : (at + 1) * size] for at in range(3))
        self._forgets = forgets
        # Number of the column that this process writes to.
        self.own = 0

    def __getitem__(self, key: Hashable) -> int:
        """0 where nobody wrote any."""
        return self.newest(key)[1]

    def __setitem__(self, key: Hashable, number: int) -> None:
        self.write(key, number, monotonic_ns())

    def newest(self, key: Hashable) -> tuple[int, int]:
        """When the number that counts was written, and that number; 0 and 0 where nobody wrote any."""
        hashed, keys, moments = hash(key) or 1, self._keys, self._moments
        newest_ns = number = 0
        for cell in range(hashed % MAX_CELLS, len(keys), self._width):
            if keys[cell] != hashed:
                cell = self._find(cell, hashed)
            moment_ns, written = moments[cell], self._numbers[cell]
            # Unless the cell is another key's, or was given to one while it was read.
            if moment_ns > newest_ns and keys[cell] == hashed:
                newest_ns, number = moment_ns, written
        return newest_ns, number

    def write(self, key: Hashable, number: int, moment_ns: int) -> None:
        """In this process's column; MemoryError where there is no room for another key, unless the table forgets."""
        hashed, keys = hash(key) or 1, self._keys
        cell = self.own * self._width + hashed % MAX_CELLS
        if keys[cell] != hashed:
            cell = self._find(cell, hashed)
            if keys[cell] != hashed:
                cell = self._room(cell)
                keys[cell] = 0
        self._numbers[cell] = number
        self._moments[cell] = moment_ns
        keys[cell] = hashed

    def _find(self, first: int, hashed: int) -> int:
        """The cell of a key among those from its first one on, which is taken before the others; where it has none, its
        first."""
        near = self._keys[first : first + NEAR_CELLS].tolist() if self._keys[first] else []
        return first + near.index(hashed) if hashed in near else first

    def _room(self, first: int) -> int:
        """A cell for a new key, among those from its first one on."""
        near = self._keys[first : first + NEAR_CELLS].tolist()
        if 0 in near:
            return first + near.index(0)
        if not self._forgets:
            raise MemoryError(f"the processes have no room for more than {NEAR_CELLS} numbers as near as these")
        moments = self._moments[first : first + NEAR_CELLS].tolist()
        return first + moments.index(min(moments))
