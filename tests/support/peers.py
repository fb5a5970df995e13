"""Peers that are idle, slow or hostile, over each protocol of a service: none of them ever hangs up."""

import base64
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress

from tests.support import http2
from tests.support.bundles import TinyModel
from tests.support.serving import Server

ROW = TinyModel().rows(1).tobytes()
BINARY = "application/octet-stream"
UNREAD = 50
HANDSHAKE = (
    b"GET /stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n\r\n"
)


def post(path: str, length: str = "Content-Length: 40") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {BINARY}\r\nAccept: {BINARY}\r\n{length}\r\n\r\n".encode()


INFER = "/v2/models/tiny/infer"
# What a peer sends over HTTP, and whether it then reads the beginning of an answer.
HTTP: Mapping[str, tuple[bytes, bool]] = {
    "silent": (b"", False),
    "idle after an answer": (post("/embed") + ROW, True),
    "half a head": (b"GET /mod", False),
    "half a body": (post("/embed") + ROW[:20], False),
    "half a body on the long way": (post(INFER) + ROW[:20], False),
    "half a body in chunks": (post(INFER, "Transfer-Encoding: chunked") + b"5\r\nabc", False),
    "answers that it does not read": (b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * UNREAD, False),
    "a WebSocket": (HANDSHAKE, True),
    "half a message on a WebSocket": (HANDSHAKE + b"\x82\xfe\x10\x00aaaa", True),
}
# The same over gRPC.
GRPC: Mapping[str, tuple[bytes, bool]] = {
    "silent": (b"", False),
    "idle": (http2.hello(), True),
    "a call without a message": (http2.hello() + http2.call("ModelInfer"), False),
    "half a message": (http2.hello() + http2.call("ModelInfer") + http2.message(b"x" * 99, length=9999), False),
    "an idle stream": (http2.hello() + http2.call("ModelStreamInfer") + http2.message(b""), True),
    "answers that it does not read": (
        http2.hello(window=0)
        + b"".join(
            http2.call("RepositoryIndex", stream) + http2.message(b"", stream) for stream in range(1, 2 * UNREAD, 2)
        ),
        False,
    ),
}


class Peers:
    """Many of each kind, connected for a `with` block."""

    def __init__(self, server: Server, *, trusted: ssl.SSLContext | None = None, of_each: int = 4) -> None:
        self._server, self._trusted, self._of_each = server, trusted, of_each
        self.connections: dict[str, list[socket.socket]] = {}

    def __enter__(self) -> "Peers":
        (grpc_port,) = re.findall(r"gRPC on [\d.]+:(\d+)", self._server.log)
        for protocol, port, kinds in (("HTTP", self._server.port, HTTP), ("gRPC", int(grpc_port), GRPC)):
            for kind, (sent, reads) in kinds.items():
                made = [self._connect(port, protocol, kind, sent) for _ in range(self._of_each)]
                self.connections[f"{protocol}: {kind}"] = made
                if reads:
                    for connection in made:
                        connection.recv(1)
        return self

    def _connect(self, port: int, protocol: str, kind: str, sent: bytes) -> socket.socket:
        connection = socket.socket()
        # So that a few answers are enough for the service to have to wait.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect((self._server.host, port))
        if self._trusted is not None and kind != "silent":
            self._trusted.set_alpn_protocols(["h2"] if protocol == "gRPC" else [])
            connection = self._trusted.wrap_socket(connection, server_hostname=self._server.host)
        # Whoever does not read cannot send on, either.
        connection.setblocking(False)
        with suppress(BlockingIOError, ssl.SSLWantWriteError):
            connection.send(sent)
        connection.settimeout(10)
        return connection

    @property
    def count(self) -> int:
        return sum(map(len, self.connections.values()))

    def told(self, kind: str) -> list[bytes]:
        """All that the peers of a kind get from now on until their connections end."""
        return [b"".join(rest_of(connection)) for connection in self.connections[kind]]

    def __exit__(self, *_: object) -> None:
        for made in self.connections.values():
            for connection in made:
                connection.close()


def rest_of(connection: socket.socket) -> Iterator[bytes]:
    with suppress(ConnectionResetError, ssl.SSLError):
        while data := connection.recv(2**16):
            yield data
