"""Splits the bytes of a connection into HTTP messages: where each begins and ends, and what its head says."""

import re
from dataclasses import dataclass
from time import monotonic

import httptools

from app.api.body import PLAIN, coding_of
from app.errors import HeadTooLarge
from app.settings import Settings

MAX_HEAD_BYTES = 2**16
MAX_LENGTH_DIGITS = 18
# Taken out at once: chunks of a byte each cost the event loop a thousand times what their bytes do.
MAX_CHUNKS_A_TURN = 128
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;|$)")
METHOD = re.compile(rb"[A-Z-]{1,32}(?: |$)")
UPGRADE_HEADERS = frozenset((b"upgrade", b"http2-settings", b"connection"))


class Unframed(Exception):
    """The bytes are not HTTP, or a message whose end is not certain: what follows it could be taken for its body."""


@dataclass(slots=True)
class Head:
    """Header names are in lower case."""

    raw: bytes
    method: bytes
    url: bytes
    lines: list[tuple[bytes, bytes]]
    headers: dict[bytes, bytes]
    # None if the body comes in chunks.
    content_length: int | None
    keep_alive: bool

    @property
    def path(self) -> bytes:
        return self.url.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        return self.url.partition(b"?")[2]

    @property
    def is_websocket(self) -> bool:
        """Whether it is a handshake, which is a GET: the answer to anything else ends where HTTP says."""
        return (
            self.method == b"GET"
            and self.headers.get(b"upgrade", b"").lower() == b"websocket"
            and _has_token(self.headers.get(b"connection", b""), b"upgrade")
        )

    def is_usual(self, settings: Settings) -> bool:
        """Whether its body comes as one, as it is, and may come at once."""
        has_length = 0 < (self.content_length or 0) <= settings.max_body_bytes
        is_plain = coding_of(self.headers) in PLAIN
        return self.method == b"POST" and has_length and is_plain and b"expect" not in self.headers

    def without_upgrade(self) -> bytes:
        """The same head without `Upgrade`, which a server may ignore (RFC 9110, 7.8). With it, httptools would skip the
        body, and the body would be parsed as the next request."""
        if b"upgrade" not in self.headers:
            return self.raw
        first, *lines = self.raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in UPGRADE_HEADERS]
        if not self.keep_alive:
            kept.append(b"Connection: close")
        return b"\r\n".join([first, *kept, b"", b""])


class Chunks:
    """Finds the end of a body that comes in chunks (RFC 9112, 7.1)."""

    def __init__(self) -> None:
        self.is_complete = False
        # Bytes of the current chunk that have not arrived, with the line end behind them.
        self._missing_bytes = 0
        self._in_trailer = False

    def measure(self, data: bytearray) -> int:
        """How many bytes at the start of `data` belong to the body, in its next chunks; raises Unframed."""
        at = 0
        for _ in range(MAX_CHUNKS_A_TURN):
            if self.is_complete:
                break
            step = min(self._missing_bytes, len(data) - at)
            at += step
            self._missing_bytes -= step
            end = data.find(b"\r\n", at)
            if self._missing_bytes or end < 0:
                if not self._missing_bytes and len(data) - at > MAX_HEAD_BYTES:
                    raise Unframed("the size of a chunk has no end")
                break
            self._take_line(bytes(data[at:end]))
            at = end + 2
        return at

    def _take_line(self, line: bytes) -> None:
        if self._in_trailer:
            self.is_complete = not line
            return
        size = CHUNK_SIZE.match(line)
        if size is None:
            raise Unframed("a chunk has no size")
        self._in_trailer = not int(size[1], 16)
        self._missing_bytes = 0 if self._in_trailer else int(size[1], 16) + 2


