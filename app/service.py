"""What all routes share: settings, models, metrics, and whether requests are taken at the moment."""

import logging
from enum import Enum
from time import monotonic

from app.batcher import Ticket, Workers
from app.errors import NotReady, QueueFull, ServiceError
from app.registry import Registry
from app.sessions import available_cores
from app.settings import Settings
from app.telemetry import Telemetry

logger = logging.getLogger(__name__)

CANARY_EVERY_S = 1.0
CANARY_TIMEOUT_S = 5.0


class Phase(Enum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Service:
    """Starts with `open`, refuses new requests from `drain` on, and ends with `close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.telemetry = Telemetry()
        self.phase = Phase.STARTING
        self.workers = Workers(settings.batch_threads or available_cores())
        self.registry = Registry(settings, self.workers, self.telemetry)
        self._canary_until = 0.0

    def open(self) -> None:
        self.registry.load_all()
        self.telemetry.watch(self.registry)
        self.phase = Phase.READY

    def drain(self) -> None:
        self.phase = Phase.DRAINING

    def close(self) -> None:
        self.workers.close()

    def admit(self) -> None:
        """Raises NotReady unless requests are taken; what was admitted before `drain` is still answered."""
        if self.phase is not Phase.READY:
            raise NotReady(f"the service is {self.phase.value}; send this again, to another replica if there is one")

    async def check_ready(self) -> None:
        """Raises NotReady, or what is wrong with a model; computes a row of each at most once a second."""
        self.admit()
        if not self.registry.models:
            raise NotReady("no model is loaded; the log says which bundles were refused and why")
        if monotonic() < self._canary_until:
            return
        ticket = Ticket(deadline=monotonic() + CANARY_TIMEOUT_S)
        for model in self.registry.models.values():
            try:
                await model.engine.embed(model.bundle.golden.features[:1], ticket=ticket)
            except QueueFull:
                logger.info("ready, though the queue is full")
            except ServiceError as error:
                raise NotReady(f"model '{model.bundle.manifest.name}' does not answer: {error.detail}") from error
        self._canary_until = monotonic() + CANARY_EVERY_S
