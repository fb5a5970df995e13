"""Sends the calls of JepaClient over connections that stay open. On the standard library, since httpx takes a bot four
times the CPU for each frame."""

# getaddrinfo imports it, and a child that is forked meanwhile would wait for the end of that for ever.
import encodings.idna  # noqa: F401
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPResponse, IncompleteRead
from io import BufferedReader, RawIOBase
from socket import IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, getaddrinfo, socket
from time import monotonic
from typing import Any, NamedTuple

import httpx

from jepa_client.service import Service, basic

# Larger bodies are written, and all are read, in parts of this size.
PART_BYTES = 65536
DEFAULT_PORTS = {"http": 80, "https": 443}
USER_AGENT = "jepa-client"


class Head(NamedTuple):
    """The head of an answer; the names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]


class Connections:
    """The connections to a service that no thread is using; a call takes one of them, or opens another."""

    def __init__(self, service: Service) -> None:
        self._service = service
        headers = {"Host": service.address.netloc.decode(), "User-Agent": USER_AGENT} | service.headers()
        self._before = service.address.raw_path.decode().rstrip("/")
        if service.via is not None and service.address.scheme == "http":
            # The proxy reads this request itself, so it is told the whole address and its own password.
            self._before = str(service.address).rstrip("/")
            headers |= _proxy_headers(service.via)
        self._headers = _lines(headers)
        # The one that was used last is at the end. Lists append and pop in one step, so threads need no lock.
        self._idle: list[_Connection] = []
        self._is_closed = False

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes,
        *,
        deadline: float,
        take: Callable[[bytes], None],
    ) -> Head:
        """Sends a request, and hands the body of the answer to `take` in parts. Raises OSError or HTTPException, and
        TimeoutError past `deadline` (`time.monotonic`); how long the lookup of the host's name takes is not bounded."""
        length = f"Content-Length: {len(content)}\r\n" if content else ""
        head = f"{method} {self._before}{url} HTTP/1.1\r\n{self._headers}{_lines(headers)}{length}\r\n"
        connection = self._take_idle() or _Connection(_opened(self._service, deadline))
        try:
            answer = connection.ask(method, head.encode("ascii"), content, deadline, take)
        except BaseException:
            connection.close()
            raise
        if connection.stays:
            self._idle.append(connection)
        else:
            connection.close()
        if self._is_closed:
            self.close()
        return answer

    def _take_idle(self) -> "_Connection | None":
        if self._is_closed:
            raise RuntimeError("the client was closed; make another one")
        with suppress(IndexError):
            while not (connection := self._idle.pop()).is_quiet():
                connection.close()
            return connection
        return None

    def close(self) -> None:
        self._is_closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


class _Connection:
    """A connection over TCP or TLS, for one thread at a time."""

    def __init__(self, connected: socket) -> None:
        self._socket = connected
        self._incoming = _Incoming(connected)
        self._answers = _Answers(self._incoming)
        # Whether another request may follow.
        self.stays = True

    def ask(self, method: str, head: bytes, content: bytes, deadline: float, take: Callable[[bytes], None]) -> Head:
        try:
            self.send(head, content, deadline)
        except (BrokenPipeError, ConnectionResetError):
            # A service may refuse a large body before it has read it all; its reason may have arrived.
            self.stays = False
        answer = self.head(method, deadline)
        while part := answer.read(PART_BYTES):
            take(part)
        if answer.length:
            raise IncompleteRead(b"", answer.length)
        self.stays = self.stays and not answer.will_close
        return Head(answer.status, {name.lower(): value for name, value in answer.getheaders()})

    def send(self, head: bytes, content: bytes, deadline: float) -> None:
        for whole in (head + content,) if len(content) <= PART_BYTES else (head, content):
            for start in range(0, len(whole), PART_BYTES):
                self._socket.settimeout(_left(deadline))
                self._socket.sendall(memoryview(whole)[start : start + PART_BYTES])

    def head(self, method: str, deadline: float) -> HTTPResponse:
        """The answer, read up to its body. What comes before it, such as 103 Early Hints, is skipped."""
        self._incoming.deadline = deadline
        while True:
            answer = HTTPResponse(self, method=method)  # type: ignore[arg-type]
            answer.begin()
            if not 100 <= answer.status < 200:
                return answer

    def makefile(self, _: str) -> "_Answers":
        """What HTTPResponse reads from, as of a socket."""
        return self._answers

    def is_quiet(self) -> bool:
        """Whether the service has neither closed the connection nor sent what it was not asked for."""
        self._socket.settimeout(0)
        self._incoming.deadline = None
        try:
            self._answers.peek()
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        self._socket.close()


class _Incoming(RawIOBase):
    """The bytes that a connection brings, until a deadline."""

    def __init__(self, connected: socket) -> None:
        self._socket = connected
        # None: the timeout of the socket holds.
        self.deadline: float | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.deadline is not None:
            self._socket.settimeout(_left(self.deadline))
        return self._socket.recv_into(buffer)


class _Answers:
    """One answer after the other. HTTPResponse closes what it has read an answer from; this stays open."""

    def __init__(self, incoming: _Incoming) -> None:
        self._buffered = BufferedReader(incoming, PART_BYTES)
        self.read, self.readinto, self.readline = (
            self._buffered.read,
            self._buffered.readinto,
            self._buffered.readline,
        )

    def peek(self) -> bytes:
        return self._buffered.peek()

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _opened(service: Service, deadline: float) -> socket:
    """A connection to the service, if need be through a proxy, over which TLS has been agreed."""
    at = service.via or service.address
    connected = _connected(at.raw_host.decode(), at.port or DEFAULT_PORTS[at.scheme], deadline)
    try:
        if service.address.scheme == "https":
            if service.via is not None:
                _tunnel(_Connection(connected), service, deadline)
            connected.settimeout(_left(deadline))
            return service.trust.wrap_socket(connected, server_hostname=service.address.raw_host.decode())
    except BaseException:
        connected.close()
        raise
    return connected


def _connected(host: str, port: int, deadline: float) -> socket:
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in getaddrinfo(host, port, type=SOCK_STREAM):
        connected = socket(family, kind, protocol)
        try:
            connected.settimeout(_left(deadline))
            connected.connect(address)
            connected.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        except OSError as error:
            connected.close()
            failure = error
        else:
            return connected
    raise failure


def _tunnel(connection: _Connection, service: Service, deadline: float) -> None:
    """Asks a proxy to pass on what follows; it cannot read that, since it is TLS."""
    assert service.via is not None
    host = service.address.raw_host.decode()
    place = f"{f'[{host}]' if ':' in host else host}:{service.address.port or DEFAULT_PORTS['https']}"
    headers = _lines({"Host": place, "User-Agent": USER_AGENT} | _proxy_headers(service.via))
    connection.send(f"CONNECT {place} HTTP/1.1\r\n{headers}\r\n".encode("ascii"), b"", deadline)
    answer = connection.head("CONNECT", deadline)
    if answer.status != 200:
        raise OSError(f"the proxy {service.via.host} answered {answer.status} {answer.reason}")


def _proxy_headers(proxy: httpx.URL) -> dict[str, str]:
    password = basic(proxy)
    return {} if password is None else {"Proxy-Authorization": password}


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left
