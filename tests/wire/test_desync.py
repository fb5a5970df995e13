"""Whatever is sent on one connection, and however it is cut, each request gets the answer that it gets alone."""

import gzip
import random
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from tests.support.bundles import TinyModel
from tests.support.fuzz import ROUNDS, fuzzed
from tests.support.serving import Server
from tests.support.wire import Answered, Wire

TINY = TinyModel()
SEQUENCES = 150
NOT_HTTP = b"Invalid HTTP request received."
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: y\r\n\r\n"
# They differ from one answer to the same request to the next.
PASSING = frozenset((b"date", b"server-timing", b"x-batch-rows", b"x-request-id"))


class Sent(NamedTuple):
    data: bytes
    is_http: bool

    @property
    def for_head(self) -> bool:
        return self.data.lstrip(b"\r\n").startswith(b"HEAD ")


class Alone(NamedTuple):
    """What a request gets on a connection of its own, and whether that takes another request afterwards."""

    answer: Answered | None
    stays: bool


def comparable(answer: Answered) -> Answered:
    return answer._replace(headers={name: value for name, value in answer.headers.items() if name not in PASSING})


class Requests:
    """Draws requests from a grammar: mostly those of bots, some unusual, some malformed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def draw(self) -> Sent:
        kind = self._rng.choices((self.usual, self.unusual, self.malformed), (5, 3, 1))[0]
        return Sent(kind(), kind != self.malformed)

    def usual(self) -> bytes:
        rows = TINY.rows(self._rng.randint(1, 3), self._rng.randint(0, 3))
        binary = self._rng.random() < 0.7
        body = rows.tobytes() if binary else orjson.dumps({"features": rows.tolist()})
        if binary and self._rng.random() < 0.2:
            # A body that holds a request.
            body = (LIVEZ + body)[: len(body)]
        kind = b"application/octet-stream" if binary else b"application/json"
        lines = [b"Host: x", b"Content-Type: " + kind, b"Accept: " + kind, b"Content-Length: %d" % len(body)]
        # Heads of the same length are as hard to tell apart as any.
        path = self._rng.choice((b"/embed", b"/forecast", b"/predict", b"/embed?hidden=own", b"/embed?hidden=ask"))
        return b"\r\n".join([b"POST " + path + b" HTTP/1.1", *lines, b"", body])

    def unusual(self) -> bytes:
        method = self._rng.choice((b"POST", b"POST", b"GET", b"HEAD", b"PUT", b"OPTIONS"))
        path = self._rng.choice(PATHS)
        body = b"" if method in (b"GET", b"HEAD") else self._body()
        lines = [b"Host: x"] + [line for line in UNUSUAL_LINES if self._rng.random() < 0.06]
        if body or self._rng.random() < 0.3:
            framing, body = self._framed(body)
            lines.insert(self._rng.randint(0, len(lines)), framing)
        version = self._rng.choices((b"1.1", b"1.0"), (9, 1))[0]
        return b"\r\n".join([method + b" " + path + b" HTTP/" + version, *lines, b"", body])

    def malformed(self) -> bytes:
        right = self.usual() if self._rng.random() < 0.5 else self.unusual()
        head, _, body = right.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        match self._rng.randrange(5):
            case 0:
                lines.insert(self._rng.randint(1, len(lines)), self._rng.choice(MALFORMED_LINES))
            case 1:
                lines[0] = lines[0].replace(b"HTTP/", self._rng.choice((b"HTTP/9", b"http/", b"", b"HTTP /")))
            case 2:
                return b"\n".join([*lines, b"", body])
            case 3:
                lines[0] = self._rng.choice((b"\0", b" ", b"\x16\x03", b"get ", b"POST\t")) + lines[0]
            case _:
                lines.insert(1, b"X-Long: " + b"a" * 70_000)
        return b"\r\n".join([*lines, b"", body])

    def _body(self) -> bytes:
        documents: tuple[dict[str, Any], ...] = ({"features": [0.5] * 10}, {"features": [1]}, {"inputs": []}, {})
        content = orjson.dumps(self._rng.choice(documents))
        return self._rng.choice((content, content, b"", b"{", LIVEZ, gzip.compress(content, mtime=0)))

    def _framed(self, body: bytes) -> tuple[bytes, bytes]:
        if self._rng.random() < 0.6:
            return b"Content-Length: %d" % len(body), body
        chunks, at = b"", 0
        while at < len(body):
            part = body[at : at + self._rng.randint(1, 40)]
            chunks += b"%x%s\r\n%s\r\n" % (len(part), self._rng.choice((b"", b";a=b")), part)
            at += len(part)
        return b"Transfer-Encoding: chunked", chunks + b"0\r\n" + self._rng.choice((b"", b"X-After: a\r\n")) + b"\r\n"


PATHS = (
    *(b"/embed", b"/livez", b"/v2", b"/nope", b"/stream", b"/embed/", b"/%65mbed", b"http://x/embed", b"/loss"),
    *(b"/v2/models/tiny/infer", b"/v2/models/tiny", b"/v2/repository/index", b"/models/%0d%0aX:y"),
)
UNUSUAL_LINES = (
    *(b"Connection: close", b"Connection: keep-alive", b"Connection: Upgrade\r\nUpgrade: h2c", b"Upgrade: websocket"),
    *(b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", b"Expect: 100-continue", b"Content-Encoding: gzip"),
    *(b"Content-Type: application/json", b"Content-Type: text/csv", b"Accept-Encoding: gzip", b"X-Stream-Id: a"),
    *(b"X-Request-Timeout-Ms: nan", b"X-Request-Id: a b", b"Inference-Header-Content-Length: 2", b"X-Schema-Hash: no"),
)
MALFORMED_LINES = (
    *(b"Content-Length: 5", b"Content-Length: +5", b"Content-Length: 0x5", b"Content-Length: " + b"9" * 30),
    *(b"Transfer-Encoding: xchunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity"),
    *(b"X-A : b", b"X-A: b\0c", b" folded", b": empty", b"no colon", b"X-A: b\rc", b"Host: y"),
)


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with fuzzed(models, "--read-timeout-s", "2") as server:
        yield server


def ask_alone(server: Server, sent: Sent) -> Alone:
    with Wire(server.host, server.port) as wire:
        try:
            wire.send(sent.data)
            answer = comparable(wire.read(for_head=sent.for_head))
            assert answer.body != NOT_HTTP or not sent.is_http, sent.data[:200]
        except (EOFError, ConnectionError):
            return Alone(None, False)
        try:
            wire.send(LIVEZ)
            after = wire.read()
        except (EOFError, ConnectionError):
            return Alone(answer, False)
        stays = (after.status, after.body, wire.rest) == (200, b"ok\n", b"")
        # Anything else is an answer to a part of the request.
        assert stays or not sent.is_http, sent.data[:200]
        return Alone(answer, stays)


def pieces(data: bytes, rng: random.Random) -> Iterator[bytes]:
    cuts = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.choice((0, 0, 1, 2, 6))))})
    for start, stop in pairwise(cuts):
        yield data[start:stop]


def ask_together(server: Server, sequence: list[Sent], rng: random.Random) -> tuple[list[Answered], bytes]:
    """The answers to a sequence, and what came behind them."""
    answers = []
    is_pipelined = rng.random() < 0.6
    batches = [sequence] if is_pipelined else [[sent] for sent in sequence]
    with Wire(server.host, server.port) as wire:
        for batch in batches:
            try:
                for piece in pieces(b"".join(sent.data for sent in batch), rng):
                    wire.send(piece)
            except ConnectionError:
                # A refused client that still sends; what was answered can be read all the same.
                pass
            try:
                for sent in batch:
                    answers.append(comparable(wire.read(for_head=sent.for_head)))
            except (EOFError, ConnectionError):
                break
        return answers, wire.rest


def test_each_request_gets_the_answer_that_it_gets_alone(server: Server) -> None:
    for seed in range(SEQUENCES * ROUNDS):
        rng = random.Random(seed)
        alone = lru_cache(maxsize=None)(lambda sent: ask_alone(server, sent))
        requests, sequence = Requests(rng), list[Sent]()
        while len(sequence) < rng.randint(2, 8):
            # The same again is what the front door has a shorter way for.
            again = sequence and rng.random() < 0.4
            sequence.append(sequence[-1] if again else requests.draw())
            if not alone(sequence[-1]).stays:
                break
        answers, rest = ask_together(server, sequence, rng)
        expected = [alone(sent).answer for sent in sequence]
        if expected[-1] is None or (len(answers) == len(sequence) - 1 and not alone(sequence[-1]).stays):
            # Closed without an answer, or before it could be read, as only the last request of a connection may be.
            expected = expected[:-1]
        assert answers == expected, (seed, [sent.data[:200] for sent in sequence])
        assert rest == b"", (seed, rest[:200])
