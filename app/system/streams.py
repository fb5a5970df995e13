"""The newest frame of each stream, in memory that processes share: a bot's frames come over several connections."""

from collections.abc import Hashable

from app.system.table import Table


class Streams:
    """Streams come and go: where there are too many, the one that was idle longest is forgotten, and until its next
    frame only its own process compares frames."""

    def __init__(self, processes: int = 1) -> None:
        self.table = Table(processes, forgets=True)

    def put(self, stream: Hashable, moment: float) -> None:
        """`moment` is that of `time.monotonic`, which is one clock for all processes."""
        self.table.write(stream, 0, int(moment * 1e9))

    def has_newer(self, stream: Hashable, moment: float) -> bool:
        return self.table.newest(stream)[0] > int(moment * 1e9)
