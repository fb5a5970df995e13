"""Bots of 60 frames a second that skip the frames that become due while they wait, which no load generator offers.

    .venv/bin/python -m benchmarks.bots http://127.0.0.1:8000/embed frame.bin --count 150 --seconds 3 --timeout-ms 16

A program of its own, so that it shares no interpreter with what is measured.
"""

import argparse
import re
import selectors
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from benchmarks.programs import ROOT, TYPES, Body

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STATUS = slice(9, 12)


class Outcome(NamedTuple):
    """How the service answered the frames of bots: latencies of those answered with 200, from when they were sent and
    from when they were due (infinite for a frame that was skipped), and how long the others took to be refused."""

    seconds: float
    # Processor time that the bots took.
    cpu_s: float
    statuses: Counter[int]
    answered_ms: np.ndarray
    since_due_ms: np.ndarray
    refused_ms: np.ndarray


class Bot:
    """One connection, whose next frame is due at `due_s`."""

    def __init__(self, address: tuple[str, int], due_s: float) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due_s = due_s
        # When the frame that is answered next was due and sent.
        self.asked_s: tuple[float, float] | None = None
        self._received = b""

    def send(self, request: bytes, now_s: float) -> None:
        # A request is smaller than the buffer of a socket, so that this does not block.
        self.socket.sendall(request)
        self.asked_s = self.due_s, now_s

    def status(self) -> int:
        """Reads; the status of the answer when the whole of it is there, otherwise 0."""
        self._received += (chunk := self.socket.recv(1 << 16))
        if not chunk:
            sys.exit("the service closed the connection of a bot")
        end = self._received.find(b"\r\n\r\n")
        length = LENGTH.search(self._received, 0, end)
        if end < 0 or length is None or len(self._received) < end + 4 + int(length[1]):
            return 0
        status = int(self._received[STATUS])
        self._received = b""
        return status


def play(bots: list[Bot], request: bytes, period_s: float, until_s: float) -> Iterator[tuple[float, float, float]]:
    """Plays until `until_s`; yields the status of each frame (0 where it was skipped), and the seconds from when it was
    due and from when it was sent to its answer."""
    selector = selectors.EpollSelector()
    for bot in bots:
        selector.register(bot.socket, selectors.EVENT_READ, bot)
    # Bots are due in turn, so that the first of them is the next.
    turn, waiting = 0, 0
    while (now_s := time.monotonic()) < until_s or waiting:
        while bots[turn].due_s <= now_s < until_s:
            bot = bots[turn]
            if bot.asked_s is None:
                bot.send(request, now_s)
                waiting += 1
            else:
                yield 0, 0.0, 0.0
            bot.due_s += period_s
            turn = (turn + 1) % len(bots)
        for key, _ in selector.select(max(0.0, bots[turn].due_s - time.monotonic()) if now_s < until_s else 1.0):
            bot = key.data
            if (status := bot.status()) and bot.asked_s:
                due_s, sent_s = bot.asked_s
                now_s = time.monotonic()
                bot.asked_s = None
                waiting -= 1
                yield status, now_s - due_s, now_s - sent_s


def run_bots(
    url: str, body: Body, count: int, seconds: float, *, hz: float = 60.0, timeout_ms: float | None = None
) -> Outcome:
    """Runs `count` bots in a process of their own, each with its own connection and `hz` frames a second, evenly
    staggered."""
    command = [sys.executable, "-m", "benchmarks.bots", url, str(body.file), f"--kind={TYPES[body.kind]}"]
    command += [f"--count={count}", f"--seconds={seconds}", f"--hz={hz}"]
    command += [] if timeout_ms is None else [f"--timeout-ms={timeout_ms:g}"]
    played = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, timeout=seconds + 60, check=True).stdout
    file = BytesIO(played)
    cpu_s, (status, since_due_s, since_sent_s) = float(np.load(file)), np.load(file).T
    answered, skipped = status == 200, status == 0
    return Outcome(
        seconds,
        cpu_s,
        Counter(status[~skipped].astype(int).tolist()),
        since_sent_s[answered] * 1e3,
        np.concatenate([since_due_s[answered] * 1e3, np.full(skipped.sum(), np.inf)]),
        since_sent_s[~answered & ~skipped] * 1e3,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("body", type=Path)
    parser.add_argument("--kind", default=TYPES["binary"])
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--hz", type=float, default=60.0)
    parser.add_argument("--timeout-ms", type=float)
    given = parser.parse_args()
    url, body = urlsplit(given.url), given.body.read_bytes()
    head = [f"POST {url.path} HTTP/1.1", f"Host: {url.netloc}", f"Content-Type: {given.kind}", f"Accept: {given.kind}"]
    head += [] if given.timeout_ms is None else [f"X-Request-Timeout-Ms: {given.timeout_ms:g}"]
    request = "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body
    began_s, period_s = time.monotonic() + 0.1 + given.count * 1e-3, 1 / given.hz
    address = url.hostname or "", url.port or 80
    bots = [Bot(address, began_s + period_s * number / given.count) for number in range(given.count)]
    began_cpu_s = time.process_time()
    frames = list(play(bots, request, period_s, began_s + given.seconds))
    np.save(sys.stdout.buffer, time.process_time() - began_cpu_s)
    np.save(sys.stdout.buffer, np.array(frames).reshape(-1, 3))


if __name__ == "__main__":
    main()