class Inbox:
    """Bytes received on one connection, taken out message by message: a head, then its body."""

    def __init__(self) -> None:
        # What has not been taken out.
        self.held = bytearray()
        # Bytes of the current body that have not been taken out; in place of that its chunks, until they are complete.
        self._missing_bytes = 0
        self._chunks: Chunks | None = None
        # When the current message began (`time.monotonic`), None between messages.
        self.began: float | None = None
        # Whether it asks for a head alone, however malformed it is.
        self.is_for_head = False

    @property
    def expects_body(self) -> bool:
        return self._chunks is not None or self._missing_bytes > 0

    def __len__(self) -> int:
        return len(self.held)

    def add(self, data: bytes) -> None:
        self.held += data

    def head(self) -> Head | None:
        """The next head, once it has arrived whole; raises Unframed or HeadTooLarge."""
        # Empty lines before a request are ignored (RFC 9112, 2.2).
        if self.held.startswith((b"\r", b"\n")):
            self.held = self.held.lstrip(b"\r\n")
        if not self.held:
            return None
        self.began = self.began or monotonic()
        self.is_for_head = self.held.startswith(b"HEAD ")
        end = find_end(self.held)
        if (len(self.held) if end < 0 else end) > MAX_HEAD_BYTES:
            raise HeadTooLarge(f"the head is larger than {MAX_HEAD_BYTES} bytes; send fewer headers")
        if end < 0:
            return None
        head = parse(self._take(end))
        self._missing_bytes = head.content_length or 0
        self._chunks = Chunks() if head.content_length is None else None
        self._end_if_complete()
        return head

    def body(self) -> bytes | None:
        """The body that belongs to the last head, once it has arrived whole; not for chunks."""
        return self.part() if len(self.held) >= self._missing_bytes else None

    def part(self) -> bytes:
        """As much of that body as has arrived, and of chunks the next few; raises Unframed for what are no chunks."""
        if self._chunks is not None:
            part = self._take(self._chunks.measure(self.held))
            self._chunks = None if self._chunks.is_complete else self._chunks
        else:
            part = self._take(min(self._missing_bytes, len(self.held)))
            self._missing_bytes -= len(part)
        self._end_if_complete()
        return part

    def rest(self) -> bytes:
        rest = self._take(len(self.held))
        self.drop()
        return rest

    def drop(self) -> None:
        """Without a copy, which there may be no memory for."""
        self._missing_bytes, self._chunks = 0, None
        self.held.clear()

    def _end_if_complete(self) -> None:
        if not self.expects_body:
            self.began = None

    def _take(self, count: int) -> bytes:
        with memoryview(self.held) as view:
            taken = bytes(view[:count])
        del self.held[:count]
        return taken


def find_end(data: bytearray) -> int:
    """Length of the head at the start of `data`, with its empty line; −1 if that has not arrived yet."""
    if not METHOD.match(data):
        raise Unframed("it does not begin with a method")
    end = data.find(b"\r\n\r\n")
    # Not beyond the end: behind it other requests may wait, thousands of them.
    if data.find(b"\n\n", 0, len(data) if end < 0 else end) >= 0:
        raise Unframed("its lines end with a line feed alone")
    return end + 4 if end >= 0 else -1


def parse(raw: bytes) -> Head:
    """Raises Unframed for what the parser refuses, for a message without a length in its head, and for two hosts."""
    read = _Reader()
    parser = httptools.HttpRequestParser(read)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise Unframed(str(error)) from None
    headers = dict(read.lines)
    length = headers.get(b"content-length", b"0").strip()
    if not read.is_complete or parser.get_method() == b"CONNECT" or not length.isdigit():
        raise Unframed("its head does not say how long it is")
    if len(length) > MAX_LENGTH_DIGITS or headers.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
        raise Unframed("its head does not say how long it is")
    if sum(name == b"host" for name, _ in read.lines) > 1:
        # Whatever stands before this service may have gone by the other one (RFC 9112, 3.2).
        raise Unframed("it names more than one host")
    keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
    size = None if b"transfer-encoding" in headers else int(length)
    return Head(raw, parser.get_method(), read.url, read.lines, headers, size, keep_alive)


def _has_token(value: bytes, token: bytes) -> bool:
    return token in (part.strip().lower() for part in value.split(b","))


class _Reader:
    """Collects what httptools finds."""

    def __init__(self) -> None:
        self.url = b""
        self.lines: list[tuple[bytes, bytes]] = []
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.lines.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_complete = True
