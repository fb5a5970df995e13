"""What all routes share: settings, models, metrics, and whether requests are taken at the moment."""

import asyncio
import logging
import sys
from collections.abc import Callable
from enum import Enum
from time import monotonic

from app.auth import Keys
from app.errors import Draining, ModelControlOff, NotReady, QueueFull, ServiceError
from app.inference.jobs import Ticket
from app.inference.parallelism import Layout, files_for, plan, ports_of
from app.inference.threads import BatchThreads
from app.repository.metrics import ModelMetrics
from app.repository.queues import QueueMaker
from app.repository.registry import Registry
from app.repository.watcher import Watcher
from app.settings import Settings
from app.system.allocator import give_back
from app.system.buffers import Buffers
from app.system.cores import available_cores
from app.system.files import allowed_files
from app.system.streams import Streams
from app.system.table import Table
from app.system.turns import Turns
from app.telemetry.metrics import Telemetry

logger = logging.getLogger(__name__)

# How long the event loop may keep the interpreter from a batch thread that has work or an answer. Python's own 5 ms, at
# both ends of a run, are most of a frame.
SWITCH_S = 0.5e-3
BEAT_EVERY_S = 0.25
CANARY_EVERY_S = 1.0
CANARY_TIMEOUT_S = 5.0
# A run takes milliseconds; past this its thread counts as hung.
MAX_RUN_S = 5.0


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
        # For as many processes as there may be; how many there are is known once the models are loaded.
        board = Table(settings.workers or available_cores())
        self.registry = Registry(settings, board, self.telemetry)
        self.watcher = Watcher(self.registry, self.telemetry.ledger, settings.watch_s)
        # Per process: what its connections share.
        self.turns = Turns()
        # Held by the one request whose large document is being parsed.
        self.parsing = asyncio.Lock()
        self._canary_until = 0.0
        # `time.monotonic` of the first `drain`, and what is called then.
        self.drained_at = 0.0
        self._when_draining: list[Callable[[], object]] = []
        # Since `load`.
        self._loaded = False
        self._layout: Layout
        self._streams: Streams
        self.buffers: Buffers
        self.threads: BatchThreads

    def load(self, *, may_fork: bool = False) -> None:
        """Reads and measures the models and lays the service out for them: once, in this process or, where it
        `may_fork`, in the one that it is then forked from. No thread is started."""
        if self._loaded:
            return
        look = self.registry.look()
        self._layout = plan(
            self.settings,
            cores=available_cores(),
            row_s=max((loaded.row_s for loaded in look.loaded), default=0.0),
            may_fork=may_fork,
            files=allowed_files(),
            device=self.registry.device,
        )
        if self.registry.device == "cuda":
            logger.info("graphs run on the GPU")
        wanted = -(-self.settings.max_connections // self._layout.processes)
        if self._layout.max_connections < wanted:
            logger.warning(
                "%d open files are too few for %d connections to each port, so %d are taken; raise the limit (ulimit "
                "-n) to %d, or lower JEPA_MAX_CONNECTIONS",
                allowed_files(),
                wanted,
                self._layout.max_connections,
                files_for(wanted, ports_of(self.settings)),
            )
        logger.info("laid out as %s", ", ".join(f"{name} {count}" for name, count in self.layout.items()))
        self.buffers = Buffers(self._layout.max_buffered_bytes, self.telemetry.buffered_bytes)
        self.threads = BatchThreads(self._layout.batch_threads)
        self._streams = Streams(self._layout.processes)
        self.registry.begin(look, QueueMaker(self._layout, self.threads, self._streams, self.telemetry.graph))
        give_back()
        self._loaded = True

    @property
    def layout(self) -> dict[str, int]:
        return self._layout.shown()

    @property
    def processes(self) -> int:
        return self._layout.processes

    @property
    def max_connections(self) -> int:
        """Of this process, to each port."""
        return self._layout.max_connections

    @property
    def max_numbers(self) -> int:
        """In one field of a request to any of the models."""
        manifests = [model.bundle.manifest for model in self.registry.models.values()]
        widest = max((max(manifest.input_dim, manifest.embed_dim) for manifest in manifests), default=0)
        return self.settings.max_rows * widest

    def open(self) -> None:
        self.load()
        self.registry.board.own = self._streams.table.own = self.telemetry.ledger.own
        sys.setswitchinterval(SWITCH_S)
        self.watcher.open()
        self.telemetry.begin(ModelMetrics(self.registry, self.layout))
        self.phase = Phase.READY

    def when_draining(self, act: Callable[[], object]) -> None:
        """Calls `act` once the service drains, possibly from a signal handler."""
        self._when_draining.append(act)

    def drain(self) -> None:
        if self.phase is not Phase.DRAINING:
            self.phase, self.drained_at = Phase.DRAINING, monotonic()
            self.registry.loads.close()
            for act in self._when_draining:
                act()

    @property
    def grace_s(self) -> float:
        """Seconds that are left to requests which were admitted before `drain`."""
        return max(0.0, self.drained_at + self.settings.graceful_timeout_s - monotonic())

    def close(self) -> None:
        self.threads.close()
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
            if self.threads.longest_run_s < MAX_RUN_S:
                self.telemetry.ledger.turn()
            if self.buffers.has_spent():
                # Not waited for: threads may be busy, and a heart that stops is a process that hangs.
                loop.run_in_executor(None, give_back)
            self.telemetry.show_loads(len(self.registry.loads.stuck), self.registry.loads.are_blocked)

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
        if (run_s := self.threads.longest_run_s) >= MAX_RUN_S:
            raise NotReady(
                f"a run has not come back for {run_s:.0f} s; another process will take the place of this one"
            )
        if monotonic() < self._canary_until:
            return
        ticket = Ticket(deadline=monotonic() + CANARY_TIMEOUT_S)
        # A copy, as models may come and go meanwhile.
        for model in [*self.registry.models.values()]:
            try:
                # Not by the engine, which would count this row among those that come in.
                await model.engine.queues.target_encoder.submit(model.bundle.golden.features[:1], ticket=ticket)
            except QueueFull:
                logger.info("ready, though the queue is full")
            except ServiceError as error:
                raise NotReady(f"model '{model.bundle.manifest.name}' does not answer: {error.detail}") from error
        try:
            async with asyncio.timeout(CANARY_TIMEOUT_S):
                await self.threads.try_thread()
        except TimeoutError:
            raise NotReady(f"no batch thread took work for {CANARY_TIMEOUT_S:g} s") from None
        self._canary_until = monotonic() + CANARY_EVERY_S
