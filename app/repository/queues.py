"""The queues of a model, one a graph, each with the limits that its process has."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from app.inference.batcher import Batcher, Observer
from app.inference.engine import Queues
from app.inference.parallelism import Layout
from app.inference.threads import BatchThreads
from app.inference.unread import Unread
from app.repository.loading import Loaded
from app.system.streams import Streams

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueueMaker:
    """Makes the queues of any model that is loaded, at the start or later, for one layout of the service."""

    layout: Layout
    threads: BatchThreads
    streams: Streams
    # By the names of a model and of its graph.
    observer: Callable[[str, str], Observer]
    # Of the event loop of each process.
    unread: Unread = field(default_factory=Unread)

    def make(self, loaded: Loaded) -> Queues:
        model = loaded.bundle.manifest.name

        def queue(role: str) -> Batcher:
            limits = loaded.limits[role].with_threads(self.layout.batch_threads)
            logger.debug("%s %s runs %s", model, role, limits)
            return Batcher(
                getattr(loaded.graphs, role).run,
                limits,
                self.threads,
                self.streams,
                max_queue_rows=self.layout.max_queue_rows,
                observer=self.observer(model, role),
                name=f"{model} {role}",
                unread=self.unread,
            )

        return Queues(queue("context_encoder"), queue("target_encoder"), queue("predictor"))
