import pytest

from model.training.schedules import learning_rate, momentum, random_start_share


def test_the_learning_rate_warms_up_and_ends_at_a_hundredth():
    assert learning_rate(0, 1000, 1.0, 100) == pytest.approx(0.01)
    assert learning_rate(99, 1000, 1.0, 100) == pytest.approx(1.0, abs=0.03)
    assert learning_rate(999, 1000, 1.0, 100) == pytest.approx(0.01, abs=1e-4)


def test_momentum_rises_to_its_ceiling():
    assert momentum(0, 0.996) == 0.1
    assert momentum(10_000, 0.996) == 0.996


def test_warming_up_forgets_the_random_start_of_a_short_run():
    assert random_start_share(500, 0.996) < 1e-6
    assert 0.996**500 > 0.13
