"""Tables that several processes make, in order. Each is kept as a file, so that a run that was stopped goes on."""

import hashlib
import json
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

# How many tables of each process may be made before the first of them is taken.
MAX_AHEAD = 4


class Task(NamedTuple):
    # The name of the part, by `name_of`: a part of this name that is there is taken.
    name: str
    # Makes the table, in any process.
    make: Callable[[], pa.Table]


def name_of(*about: object) -> str:
    """A name for a part, of everything that it depends on."""
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]


class Parts:
    """Keeps the tables of tasks in a folder, and makes those that are missing."""

    def __init__(self, folder: Path, jobs: int) -> None:
        if jobs < 1:
            raise ValueError(f"--jobs is {jobs}; it must be at least 1")
        self._folder, self._jobs = folder, jobs

    def has(self, task: Task) -> bool:
        return self._place(task).exists()

    def tables(self, tasks: Iterable[Task]) -> Generator[pa.Table, None, None]:
        """Yields the tables of the tasks in their order; to be closed. OSError if a process ended before its time."""
        try:
            with _processes(self._jobs) if self._jobs > 1 else nullcontext() as pool:
                yield from self._in_order(tasks, pool)
        except BrokenProcessPool:
            raise OSError(
                "a process ended before its work was done, perhaps for want of memory; the same command goes on from "
                "there, and takes less with a smaller --jobs"
            ) from None

    def _in_order(self, tasks: Iterable[Task], pool: ProcessPoolExecutor | None) -> Iterator[pa.Table]:
        waiting: deque[tuple[Task, Future[None] | None]] = deque()
        for task in tasks:
            made = None
            if pool is not None and not self.has(task):
                made = pool.submit(_keep, task.make, self._place(task))
            waiting.append((task, made))
            if len(waiting) > MAX_AHEAD * self._jobs:
                yield self._take(*waiting.popleft())
        while waiting:
            yield self._take(*waiting.popleft())

    def _take(self, task: Task, made: Future[None] | None) -> pa.Table:
        if made is not None:
            made.result()
        try:
            return _read(self._place(task))
        except (OSError, pa.ArrowException):
            # It is not there yet, or damaged.
            _keep(task.make, self._place(task))
            return _read(self._place(task))

    def _place(self, task: Task) -> Path:
        return self._folder / f"{task.name}.part"


def _keep(make: Callable[[], pa.Table], path: Path) -> None:
    table, partial = make(), path.with_suffix(f".{os.getpid()}")
    with pa.ipc.new_file(partial, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(table)
    partial.replace(path)


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that end at once when the block does, or when this process is killed."""
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(count, context, _end_with, (theirs,))
    # Ctrl-C reaches all processes of a terminal, and these leave it to the first one. They inherit that from here,
    # since they would otherwise be interrupted before their first line.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pool.submit(os.getpid)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield pool
    finally:
        ours.close()
        pool.shutdown()
        theirs.close()


def _end_with(parent: Connection) -> None:
    """Ends this process when the other end of the connection is closed, by whatever end of the other process."""

    def wait() -> None:
        with suppress(EOFError, OSError):
            parent.recv_bytes()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
