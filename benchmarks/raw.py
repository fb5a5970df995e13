"""The limit that the model sets: ONNX Runtime alone."""

import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from benchmarks.programs import CORES
from bundle.reader import read_bundle

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Layout(NamedTuple):
    """How many runs at once, of how many rows each, on how many threads of ONNX Runtime each."""

    runs: int
    rows: int
    threads: int

    def __str__(self) -> str:
        return f"{self.runs} × {self.rows} rows on {self.threads} thread{'s' * (self.threads > 1)}"


class Raw:
    """A bundle's target encoder, in the number format that the service runs."""

    def __init__(self, folder: Path, precision: str) -> None:
        bundle = read_bundle(folder)
        self._width = bundle.manifest.input_dim
        path = bundle.graph("target_encoder", precision)
        self._sessions = {threads: _session(path, threads) for threads in {1, CORES}}

    def best(self, rows_in_flight: int, seconds: float = 0.3) -> Layout:
        """The fastest layout of a small sweep that has no more rows in flight than the load to compare with."""
        layouts = {Layout(CORES, rows, 1) for rows in BATCHES if rows * CORES <= rows_in_flight}
        layouts |= {Layout(1, rows, CORES) for rows in BATCHES if rows <= rows_in_flight}
        return max(sorted(layouts), key=lambda layout: self.rate(layout, seconds))

    def rate(self, layout: Layout, seconds: float) -> float:
        """Rows a second."""
        counts = [0] * layout.runs
        ends = time.perf_counter() + seconds

        def work(number: int) -> None:
            session, rows = self._sessions[layout.threads], self._rows(layout.rows)
            while time.perf_counter() < ends:
                session.run(None, {"features": rows})
                counts[number] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(layout.runs)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) * layout.rows / (time.perf_counter() - started)

    def lone_ms(self, seconds: float) -> float:
        """The median time of a run of one row on one thread, which is how the service runs a lone request."""
        session, rows, taken = self._sessions[1], self._rows(1), []
        ends = time.perf_counter() + seconds
        while (started := time.perf_counter()) < ends:
            session.run(None, {"features": rows})
            taken.append(time.perf_counter() - started)
        return float(np.median(taken)) * 1e3

    def _rows(self, count: int) -> np.ndarray:
        return np.random.default_rng(0).uniform(0, 1, (count, self._width)).astype(np.float32)


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
