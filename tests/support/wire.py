"""HTTP/1.1 on a bare socket: answers one after the other, as a client reads them off a pipeline."""

import socket
from typing import NamedTuple

# A server that takes longer has hung.
MAX_WAIT_S = 10


class Answered(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Wire:
    """A connection for a `with` block."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=MAX_WAIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, *, for_head: bool = False) -> Answered:
        """The next answer; raises EOFError or OSError where the connection ends before."""
        head = self._until(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        status = int(first.split()[1])
        if status == 100:
            return self.read(for_head=for_head)
        if for_head:
            return Answered(status, headers, b"")
        if headers.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size)
                self._exactly(2)
            self._exactly(2)
            return Answered(status, headers, body)
        return Answered(status, headers, self._exactly(int(headers.get(b"content-length", 0))))

    def read_to_end(self) -> bytes:
        """What comes until the server closes the connection."""
        try:
            while True:
                self._more()
        except (EOFError, ConnectionError):
            return self.rest

    def _more(self) -> None:
        data = self.socket.recv(2**16)
        if not data:
            raise EOFError
        self.rest += data

    def _until(self, end: bytes) -> bytes:
        while end not in self.rest:
            self._more()
        found, _, self.rest = self.rest.partition(end)
        return found

    def _exactly(self, count: int) -> bytes:
        while len(self.rest) < count:
            self._more()
        found, self.rest = self.rest[:count], self.rest[count:]
        return found
