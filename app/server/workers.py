"""Worker processes, forked once the models are loaded so that they share the weights.

The kernel balances connections badly: with one listening socket a burst goes to whichever worker wakes first, and
SO_REUSEPORT hashes. A bot keeps its connection for a whole game, so the parent accepts every connection and passes it
to the worker that has the fewest.
"""

import logging
import os
import selectors
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic, sleep
from typing import NoReturn

import uvicorn

from app.server.server import ACCEPT_PAUSE_S, Server
from app.server.watchdog import LOOK_EVERY_S, MAX_STILL_LOOKS_OF_PARENT, Pulse, watch_over
from app.system.counters import Cell
from app.telemetry.metrics import Telemetry

logger = logging.getLogger("app.serve")

# Pause before the parent offers a connection again that no worker had room for.
RETRY_S = 1e-3
# Taken note of at once: those of one kind count as one.
MAX_SIGNALS = 1024
# How often the parent looks whether the workers have ended that it told to.
LOOK_AT_ENDS_EVERY_S = 0.02
# After this many workers in a row that died within MIN_LIFE_S, the service gives up: the next would die as well.
MIN_LIFE_S = 1.0
MAX_EARLY_DEATHS = 5


class Channel:
    """A source of connections: a socket over which the parent passes them; it ends when the parent is gone."""

    def __init__(self, channel: socket.socket, closed: Cell) -> None:
        """`closed` counts the connections that have ended, which tells the parent how many are open."""
        self._channel, self._closed = channel, closed

    def begin(self) -> None:
        self._channel.setblocking(False)

    def fileno(self) -> int:
        return self._channel.fileno()

    def arrived(self) -> Iterator[socket.socket]:
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
            except BlockingIOError:
                return
            if not message:
                raise EOFError
            if descriptors:
                yield socket.socket(fileno=descriptors[0])
            else:
                # The kernel had to drop it.
                logger.warning("a connection could not be taken: too many open files")
                self._closed.add()

    def close(self) -> None:
        """Does nothing: the parent would take a closed channel for a worker that has died."""


class Worker:
    """A worker process, as the parent sees it."""

    def __init__(self, pid: int, channel: socket.socket, given: int, pulse: Pulse) -> None:
        self.pid, self.channel, self.given, self.pulse = pid, channel, given, pulse
        self.born = monotonic()


