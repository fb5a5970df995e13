"""How Protocol Buffers write the fields of a message, for reading some of it without a parser.

https://protobuf.dev/programming-guides/encoding
"""

# How a field is written: the last three bits of its key.
VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10


def read_varint(content: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends; IndexError where the content ends before it, ValueError where
    it is longer than any."""
    # Most have one byte.
    if (value := content[at]) < 0x80:
        return value, at + 1
    value &= 0x7F
    for i in range(1, MAX_VARINT_BYTES):
        byte = content[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError(f"a number of more than {MAX_VARINT_BYTES} bytes")
