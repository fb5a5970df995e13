"""Worker processes: forked when the models are loaded, so that they share the weights, and handed connections in turn.

The kernel spreads connections unevenly, whether the workers listen on one socket (a burst goes to whoever wakes first)
or on one each (SO_REUSEPORT hashes). A bot keeps its connection for a whole game, so this process accepts them all and
passes each to the worker that has the fewest.
"""

import asyncio
import logging
import os
import selectors
import signal
import socket
from time import monotonic, sleep
from typing import NoReturn

import uvicorn

from app.server.protocol import FrontDoor
from app.server.watchdog import LOOK_EVERY_S, PARENTS_LOOKS, Pulse, watch_over
from app.system.counters import Cell
from app.telemetry.metrics import Telemetry

logger = logging.getLogger("app.serve")

HELD_S = 1e-3
REST_S = 0.1  # so that what may last is neither tried nor logged all the time
LIVES_S, MOST_EARLY_DEATHS = 1.0, 5  # in a row: what kills a worker so soon will kill the next


class Server(uvicorn.Server):
    """uvicorn's server for the connections that come over a channel; it ends when the other end is gone."""

    def __init__(self, config: uvicorn.Config, channel: socket.socket, closed: Cell) -> None:
        """`closed` counts connections, for the parent, that have ended."""
        super().__init__(config)
        self._channel, self._closed = channel, closed
        self._channel.setblocking(False)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets or [])
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._channel, self._take)

    def _take(self) -> None:
        """All that wait: one a turn, and a burst under load would be let in after those who came first were served."""
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
            except BlockingIOError:
                return
            if message and not descriptors:  # as the kernel says that this process has too many open files
                logger.warning("a connection could not be taken: too many open files")
                self._closed.add()
                continue
            if not message:
                self.should_exit = True
                self._loop.remove_reader(self._channel)
                return
            connection = socket.socket(fileno=descriptors[0])
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connecting = self._loop.create_task(
                self._loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)
            )
            self.server_state.tasks.add(connecting)  # type: ignore[arg-type]
            connecting.add_done_callback(self.server_state.tasks.discard)

    def _protocol(self) -> FrontDoor:
        return FrontDoor(self.config, self.server_state, self.lifespan.state, self._loop)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop.remove_reader(self._channel)
        await super().shutdown(sockets)


class Worker:
    """A process as its parent sees it."""

    def __init__(self, pid: int, channel: socket.socket, given: int, pulse: Pulse) -> None:
        self.pid, self.channel, self.given, self.pulse = pid, channel, given, pulse
        self.born = monotonic()


class Crew:
    """All workers of a service; `run` returns the exit code once all have ended."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, telemetry: Telemetry, count: int) -> None:
        self._config, self._listener, self._telemetry, self._count = config, listener, telemetry, count
        self._workers: dict[int, Worker] = {}
        self._told_to_stop = self._told_to_look = False
        self._killed_at: float | None = None  # whoever has not stopped by then
        self._looked_at = 0.0
        self._early_deaths = 0
        self._held: socket.socket | None = None  # a connection that no worker could take yet

    def run(self) -> int:
        self._telemetry.ledger.share(self._count)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: setattr(self, "_told_to_stop", True))
        signal.signal(signal.SIGHUP, lambda *_: setattr(self, "_told_to_look", True))
        for number in range(self._count):
            self._fork(number)
        self._listener.listen(self._config.backlog)
        self._listener.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while self._workers:
                if self._held is not None:
                    sleep(HELD_S)
                if (self._held or selector.select(LOOK_EVERY_S)) and not self._told_to_stop:
                    self._accept()
                if self._told_to_look:
                    self._told_to_look = False
                    self._tell_all(signal.SIGHUP)
                if self._told_to_stop and self._killed_at is None:
                    selector.unregister(self._listener)
                    self._stop()
                if monotonic() - self._looked_at >= LOOK_EVERY_S:
                    self._look_after_workers()
        return int(self._early_deaths > MOST_EARLY_DEATHS)

    def _fork(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            for channel in (ours, *(worker.channel for worker in self._workers.values())):
                channel.close()  # or a worker would not see this process end
            self._work(number, theirs)
        theirs.close()
        ours.setblocking(False)
        pulse = Pulse(self._telemetry.ledger.sheets[number])
        self._workers[number] = Worker(pid, ours, self._closed(number), pulse)

    def _work(self, number: int, channel: socket.socket) -> NoReturn:
        """The life of a worker. `os._exit`, as ONNX Runtime would wait for threads that did not come along."""
        try:
            for each in (signal.SIGTERM, signal.SIGINT):  # before and after uvicorn handles them
                signal.signal(each, lambda *_: os._exit(0))
            self._listener.close()
            if self._held is not None:
                self._held.close()
            self._telemetry.ledger.take(number)
            watch_over(self._telemetry.ledger.sheets[number])
            Server(self._config, channel, self._telemetry.connections_closed).run()
            os._exit(0)
        except BaseException:
            logger.exception("worker %d failed", number)
        os._exit(1)

    def _accept(self) -> None:
        """All that wait, each for the worker with the fewest."""
        while True:
            if self._held is None:
                try:
                    self._held, _ = self._listener.accept()
                except BlockingIOError:
                    return
                except OSError as error:  # gone already, or too many open files
                    logger.warning("a connection could not be accepted: %s", error)
                    sleep(REST_S)
                    return
            if not self._hand_over(self._held):
                return
            self._held.close()
            self._held = None

    def _hand_over(self, connection: socket.socket) -> bool:
        """False where no worker has room in its channel, as after a burst, or all hang or are about to be buried."""
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
            elif worker.pulse.still_looks() >= PARENTS_LOOKS:
                logger.error("worker %d stands still, and is killed", number)
                os.kill(worker.pid, signal.SIGKILL)

    def _bury(self, number: int, code: int) -> None:
        worker = self._workers.pop(number)
        worker.channel.close()
        self._telemetry.ledger.leave(number)
        if self._told_to_stop:
            return
        self._early_deaths = self._early_deaths + 1 if monotonic() - worker.born < LIVES_S else 0
        if self._early_deaths > MOST_EARLY_DEATHS:
            logger.error("worker %d ended with code %d again and again; giving up", number, code)
            self._told_to_stop = True
        else:
            logger.error("worker %d ended with code %d; another takes its place", number, code)
            self._fork(number)
