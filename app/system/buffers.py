"""How many bytes may be held for all peers together: bodies on their way, and answers that are not read."""

from app.system.counters import Cell

# What each connection may hold in any case: the frames of bots are never refused because of what others hold.
FREE_BYTES = 2**16
# From so many on, what was held and is not any more is worth the milliseconds that it takes to give it back.
MIN_SPENT_BYTES = 2**24


class Buffers:
    """The limit of one process, and how much of it is taken."""

    def __init__(self, max_bytes: int, shown: Cell) -> None:
        self.max_bytes, self._shown = max_bytes, shown
        self.held_bytes = 0
        # Since the last look at what is spent.
        self._peak_bytes = 0

    def add(self, count: int) -> bool:
        """False, and nothing is added, if that is more than there may be."""
        if count > 0 and self.held_bytes + count > self.max_bytes:
            return False
        self.held_bytes += count
        self._peak_bytes = max(self._peak_bytes, self.held_bytes)
        self._shown.set(self.held_bytes)
        return True

    def has_spent(self) -> bool:
        """Whether much less is held now than at some moment since this was last true; that memory is free again."""
        if self._peak_bytes - self.held_bytes < MIN_SPENT_BYTES:
            return False
        self._peak_bytes = self.held_bytes
        return True


class Share:
    """What one peer holds of them, beyond what each may hold."""

    __slots__ = ("_buffers", "held_bytes")

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self.held_bytes = 0

    def fits(self, count: int) -> bool:
        """Sets how many bytes are held; False, and nothing changes, if there is no room for them."""
        counted = max(0, count - FREE_BYTES)
        if counted != self.held_bytes:
            if not self._buffers.add(counted - self.held_bytes):
                return False
            self.held_bytes = counted
        return True
