import pytest

from benchmarks.peers import run


@pytest.mark.parametrize("capacity", [0, 1, 3, 13, 40, 127, 128, 500])
def test_the_search_finds_how_many_bots_are_in_time_to_an_eighth_and_stops_at_the_most(capacity):
    tried = []

    def in_time(bots):
        tried.append(bots)
        return bots <= capacity

    bound = min(capacity, run.MAX_BOTS)
    assert bound - bound // 8 <= run.max_bots(in_time) <= bound
    assert max(tried) <= run.MAX_BOTS


def test_a_ratio_is_to_our_own_service_in_the_same_round():
    def measured(rate, failed=0):
        return {"rate": rate, "p50_ms": 1.0, "p99_ms": 2.0, "failed": failed}

    slowing = run.cell([measured(100), measured(50), measured(10)], [measured(200), measured(100), measured(20)])
    assert slowing == "50/s, 1.0 / 2.0 ms, ×0.50"
    assert run.cell([measured(100, failed=3)], [measured(200)]).endswith("3 failed")


@pytest.mark.parametrize("statistics", [None, {"mean": [5.0, -5.0, 0.0], "std": [1.0, 2.0, 0.0]}])
def test_rows_lie_about_the_statistics_of_the_model(statistics):
    rows = run.rows_like({"input_dim": 3, "statistics": statistics}, 64)
    assert rows.shape == (64, 3)
    assert rows.dtype == "float32"
    if statistics:
        assert abs(rows[:, 0].mean() - 5) < 1
        assert (rows[:, 2] == 0).all()
