"""A registry as a service of one process has it."""

from pathlib import Path
from typing import Any

from app.inference.parallelism import plan
from app.inference.threads import BatchThreads
from app.repository.look import Look
from app.repository.queues import QueueMaker
from app.repository.registry import Registry
from app.settings import Settings
from app.system.streams import Streams
from app.system.table import Table
from app.telemetry.metrics import Telemetry


def empty(models: Path, threads: BatchThreads, telemetry: Telemetry | None = None, **settings: Any) -> Registry:
    """Before it has looked at the folder."""
    wanted, telemetry = Settings(models=models, **settings), telemetry or Telemetry()
    registry = Registry(wanted, Table(), telemetry)
    layout = plan(wanted, cores=threads.count, row_s=0.0, may_fork=False)
    registry.begin(Look(), QueueMaker(layout, threads, Streams(), telemetry.graph))
    return registry


def loaded(models: Path, threads: BatchThreads, telemetry: Telemetry | None = None, **settings: Any) -> Registry:
    """Once it has."""
    registry = empty(models, threads, telemetry, **settings)
    registry.take(registry.look())
    return registry
