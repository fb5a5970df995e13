"""The head of a request: where it ends in what came, and what it says."""

from dataclasses import dataclass

import httptools

MAX_HEAD_BYTES = 2**16
METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"PRI")
UPGRADE_HEADERS = frozenset((b"upgrade", b"http2-settings", b"connection"))


@dataclass(slots=True)
class Head:
    """Header names are in lower case."""

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

    def without_upgrade(self, raw: bytes) -> bytes:
        """The same head without the offer of another protocol, which a server may ignore (RFC 9110, 7.8): a parser that
        sees it takes no body."""
        if b"upgrade" not in self.headers:
            return raw
        first, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in UPGRADE_HEADERS]
        if not self.keep_alive:
            kept.append(b"Connection: close")
        return b"\r\n".join([first, *kept, b"", b""])


def find_end(data: bytearray) -> int:
    """How long the head at the start of `data` is, its empty line included; −1 where that has not come yet. ValueError
    for what is no head, or ends its lines otherwise."""
    if not data.startswith(METHODS) and not any(method.startswith(bytes(data[:8])) for method in METHODS):
        raise ValueError("no known method")
    end, bare = data.find(b"\r\n\r\n"), data.find(b"\n\n")
    if bare >= 0 and (end < 0 or bare < end):
        raise ValueError("lines end with a line feed alone")
    return end + 4 if end >= 0 else -1


def parse(raw: bytes) -> Head | None:
    """None for one whose message has no length that is known beforehand, or that the parser refuses."""
    read = _Reader()
    parser = httptools.HttpRequestParser(read)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    if not read.is_complete:
        return None
    headers = dict(read.lines)
    method, length = parser.get_method(), headers.get(b"content-length", b"0")
    if b"transfer-encoding" in headers or method == b"CONNECT" or not length.isdigit() or len(length) > 18:
        return None
    keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
    return Head(method, read.url, read.lines, headers, int(length), keep_alive)


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
