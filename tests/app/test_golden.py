import numpy as np
import pytest

from app.golden import Parity, _parity


def parity(size: float, difference: float) -> Parity:
    """Of embeddings of that size that differ by that much, in each element."""
    stored = np.random.default_rng(0).normal(0, size, (16, 32)).astype(np.float32)
    return _parity("target_encoder", stored + np.float32(difference), stored, "float32")


@pytest.mark.parametrize(("size", "difference"), [(0.1, 5e-5), (1, 5e-5), (1000, 5e-2)])
def test_rounding_may_grow_with_the_size_of_an_embedding(size: float, difference: float) -> None:
    assert parity(size, difference).holds


@pytest.mark.parametrize(("size", "difference"), [(0.01, 5e-4), (1, 5e-3), (1000, 5)])
def test_what_is_more_than_rounding_does_not_hold(size: float, difference: float) -> None:
    assert not parity(size, difference).holds
