"""Reads the body of a request up to a size limit, and decompresses it."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

from app.api.headers import RawHeaders
from app.errors import BodyTooLarge, BuffersFull, ClientLeft, MalformedBody, UnsupportedMediaType
from app.system.buffers import Buffers, Share

# The `wbits` argument of zlib for each content coding of HTTP. What HTTP calls deflate is the zlib format.
CODINGS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
# How a Content-Encoding says that the body is not compressed.
PLAIN = (b"", b"identity")


def coding_of(headers: RawHeaders) -> bytes:
    """How the body is compressed; one of PLAIN if it is not."""
    return headers.get(b"content-encoding", b"").strip().lower()


async def read_body(headers: RawHeaders, receive: Receive, max_bytes: int) -> bytes:
    """The whole body; raises BodyTooLarge as soon as its announced or received size is over the limit."""
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    received = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunks.append(message.get("body", b""))
        received += len(chunks[-1])
        if received > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def inflate(body: bytes, coding: bytes, max_bytes: int) -> bytes:
    """The decompressed body; stops one byte past `max_bytes`, so that a decompression bomb cannot fill memory."""
    if coding not in CODINGS:
        raise UnsupportedMediaType("this Content-Encoding is not understood; send gzip, deflate, or the body as it is")
    unpacked = zlib.decompressobj(CODINGS[coding])
    try:
        content = unpacked.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise MalformedBody(f"the body is not {coding.decode()}, as its Content-Encoding says: {error}") from None
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    if not unpacked.eof or unpacked.unused_data:
        raise MalformedBody(f"the {coding.decode()} body ends too early or goes on too long; send one whole stream")
    return content


@contextmanager
def room(buffers: Buffers, count: int) -> Iterator[None]:
    """Holds `count` bytes of the buffers; raises BuffersFull."""
    share = Share(buffers)
    if not share.fits(count):
        raise BuffersFull("bodies take all the memory that there is for them; send this again later")
    try:
        yield
    finally:
        share.fits(0)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {max_bytes} bytes; send fewer rows at once, or send them in binary")
