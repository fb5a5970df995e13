"""Fakes for parts that are slow, or hard to make fail."""

import threading

import numpy as np

from app.rows import Array

POISON = -1.0


class FakeGraph:
    """A graph [B, D] → [B, 2] that computes `answer_to`, fails on POISON, and can be paused during a run."""

    def __init__(self) -> None:
        # The number of rows in each run.
        self.batches: list[int] = []
        # The first number of each computed row.
        self.rows_seen: list[float] = []
        self._open = threading.Event()
        self._open.set()
        self.started = threading.Event()

    def hold(self) -> None:
        """Makes runs wait until `release`."""
        self.started.clear()
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def run(self, *inputs: Array) -> Array:
        rows = inputs[0]
        self.batches.append(len(rows))
        self.rows_seen += rows[:, 0].tolist()
        self.started.set()
        if not self._open.wait(timeout=30):
            raise TimeoutError("nobody released the fake graph")
        if (rows == POISON).any():
            raise RuntimeError("poisoned")
        return self.answer_to(rows)

    @staticmethod
    def answer_to(rows: Array) -> Array:
        return np.stack([rows[:, 0] * 2, rows.sum(axis=1)], axis=1)


class RecordingObserver:
    """Records what a batcher reports."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, bool]] = []
        self.waits = 0

    def ran(self, rows: int, full: bool, infer_s: float, waits_s: list[float]) -> None:
        assert infer_s >= 0
        assert all(wait_s >= 0 for wait_s in waits_s)
        self.runs.append((rows, full))

    def waiting(self, rows: int) -> None:
        assert rows >= 0
        self.waits = rows


def rows_from(first: float, count: int, width: int = 3) -> Array:
    """Rows [count, width] whose first column counts up from `first`, which identifies each row."""
    rows = np.zeros((count, width), np.float32)
    rows[:, 0] = first + np.arange(count)
    return rows
