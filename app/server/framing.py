"""Splits the bytes of a connection into HTTP messages: where each begins and ends, and what its head says."""

from dataclasses import dataclass
from time import monotonic

import httptools

from app.errors import HeadTooLarge

MAX_HEAD_BYTES = 2**16
MAX_LENGTH_DIGITS = 18
METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"PRI")
UPGRADE_HEADERS = frozenset((b"upgrade", b"http2-settings", b"connection"))


class Unframed(Exception):
    """The bytes are not HTTP, or a message whose length is not known from its head."""


@dataclass(slots=True)
class Head:
    """Header names are in lower case."""

    raw: bytes
    method: bytes
    url: bytes
    lines: list[tuple[bytes, bytes]]
    headers: dict[bytes, bytes]
    content_length: int
    keep_alive: bool

    @property
    def path(self) -> bytes:
        return self.url.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        return self.url.partition(b"?")[2]

    @property
    def is_websocket(self) -> bool:
        return self.headers.get(b"upgrade", b"").lower() == b"websocket" and _has_token(
            self.headers.get(b"connection", b""), b"upgrade"
        )

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


class Inbox:
    """Bytes received on one connection, taken out message by message: a head, then its body."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        # Bytes of the current body that have not been taken out.
        self.missing_bytes = 0
        # When the current message began (`time.monotonic`), None between messages.
        self.began: float | None = None

    def __len__(self) -> int:
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        self._bytes += data

    def head(self) -> Head | None:
        """The next head, once it has arrived whole; raises Unframed or HeadTooLarge."""
        # Empty lines before a request are ignored (RFC 9112, 2.2).
        while self._bytes.startswith((b"\r", b"\n")):
            del self._bytes[:1]
        if not self._bytes:
            return None
        self.began = self.began or monotonic()
        end = find_end(self._bytes)
        if max(end, 0 if end >= 0 else len(self._bytes)) > MAX_HEAD_BYTES:
            raise too_large()
        if end < 0:
            return None
        head = parse(self._take(end, keep=True))
        del self._bytes[:end]
        self._expect(head.content_length)
        return head

    def body(self) -> bytes | None:
        """The body that belongs to the last head, once it has arrived whole."""
        return self.part() if len(self._bytes) >= self.missing_bytes else None

    def part(self) -> bytes:
        """As much of that body as has arrived."""
        part = self._take(min(self.missing_bytes, len(self._bytes)))
        self._expect(self.missing_bytes - len(part))
        return part

    def rest(self) -> bytes:
        return self._take(len(self._bytes))

    def _expect(self, missing_bytes: int) -> None:
        self.missing_bytes = missing_bytes
        if not missing_bytes:
            self.began = None

    def _take(self, count: int, *, keep: bool = False) -> bytes:
        with memoryview(self._bytes) as view:
            taken = bytes(view[:count])
        if not keep:
            del self._bytes[:count]
        return taken


def too_large() -> HeadTooLarge:
    return HeadTooLarge(f"the head is larger than {MAX_HEAD_BYTES} bytes; send fewer headers")


def find_end(data: bytearray) -> int:
    """Length of the head at the start of `data`, with its empty line; −1 if that has not arrived yet."""
    if not data.startswith(METHODS) and not any(method.startswith(bytes(data[:8])) for method in METHODS):
        raise Unframed("no known method")
    end, bare = data.find(b"\r\n\r\n"), data.find(b"\n\n")
    if bare >= 0 and (end < 0 or bare < end):
        raise Unframed("lines end with a line feed alone")
    return end + 4 if end >= 0 else -1


def parse(raw: bytes) -> Head:
    """Raises Unframed for what the parser refuses, and for a message without a length in its head."""
    read = _Reader()
    parser = httptools.HttpRequestParser(read)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise Unframed(str(error)) from None
    headers = dict(read.lines)
    method, length = parser.get_method(), headers.get(b"content-length", b"0")
    if not read.is_complete or b"transfer-encoding" in headers or method == b"CONNECT":
        raise Unframed("no length")
    if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
        raise Unframed("no length")
    keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
    return Head(raw, method, read.url, read.lines, headers, int(length), keep_alive)


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


class Watch:
    """Notes where messages begin and end in bytes that uvicorn parses."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.heads = 0
        self._head_bytes = 0
        self._in_head = False
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        """Raises HeadTooLarge."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # uvicorn finds the same error and answers it.
            return
        self._head_bytes = self._head_bytes + len(data) if self._in_head else 0
        if self._head_bytes > MAX_HEAD_BYTES:
            raise too_large()

    def on_message_begin(self) -> None:
        self.began, self._in_head = monotonic(), True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.heads += 1

    def on_message_complete(self) -> None:
        self.began = None
