"""Bots for a load test, thousands of requests a second from one thread: raw sockets, one prebuilt request, epoll.

Each bot sends a frame when it is due, or as soon as the one before is answered; latencies count from when a frame was
due, so that a service that stalls is charged for every frame that waited. With `--closed` a frame is due when the one
before is answered. Prints JSON.
"""

import argparse
import ctypes
import heapq
import json
import os
import select
import socket
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

CLOCK_MONOTONIC, TFD_NONBLOCK, TFD_TIMER_ABSTIME = 1, 0o4000, 1


class Timer:
    """Wakes epoll at a moment, to the microsecond; epoll's own timeout counts in milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self.descriptor = self._libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        self._moment = (ctypes.c_long * 4)()  # interval, then the moment, in seconds and nanoseconds

    def set(self, moment: float) -> None:
        seconds = int(moment)
        self._moment[2:] = seconds, int((moment - seconds) * 1e9)
        self._libc.timerfd_settime(self.descriptor, TFD_TIMER_ABSTIME, self._moment, None)

    def clear(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.descriptor, 8)


class Bot:
    """One connection: `due` is when the frame that waits for its answer was to be sent."""

    def __init__(self, address: tuple[str, int], first: float) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.next = first
        self.due: float | None = None
        self.received = b""
        self.size = 0  # of the answer, once its head is in


class Tally:
    """What came of the frames."""

    def __init__(self) -> None:
        self.answered_s: list[float] = []
        self.refused_s: list[float] = []
        self.sent_late_s: list[float] = []
        self.statuses: Counter[str] = Counter()

    def as_dict(self) -> dict[str, object]:
        def ms(values: list[float], share: float) -> float | None:
            return round(float(np.percentile(values, share)) * 1e3, 3) if values else None

        return {
            "statuses": self.statuses,
            **{f"p{share:g}_ms": ms(self.answered_s, share) for share in (50, 99, 100)},
            "refused_p99_ms": ms(self.refused_s, 99),
            "sent_late_p99_ms": ms(self.sent_late_s, 99),
        }


class Match:
    """Plays all bots until `ends`."""

    def __init__(self, bots: list[Bot], request: bytes, period: float | None, ends: float) -> None:
        self._bots = {bot.socket.fileno(): bot for bot in bots}
        self._request, self._period, self._ends = request, period, ends
        self.tally = Tally()

    def play(self) -> None:
        poll, timer = select.epoll(), Timer()
        poll.register(timer.descriptor, select.EPOLLIN)
        for descriptor in self._bots:
            poll.register(descriptor, select.EPOLLIN)
        self._waiting = [(bot.next, descriptor) for descriptor, bot in self._bots.items()]
        heapq.heapify(self._waiting)
        while (now := time.monotonic()) < self._ends:
            while self._waiting and self._waiting[0][0] <= now:
                bot = self._bots[heapq.heappop(self._waiting)[1]]
                self.tally.sent_late_s.append(now - bot.next)
                self._send(bot, now)
            timer.set(min(self._waiting[0][0] if self._waiting else self._ends, self._ends))
            for descriptor, _ in poll.poll():
                if descriptor == timer.descriptor:
                    timer.clear()
                else:
                    self._receive(self._bots[descriptor])

    def _send(self, bot: Bot, now: float) -> None:
        bot.due = bot.next
        bot.next = now if self._period is None else bot.next + self._period
        sent = bot.socket.send(self._request)
        if sent < len(self._request):  # larger than the socket's buffer
            bot.socket.setblocking(True)
            bot.socket.sendall(self._request[sent:])
            bot.socket.setblocking(False)

    def _receive(self, bot: Bot) -> None:
        received = bot.socket.recv(262144)
        if not received:
            raise ConnectionError("the service closed a connection")
        bot.received += received
        if not bot.size and (end := bot.received.find(b"\r\n\r\n")) >= 0:
            head = bot.received[:end].lower()
            start = head.index(b"content-length: ") + 16
            bot.size = end + 4 + int(head[start:].split(b"\r", 1)[0])
        if bot.size and len(bot.received) >= bot.size:
            self._finish(bot, time.monotonic())

    def _finish(self, bot: Bot, now: float) -> None:
        status = bot.received[9:12].decode()
        self.tally.statuses[status] += 1
        (self.tally.answered_s if status == "200" else self.tally.refused_s).append(now - bot.due)
        bot.received, bot.size, bot.due = bot.received[bot.size :], 0, None
        if self._period is None:
            bot.next = now
        if bot.next <= now:
            self._send(bot, now)
        else:
            heapq.heappush(self._waiting, (bot.next, bot.socket.fileno()))

    @property
    def unanswered(self) -> int:
        """Frames that were due more than a period before the end: a service that answers nothing is not fast."""
        period = self._period or 0.1
        first = [bot.due for bot in self._bots.values() if bot.due is not None]
        return sum(int((self._ends - due) / period) for due in first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("body", type=Path)
    parser.add_argument("--type", default="application/octet-stream")
    parser.add_argument("--bots", type=int, default=1)
    parser.add_argument("--hz", type=float, default=60.0)
    parser.add_argument("--closed", action="store_true")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--timeout-ms", type=float, help="as X-Request-Timeout-Ms")
    given = parser.parse_args()
    try:  # or frames are sent late because the service has the cores, and the service is charged for it
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        real_time = True
    except OSError:
        real_time = False
    url, body = urlsplit(given.url), given.body.read_bytes()
    lines = [f"POST {url.path} HTTP/1.1", f"Host: {url.netloc}", f"Content-Type: {given.type}", f"Accept: {given.type}"]
    lines += [f"Content-Length: {len(body)}"]
    lines += [] if given.timeout_ms is None else [f"X-Request-Timeout-Ms: {given.timeout_ms:g}"]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    period = None if given.closed else 1 / given.hz
    starts = time.monotonic() + 0.2
    phases = np.random.default_rng(0).permutation(given.bots) / given.bots * (period or 0.01)
    bots = [Bot((str(url.hostname), url.port or 80), starts + phase) for phase in phases]
    match = Match(bots, request, period, starts + given.seconds)
    match.play()
    answered = len(match.tally.answered_s)
    about = {
        "requests": answered,
        "failed": sum(match.tally.statuses.values()) - answered + match.unanswered,
        "seconds": given.seconds,
        "real_time": real_time,
    }
    print(json.dumps(about | match.tally.as_dict()))


if __name__ == "__main__":
    main()
