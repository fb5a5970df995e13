import json
from dataclasses import replace

import pytest

from model.training.summary import METRICS, TrainingSummary

METRICS_OF_A_REPORT = {"objective": 3.5, "loss": 0.123456, "loss_ratio": 0.5, "std": 0.25, "rankme": 197.274}
SUMMARY = TrainingSummary(
    rows=7, episodes=2, seconds=1.5, half_precision=True, random_start_share=1e-9, licence="CC0-1.0",
    loss_quantiles={"5": [0.1, 0.2]}, data={"source": "games.parquet"},
)  # fmt: skip


def test_a_summary_survives_json():
    summary = replace(SUMMARY, history={})
    summary.record(250, METRICS_OF_A_REPORT)
    assert TrainingSummary.from_dict(json.loads(json.dumps(summary.as_dict()))) == summary


def test_a_run_without_a_report_says_nothing_of_metrics():
    described = TrainingSummary(rows=7, licence="CC0-1.0").as_dict()
    assert described == {
        "rows": 7,
        "episodes": 0,
        "seconds": 0.0,
        "half_precision": False,
        "random_start_share": 1.0,
        "licence": "CC0-1.0",
        "data": {},
    }


def test_the_last_report_is_kept_whole_and_all_of_them_for_curves():
    summary = replace(SUMMARY, history={})
    summary.record(250, METRICS_OF_A_REPORT | {"loss": 9.0})
    summary.record(500, METRICS_OF_A_REPORT | {"rows_per_second": 1e6})
    assert summary.metrics == METRICS_OF_A_REPORT
    assert summary.history.keys() == {"step", *METRICS}
    assert summary.history["step"] == [250, 500]
    assert summary.history["loss"] == [9.0, 0.1235]


def test_a_key_that_no_summary_has_is_refused():
    with pytest.raises(TypeError, match="weather"):
        TrainingSummary.from_dict(SUMMARY.as_dict() | {"weather": "fine"})
