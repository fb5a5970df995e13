"""The newest frame of each stream, in memory that processes share: a bot's frames come over several connections."""

import mmap
from collections.abc import Hashable

SLOTS = 2**14


class Streams:
    """A table by hash. Streams that share a slot forget each other, and then only their own process compares frames."""

    def __init__(self) -> None:
        self._table = memoryview(mmap.mmap(-1, 16 * SLOTS)).cast("q")  # pairs of a stream and its newest moment

    def put(self, stream: Hashable, moment: float) -> None:
        """`time.monotonic`, which is the same in all processes."""
        key = hash(stream)
        self._table[2 * (key % SLOTS)] = key
        self._table[2 * (key % SLOTS) + 1] = int(moment * 1e9)

    def has_newer(self, stream: Hashable, moment: float) -> bool:
        key = hash(stream)
        return self._table[2 * (key % SLOTS)] == key and self._table[2 * (key % SLOTS) + 1] > int(moment * 1e9)
