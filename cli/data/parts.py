"""Tables that several processes make, in order. Each is kept as a file, so that a run that was stopped goes on."""

import hashlib
import itertools
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
from typing import NamedTuple, TypeVar

import pyarrow as pa

# How many tables of each process may be made before the first of them is taken.
MAX_AHEAD = 4

Made = TypeVar("Made")


class Task(NamedTuple):
    # The name of the part, by `name_of`: a part of this name that is there is taken.
    name: str
    # Makes the table, in any process.
    make: Callable[[], pa.Table]
    # Makes it where that ended the process, None where nothing else can be tried.
    again: Callable[[], pa.Table] | None = None


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
        """Yields the tables of the tasks in their order; to be closed. OSError if a process ended before its time and
        there is no other way to make its table."""
        coming, taken = iter(tasks), deque[Task]()
        while True:
            before = self._ended_processes(taken)
            try:
                with _processes(self._jobs) if self._jobs > 1 else nullcontext() as pool:
                    yield from self._in_order(coming, taken, pool)
                return
            except BrokenProcessPool:
                if not self._ended_processes(taken) - before:
                    raise OSError(
                        "a process ended before its work was done, perhaps for want of memory; the same command goes "
                        "on from there, and takes less with a smaller --jobs"
                    ) from None

    def _in_order(
        self, tasks: Iterator[Task], taken: deque[Task], pool: ProcessPoolExecutor | None
    ) -> Iterator[pa.Table]:
        """The tables of what is `taken` of the tasks already, and of those that come; of the latter some are taken
        before it is their turn."""
        made: dict[str, Future[None]] = {}

        def begin(task: Task) -> None:
            if pool is not None and not self.has(task) and not self._ended_processes([task]):
                made[task.name] = pool.submit(_keep, task.make, self._place(task))

        for task in taken:
            begin(task)
        while True:
            for coming in itertools.islice(tasks, MAX_AHEAD * self._jobs + 1 - len(taken)):
                taken.append(coming)
                begin(coming)
            if not taken:
                return
            table = self._table(taken[0], made.pop(taken[0].name, None))
            taken.popleft()
            yield table

    def _table(self, task: Task, made: Future[None] | None) -> pa.Table:
        if made is not None:
            made.result()
        try:
            return _read(self._place(task))
        except (OSError, pa.ArrowException):
            # It is not there yet, or damaged.
            again = task.again if self._ended_processes([task]) else None
            _keep(again or task.make, self._place(task))
            return _read(self._place(task))

    def _ended_processes(self, tasks: Iterable[Task]) -> set[str]:
        """The names of those of the tasks that were begun and ended their process, and can be made in another way."""
        return {task.name for task in tasks if task.again is not None and _begun(self._place(task)).exists()}

    def _place(self, task: Task) -> Path:
        return self._folder / f"{task.name}.part"


def _keep(make: Callable[[], pa.Table], path: Path) -> None:
    # Stays where the process ends meanwhile.
    begun = _begun(path)
    begun.touch()
    try:
        table = make()
    finally:
        begun.unlink(missing_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    with pa.ipc.new_file(partial, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(table)
    partial.replace(path)


def _begun(path: Path) -> Path:
    return path.with_suffix(".begun")


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def apart(work: Callable[[], Made]) -> Made | None:
    """What `work` gives in a process of its own, or None if that ends before its time."""
    with _processes(1) as pool:
        try:
            return pool.submit(work).result()
        except BrokenProcessPool:
            return None


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
