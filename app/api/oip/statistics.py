"""The statistics extension of the Open Inference Protocol, counted in memory that all worker processes share."""

from time import time
from typing import Any

from app.inference.jobs import Timing
from app.system.counters import Ledger

PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
UNCACHED = {"cache_hit": {"count": 0, "ns": 0}, "cache_miss": {"count": 0, "ns": 0}}
# Positions in a model's numbers: a count and seconds for each of PARTS, then three more. LAST is in Unix time.
SUCCESS, FAIL, QUEUE, COMPUTE_INPUT, COMPUTE_INFER, COMPUTE_OUTPUT = range(0, 2 * len(PARTS), 2)
ROWS, RUNS, LAST = range(2 * len(PARTS), 2 * len(PARTS) + 3)


class Statistics:
    """The statistics of one model: requests and their time by part, rows, runs, and the time of the last request."""

    def __init__(self, ledger: Ledger, model: str) -> None:
        self._ledger, self._key = ledger, ("v2", model)
        self._start = ledger.place(self._key, LAST + 1)

    def succeeded(
        self, rows: int, largest_run: int, timing: Timing, *, input_s: float, output_s: float, seconds: float
    ) -> None:
        """Counts a request of `rows` rows; `largest_run` is the most rows that its queue runs at once."""
        self._add(SUCCESS, seconds)
        self._add(QUEUE, timing.queue_s)
        self._add(COMPUTE_INPUT, input_s)
        self._add(COMPUTE_INFER, timing.infer_s)
        self._add(COMPUTE_OUTPUT, output_s)
        numbers, start = self._ledger.numbers, self._start
        numbers[start + ROWS] += rows
        # A request counts as its share of the run that it was batched into, or as the runs that it was split into.
        numbers[start + RUNS] += rows / max(timing.batch_rows, min(rows, largest_run))
        numbers[start + LAST] = time()

    def failed(self, seconds: float) -> None:
        """Counts a request that ended in an error."""
        self._add(FAIL, seconds)

    def _add(self, part: int, seconds: float) -> None:
        numbers, place = self._ledger.numbers, self._start + part
        numbers[place] += 1
        numbers[place + 1] += seconds

    def document(self) -> dict[str, Any]:
        """The document, summed over all processes: last_inference in milliseconds, the rest in nanoseconds."""
        sheets = self._ledger.on_each_sheet(self._key)
        total = [sum(numbers) for numbers in zip(*sheets, strict=True)]
        parts = {
            part: {"count": int(total[2 * i]), "ns": round(total[2 * i + 1] * 1e9)} for i, part in enumerate(PARTS)
        }
        return {
            "last_inference": int(max(numbers[LAST] for numbers in sheets) * 1e3),
            "inference_count": int(total[ROWS]),
            "execution_count": round(total[RUNS]),
            "inference_stats": parts | UNCACHED,
            "response_stats": {},
            "batch_stats": [],
            "memory_usage": [],
        }
