"""The soak, for two seconds, and what it makes of hours."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks import soak
from benchmarks.soak import Books, Sample, verdict

PNG = b"\x89PNG"


def hours(growth_mib: float) -> list[Sample]:
    """Ten of them at 100 requests a second, with noise of a MiB; the first is steep for whoever it may be."""
    noise = np.random.default_rng(0).normal(0, 1, 300)
    at_s = np.linspace(0, 36_000, 300)
    mib = 80 + 20 * np.minimum(1, at_s / 1800) + growth_mib * at_s / 36_000 + noise
    return [
        Sample(float(at), int(at * 100), {1: 40.0, 2: float(each)}, 2.0) for at, each in zip(at_s, mib, strict=True)
    ]


def test_flat_memory_without_errors_holds_whatever_the_warm_up_took() -> None:
    held, text = verdict(hours(0.0), Books())
    assert held
    assert text.splitlines()[-1] == "held"


def test_memory_that_grows_is_told_from_noise_and_said_by_the_hour_and_the_million() -> None:
    held, text = verdict(hours(36.0), Books())
    assert not held
    an_hour, a_million = text.splitlines()[0].rpartition("over the time: ")[2].split(", ")
    assert float(an_hour.split()[0]) == pytest.approx(3.6, abs=0.1)
    assert float(a_million.split()[0]) == pytest.approx(10, abs=0.3)
    assert text.splitlines()[-1] == "NOT held: memory grows"


def test_one_request_that_is_lost_or_answered_otherwise_is_too_many() -> None:
    for books in (Books(lost=Counter(ReadTimeout=1)), Books(errors=Counter({"embed: 500": 1}))):
        held, text = verdict(hours(0.0), books)
        assert not held
        assert text.splitlines()[-1] == "NOT held: requests failed"


def test_a_soak_asks_everything_changes_models_and_draws(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "soak.png"
    flags = ("--minutes", "0.04", "--bots", "4", "--swap-s", "0.5", "--bundle", str(models / "tiny"), "--out", str(out))
    monkeypatch.setattr(sys, "argv", ["soak", *flags])
    monkeypatch.setattr(soak, "CONNECTION_REQUESTS", (5, 20))
    monkeypatch.setattr(soak, "FLAT_MIB", 1000)  # two seconds are all warming up
    with pytest.raises(SystemExit) as ended:
        soak.main()
    text = capsys.readouterr().out
    assert ended.value.code == 0, text
    assert "\nlost      0\n" in text
    assert "\nheld\n" in text
    for name in ("embed", "predict", "loss", "v2", "too wide", "no JSON", "not a number", "no such model"):
        assert f" {name}" in text
    assert out.read_bytes().startswith(PNG)
