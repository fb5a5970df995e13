"""The arithmetic of a load test, without HTTP: when requests are due, the summary of a run, and when it has failed."""

import math
import operator
import re
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "max": 100.0}
METRICS = (*PERCENTILES, "errors", "late")


@dataclass(frozen=True)
class Summary:
    """What one run measured.

    `errors` counts failures by HTTP status or kind. In an open loop, latencies count from when each request was due.
    `late` counts the answers that came after their deadline and the requests that failed.
    """

    requests: int
    errors: dict[str, int]
    seconds: float
    rows: int
    latency_ms: dict[str, float]
    late: int

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds

    def value(self, metric: str) -> float:
        """A latency in ms, or the percentage of requests that failed or were late."""
        if metric == "errors":
            return 100 * sum(self.errors.values()) / max(1, self.requests)
        if metric == "late":
            return 100 * self.late / max(1, self.requests)
        return self.latency_ms[metric]

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values; percentiles are null if there were no answers."""
        rates = {"requests_per_second": self.requests_per_second, "rows_per_second": self.rows_per_second}
        finite = {name: ms if math.isfinite(ms) else None for name, ms in self.latency_ms.items()}
        return asdict(self) | rates | {"latency_ms": finite}


def summarise(
    latencies_s: NDArray[np.float64], errors: dict[str, int], seconds: float, rows_each: int, deadline_s: float
) -> Summary:
    """`latencies_s` are the latencies of requests answered with 200; if there are none, percentiles are infinite."""
    failed = sum(errors.values())

    def percentile_ms(share: float) -> float:
        return float(np.percentile(latencies_s, share)) * 1e3 if len(latencies_s) else math.inf

    return Summary(
        requests=len(latencies_s) + failed,
        errors=errors,
        seconds=seconds,
        rows=len(latencies_s) * rows_each,
        latency_ms={name: percentile_ms(share) for name, share in PERCENTILES.items()},
        late=int((latencies_s > deadline_s).sum()) + failed,
    )


class Condition(NamedTuple):
    """A condition under which a run counts as failed, such as `p99>16.67ms` or `errors>0%`; `limit` is in ms or %."""

    metric: str
    sign: str
    limit: float

    def holds(self, summary: Summary) -> bool:
        compare = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}[self.sign]
        return bool(compare(summary.value(self.metric), self.limit))


def parse_condition(text: str) -> Condition:
    """Parses a metric, a comparison, a number and a unit (`ms`, `s` or `%`); ValueError says what is wrong."""
    parts = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*([0-9.]+)\s*(ms|s|%)?\s*", text)
    if parts is None:
        raise ValueError(f"'{text}' is no condition; write one like 'p99>16.67ms' or 'errors>0%'")
    metric, sign, number, unit = parts.groups()
    if metric not in METRICS:
        raise ValueError(f"'{metric}' in '{text}' is not measured; there is {', '.join(METRICS)}")
    units = ("%", None) if metric in ("errors", "late") else ("ms", "s", None)
    if unit not in units:
        raise ValueError(f"'{unit}' in '{text}' does not fit {metric}, which is in {units[0]}")
    try:
        limit = float(number)
    except ValueError:
        raise ValueError(f"'{number}' in '{text}' is no number") from None
    return Condition(metric, sign, limit * 1e3 if unit == "s" else limit)


def due_times(bots: int, hz: float, seconds: float) -> list[NDArray[np.float64]]:
    """Seconds from the start at which each bot's requests are due, with the bots spread evenly over a frame."""
    frames = max(1, round(seconds * hz))
    return [np.arange(frames) / hz + bot / (bots * hz) for bot in range(bots)]
