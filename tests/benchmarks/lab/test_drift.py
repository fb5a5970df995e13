"""What can be told of the cost of drift without a load generator."""

from pathlib import Path

import numpy as np
import pytest

from app.telemetry import drift
from benchmarks.lab.drift import BLIND, median_interval
from tests.support.bundles import TinyModel
from tests.support.serving import serving

pytestmark = pytest.mark.anyio


def test_the_interval_of_a_median_holds_it_in_95_of_100_runs() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        low, high = median_interval(rng.exponential(size=40))
        held += low <= np.log(2) <= high
    assert held / 2000 >= 0.95


def test_of_few_rounds_no_interval_is_claimed() -> None:
    assert median_interval(np.arange(5.0)) == (-np.inf, np.inf)


async def test_what_is_not_to_count_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TinyModel()
    statistics = {name: [value] * model.input_dim for name, value in (("mean", 0), ("std", 1), ("min", -9), ("max", 9))}
    TinyModel(extra={"statistics": statistics}).write(tmp_path)
    monkeypatch.setattr(drift.Drift, "see", drift.Drift.see)  # put back at the end
    seen = []
    for before in ("pass", BLIND):
        exec(before)
        async with serving(models=tmp_path) as client:
            for _ in range(5):
                await client.post("/embed", json={"features": model.rows(2).tolist()})
            seen.append((await client.get("/models/tiny/drift")).json()["rows"])
    assert seen[0] > seen[1] == 0
