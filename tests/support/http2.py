"""gRPC as bytes (RFC 9113; PROTOCOL-HTTP2.md of grpc/grpc), for clients that break its rules or stop halfway."""

import struct
from collections.abc import Iterator

from app.api.oip.grpc.messages import SERVICE

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
MAX_FRAME_BYTES = 2**14
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def hello(window: int | None = None) -> bytes:
    """How a client begins, with the size of the window that it grants each stream."""
    return PREFACE + frame(SETTINGS, 0, 0, b"" if window is None else struct.pack(">HI", INITIAL_WINDOW_SIZE, window))


def call(method: bytes | str, stream: int = 1, **metadata: bytes) -> bytes:
    """The head of a call; a `method` of bytes is the whole path."""
    path = method if isinstance(method, bytes) else f"/{SERVICE}/{method}".encode()
    fields = {b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"x", b"te": b"trailers"}
    fields |= {b"content-type": b"application/grpc"}
    fields |= {name.replace("_", "-").encode(): value for name, value in metadata.items()}
    # Literals that are not added to the table of HPACK (RFC 7541, 6.2.2), with lengths below 127.
    block = b"".join(b"\0%c%s%c%s" % (len(name), name, len(value), value) for name, value in fields.items())
    return frame(HEADERS, END_HEADERS, stream, block)


def message(content: bytes, stream: int = 1, *, length: int | None = None, packed: bool = False) -> bytes:
    """A message, or as much of one of `length` bytes as `content` is; `packed` says that it is compressed."""
    data = struct.pack(">BI", packed, len(content) if length is None else length) + content
    starts = range(0, len(data), MAX_FRAME_BYTES)
    return b"".join(frame(DATA, 0, stream, data[start : start + MAX_FRAME_BYTES]) for start in starts)


def frames(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The kind, the stream and the content of each whole frame."""
    while len(data) >= 9 and len(data) >= (end := 9 + int.from_bytes(data[:3])):
        yield data[3], int.from_bytes(data[5:9]), data[9:end]
        data = data[end:]
