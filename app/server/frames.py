"""Cuts the bytes of a WebSocket into frames before any of them is parsed."""

MASKED = 0x80
MIN_HEAD_BYTES = 2
MASK_BYTES = 4
# Of the extended length, by what the second byte says.
LENGTH_BYTES = {126: 2, 127: 8}


class Frames:
    """The bytes that have arrived on one connection. Parsing a frame takes the event loop some ten microseconds, and
    thousands of tiny ones fit into one segment; here each is found by its length alone (RFC 6455, 5.2)."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        # Of the current frame, those that have not been taken out, and those that have.
        self._missing_bytes = self._taken_bytes = 0

    @property
    def is_within_frame(self) -> bool:
        """Whether more has to arrive before the current frame can be taken out to its end."""
        return self._missing_bytes > 0 or (len(self._bytes) > 0 and not self._length())

    @property
    def held_bytes(self) -> int:
        """Of what has arrived, with what was taken of a frame that has not ended."""
        return self._taken_bytes + len(self._bytes)

    def __len__(self) -> int:
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        self._bytes += data

    def take(self) -> bytes:
        """What has arrived of the current frame; empty if more has to arrive first."""
        self._missing_bytes = self._missing_bytes or self._length()
        count = min(self._missing_bytes, len(self._bytes))
        with memoryview(self._bytes) as view:
            taken = bytes(view[:count])
        del self._bytes[:count]
        self._missing_bytes -= count
        self._taken_bytes = self._taken_bytes + count if self._missing_bytes else 0
        return taken

    def clear(self) -> None:
        self._bytes.clear()

    def _length(self) -> int:
        """Of the frame that begins here, with its head; 0 if the head has not arrived."""
        if len(self._bytes) < MIN_HEAD_BYTES:
            return 0
        is_masked, length = self._bytes[1] & MASKED, self._bytes[1] & ~MASKED
        head = MIN_HEAD_BYTES + LENGTH_BYTES.get(length, 0)
        if len(self._bytes) < head:
            return 0
        if length in LENGTH_BYTES:
            length = int.from_bytes(self._bytes[MIN_HEAD_BYTES:head], "big")
        return head + (MASK_BYTES if is_masked else 0) + length
