"""Where the messages of a connection begin and end in the bytes that come, and what their heads say."""

from dataclasses import dataclass
from time import monotonic

import httptools

from app.errors import HeadTooLarge

MAX_HEAD_BYTES = 2**16
MAX_LENGTH_DIGITS = 18
METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"PRI")
UPGRADE_HEADERS = frozenset((b"upgrade", b"http2-settings", b"connection"))


class Unframed(Exception):
    """What came is no HTTP, or a message whose length only its chunks tell."""


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
        """The same head without the offer of another protocol, which a server may ignore (RFC 9110, 7.8): a parser that
        sees it takes no body."""
        if b"upgrade" not in self.headers:
            return self.raw
        first, *lines = self.raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in UPGRADE_HEADERS]
        if not self.keep_alive:
            kept.append(b"Connection: close")
        return b"\r\n".join([first, *kept, b"", b""])


class Inbox:
    """The bytes of one connection, handed out message by message: a head, then its body."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.missing_bytes = 0  # of the body whose head was handed out
        self.began: float | None = None  # `time.monotonic`, of a message that has not come to its end

    def __len__(self) -> int:
        return len(self._bytes)

    def add(self, data: bytes) -> None:
        self._bytes += data

    def head(self) -> Head | None:
        """The next one, if it is here whole; raises Unframed or HeadTooLarge."""
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
        """That of the last head, if it is here whole."""
        return self.part() if len(self._bytes) >= self.missing_bytes else None

    def part(self) -> bytes:
        """What is here of the body of the last head."""
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
    """How long the head at the start of `data` is, its empty line included; −1 where that has not come yet."""
    if not data.startswith(METHODS) and not any(method.startswith(bytes(data[:8])) for method in METHODS):
        raise Unframed("no known method")
    end, bare = data.find(b"\r\n\r\n"), data.find(b"\n\n")
    if bare >= 0 and (end < 0 or bare < end):
        raise Unframed("lines end with a line feed alone")
    return end + 4 if end >= 0 else -1


def parse(raw: bytes) -> Head:
    """Raises Unframed for what the parser refuses, and for a message whose length its head does not tell."""
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
    """What httptools calls."""

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
    """Sees where messages begin and end in bytes that somebody else parses."""

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
            return  # whoever parses it finds that too, and answers
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
