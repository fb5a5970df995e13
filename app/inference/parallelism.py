"""How a service shares the cores, its queues and its connections out among processes and threads."""

import sys
from dataclasses import dataclass

from app.settings import Device, Settings

# From here on, the seconds that a row takes in a full run, all cores share the queues of one process, so that no frame
# waits for one core while another is idle. Below it each core has a process, which spares runs the hop to a thread and
# the wait for the interpreter at both ends: with 1.6 ms a row it answers a fifth more on two cores, and sooner.
MIN_HEAVY_ROW_S = 4e-3
# Files of each process that no connection may use up: models, sockets of its own, libraries.
RESERVED_FILES = 128
# One run is on while the rows of the next are gathered; more would only make batches smaller.
GPU_BATCH_THREADS = 2


@dataclass(frozen=True)
class Layout:
    """What a service consists of; all but `processes` is of each process."""

    processes: int
    batch_threads: int
    intra_op_threads: int
    # Of each graph.
    max_queue_rows: int
    # To each port, so that connections to one cannot keep others from another.
    max_connections: int
    max_buffered_bytes: int

    def shown(self) -> dict[str, int]:
        """What users are told of it."""
        return {
            "processes": self.processes,
            "batch_threads": self.batch_threads,
            "intra_op_threads": self.intra_op_threads,
        }


def ports_of(settings: Settings) -> int:
    """To how many ports clients connect."""
    return 1 if settings.grpc_port is None else 2


def files_for(connections: int, ports: int) -> int:
    """How many files a process must be able to open for that many connections to each port."""
    return connections * ports + RESERVED_FILES


def plan(
    settings: Settings,
    *,
    cores: int,
    row_s: float,
    may_fork: bool,
    files: int = sys.maxsize,
    device: Device = "cpu",
) -> Layout:
    """The layout on that many cores for models of which a row takes at most `row_s`; one process unless they may be
    forked, and `files` open in each. What the settings say is kept to, and what they leave open (0) is chosen."""
    if device == "cuda":
        may_fork, cores = False, GPU_BATCH_THREADS * settings.intra_op_threads
    forks_pay = row_s < MIN_HEAVY_ROW_S and settings.intra_op_threads == 1
    processes = (settings.workers or (cores if forks_pay else 1)) if may_fork else 1
    share = -(-settings.max_connections // processes)
    return Layout(
        processes=processes,
        batch_threads=settings.batch_threads or max(1, cores // (processes * settings.intra_op_threads)),
        intra_op_threads=settings.intra_op_threads,
        # Each process must be able to take the largest request.
        max_queue_rows=max(settings.max_rows, settings.max_queue_rows // processes),
        max_connections=max(1, min(share, (files - RESERVED_FILES) // ports_of(settings))),
        max_buffered_bytes=max(settings.max_body_bytes, settings.max_buffered_bytes // processes),
    )