class Crew:
    """The workers of a service, whose listener listens; `run` returns the exit code once all of them have ended."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, telemetry: Telemetry, count: int) -> None:
        self._config, self._listener, self._telemetry, self._count = config, listener, telemetry, count
        self._workers: dict[int, Worker] = {}
        self._told_to_stop = self._told_to_look = False
        # When workers that have not stopped by themselves are killed.
        self._killed_at: float | None = None
        self._looked_at = 0.0
        self._early_deaths = 0
        # Signals write to one end, and whoever waits for connections also waits for the other.
        self._woken, self._waking = socket.socketpair()
        self._woken.setblocking(False)
        self._waking.setblocking(False)
        # A connection that no worker could take yet.
        self._held: socket.socket | None = None

    def run(self) -> int:
        self._telemetry.ledger.share(self._count)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: setattr(self, "_told_to_stop", True))
        signal.signal(signal.SIGHUP, lambda *_: setattr(self, "_told_to_look", True))
        for number in range(self._count):
            self._fork(number)
        self._listener.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            # Python goes on waiting after a signal; a byte here ends the wait.
            selector.register(self._woken, selectors.EVENT_READ)
            signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
            while self._workers:
                if self._held is not None:
                    sleep(RETRY_S)
                wait_s = LOOK_EVERY_S if self._killed_at is None else LOOK_AT_ENDS_EVERY_S
                if (self._held or selector.select(wait_s)) and not self._told_to_stop:
                    self._accept()
                if self._told_to_look:
                    self._told_to_look = False
                    with suppress(BlockingIOError):
                        self._woken.recv(MAX_SIGNALS)
                    self._tell_all(signal.SIGHUP)
                if self._told_to_stop and self._killed_at is None:
                    selector.unregister(self._listener)
                    selector.unregister(self._woken)
                    self._stop()
                if monotonic() - self._looked_at >= wait_s:
                    self._look_after_workers()
        return int(self._early_deaths > MAX_EARLY_DEATHS)

    def _fork(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            for channel in (ours, *(worker.channel for worker in self._workers.values())):
                # Only the parent may hold these ends: a worker notices the parent's death by its channel closing.
                channel.close()
            self._work(number, theirs)
        theirs.close()
        ours.setblocking(False)
        pulse = Pulse(self._telemetry.ledger.sheets[number])
        self._workers[number] = Worker(pid, ours, self._closed(number), pulse)

    def _work(self, number: int, channel: socket.socket) -> NoReturn:
        """The life of a worker. It ends by `os._exit`, as ONNX Runtime would wait for threads that were not forked."""
        try:
            # Before uvicorn installs its handlers, and after it has removed them.
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, lambda *_: os._exit(0))
            # A signal that came before that found the parent's handler in its place.
            if self._told_to_stop:
                os._exit(0)
            signal.set_wakeup_fd(-1)
            for shared in (self._listener, self._woken, self._waking):
                shared.close()
            if self._held is not None:
                self._held.close()
            self._telemetry.ledger.take(number)
            watch_over(self._telemetry.ledger.sheets[number])
            Server(self._config, Channel(channel, self._telemetry.connections_closed)).run()
            os._exit(0)
        except BaseException:
            logger.exception("worker %d failed", number)
        os._exit(1)

    def _accept(self) -> None:
        """Accepts every waiting connection and hands each to the worker with the fewest."""
        while True:
            if self._held is None:
                try:
                    self._held, _ = self._listener.accept()
                except BlockingIOError:
                    return
                # The client has gone already, or there are too many open files.
                except OSError as error:
                    logger.warning("a connection could not be accepted: %s", error)
                    sleep(ACCEPT_PAUSE_S)
                    return
            if not self._hand_over(self._held):
                return
            self._held.close()
            self._held = None

    def _hand_over(self, connection: socket.socket) -> bool:
        """False if no worker has room in its channel: after a burst, or if all of them hang or have just died."""
        for _, worker in sorted(self._workers.items(), key=lambda item: item[1].given - self._closed(item[0])):
            try:
                socket.send_fds(worker.channel, [b"1"], [connection.fileno()])
            except OSError:
                continue
            worker.given += 1
            return True
        return False

    def _closed(self, number: int) -> int:
        return int(self._telemetry.connections_closed.on(number))

    def _stop(self) -> None:
        self._listener.close()
        self._killed_at = monotonic() + (self._config.timeout_graceful_shutdown or 0) + 5
        self._tell_all(signal.SIGTERM)

    def _tell_all(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            os.kill(worker.pid, number)

    def _look_after_workers(self) -> None:
        self._looked_at = monotonic()
        for number, worker in [*self._workers.items()]:
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._bury(number, os.waitstatus_to_exitcode(status))
            elif self._killed_at is not None and self._killed_at < self._looked_at:
                os.kill(worker.pid, signal.SIGKILL)
            elif worker.pulse.still_looks() >= MAX_STILL_LOOKS_OF_PARENT:
                logger.error("worker %d stands still, and is killed", number)
                os.kill(worker.pid, signal.SIGKILL)

    def _bury(self, number: int, code: int) -> None:
        worker = self._workers.pop(number)
        worker.channel.close()
        self._telemetry.ledger.leave(number)
        if self._told_to_stop:
            return
        self._early_deaths = self._early_deaths + 1 if monotonic() - worker.born < MIN_LIFE_S else 0
        if self._early_deaths > MAX_EARLY_DEATHS:
            logger.error("worker %d ended with code %d again and again; giving up", number, code)
            self._told_to_stop = True
        else:
            logger.error("worker %d ended with code %d; another takes its place", number, code)
            self._fork(number)
