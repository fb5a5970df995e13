"""What all routes share: settings, models, metrics, and whether requests are taken at the moment."""

import asyncio
import logging
import os
from enum import Enum
from time import monotonic

from app.auth import Keys
from app.errors import Draining, ModelControlOff, NotReady, QueueFull, ServiceError
from app.inference.jobs import Ticket
from app.inference.threads import Workers
from app.repository.metrics import ModelMetrics
from app.repository.registry import Registry
from app.repository.watcher import Watcher
from app.settings import Settings
from app.system.allocator import give_back
from app.system.cores import available_cores
from app.telemetry.metrics import Telemetry

logger = logging.getLogger(__name__)

# Where a row takes longer all cores had better share one queue, so that no frame waits for one core while another is
# idle. Below that the interpreter is what they compete for, and each has a process of its own.
HEAVY_S = 1e-3
BEAT_EVERY_S = 0.25
CANARY_EVERY_S = 1.0
CANARY_TIMEOUT_S = 5.0
STUCK_S = 5.0  # of a run, which is over in milliseconds


class Phase(Enum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Service:
    """Starts with `open`, refuses new requests from `drain` on, and ends with `close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.telemetry = Telemetry()
        self.keys = Keys(settings.keys)
        self.phase = Phase.STARTING
        self.processes = 1
        self.workers = Workers(settings.batch_threads or available_cores())
        self.registry = Registry(settings, self.workers, self.telemetry)
        self.watcher = Watcher(self.registry, self.telemetry.ledger, settings.watch_s)
        self.max_connections = settings.max_connections  # of this process
        self._canary_until = 0.0
        self._drained_at = 0.0
        self._loaded = False

    def load(self) -> None:
        """Reads the models, once, in this process or in the one that it was forked from."""
        if not self._loaded:
            self.registry.load_all()
            give_back()
            self._loaded = True

    def share_out(self) -> None:
        """Once the models are loaded and before the fork: sets how many processes there are, and what each has."""
        settings, cores = self.settings, available_cores()
        slowest_s = max((queue.pace.measured_s[1] for queue in self.registry.queues()), default=0.0)
        forks = slowest_s < HEAVY_S and settings.intra_op_threads == 1 and hasattr(os, "fork")
        self.processes = settings.workers or (cores if forks else 1)
        self.workers.set_threads(
            settings.batch_threads or max(1, cores // (self.processes * settings.intra_op_threads))
        )
        self.registry.share(max(settings.max_rows, settings.max_queue_rows // self.processes))
        self.max_connections = -(-settings.max_connections // self.processes)
        logger.info("laid out as %s", ", ".join(f"{name} {count}" for name, count in self.layout.items()))

    @property
    def layout(self) -> dict[str, int]:
        return {
            "processes": self.processes,
            "batch_threads": self.workers.threads,
            "intra_op_threads": self.settings.intra_op_threads,
        }

    def open(self) -> None:
        self.load()
        self.watcher.open()
        self.telemetry.begin(ModelMetrics(self.registry, self.layout))
        self.phase = Phase.READY

    def drain(self) -> None:
        if self.phase is not Phase.DRAINING:
            self.phase, self._drained_at = Phase.DRAINING, monotonic()

    @property
    def grace_s(self) -> float:
        """What is left to who was admitted before `drain`."""
        return max(0.0, self._drained_at + self.settings.graceful_timeout_s - monotonic())

    def close(self) -> None:
        self.workers.close()
        self.telemetry.close()

    @property
    def is_ready(self) -> bool:
        return self.phase is Phase.READY

    async def beat(self) -> None:
        """Until cancelled: shows whoever watches this process that its event loop turns and its runs end."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + BEAT_EVERY_S
            await asyncio.sleep(BEAT_EVERY_S)
            self.telemetry.loop_lag.observe(max(0.0, loop.time() - due))
            if self.workers.longest_run_s < STUCK_S:
                self.telemetry.ledger.turn()

    def admit(self) -> None:
        """Raises NotReady unless requests are taken; what was admitted before `drain` is still answered."""
        if not self.is_ready:
            refusal = Draining if self.phase is Phase.DRAINING else NotReady
            raise refusal(f"the service is {self.phase.value}; send this again, to another replica if there is one")

    def check_control(self) -> None:
        """Raises unless models may be loaded and unloaded by requests."""
        if not self.settings.model_control:
            raise ModelControlOff("models are not loaded or unloaded by requests unless JEPA_MODEL_CONTROL is true")
        self.admit()

    async def check_ready(self) -> None:
        """Raises NotReady, or what is wrong with a model or a batch thread; tries all at most once a second."""
        self.admit()
        if not self.registry.models:
            raise NotReady("no model is loaded; the log says which bundles were refused and why")
        if (run_s := self.workers.longest_run_s) >= STUCK_S:
            raise NotReady(
                f"a run has not come back for {run_s:.0f} s; another process will take the place of this one"
            )
        if monotonic() < self._canary_until:
            return
        ticket = Ticket(deadline=monotonic() + CANARY_TIMEOUT_S)
        for model in [*self.registry.models.values()]:  # which may change meanwhile
            try:
                # Past the engine, which counts what comes in for drift.
                await model.engine.queues.target_encoder.submit(model.bundle.golden.features[:1], ticket=ticket)
            except QueueFull:
                logger.info("ready, though the queue is full")
            except ServiceError as error:
                raise NotReady(f"model '{model.bundle.manifest.name}' does not answer: {error.detail}") from error
        try:
            async with asyncio.timeout(CANARY_TIMEOUT_S):
                await self.workers.try_thread()
        except TimeoutError:
            raise NotReady(f"no batch thread took work for {CANARY_TIMEOUT_S:g} s") from None
        self._canary_until = monotonic() + CANARY_EVERY_S
