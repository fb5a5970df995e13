import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.training.masking import MaskSampler


@given(st.integers(1, 30), st.floats(0, 0.99), st.floats(0, 0.99), st.integers(0, 1000))
def test_every_row_hides_a_count_in_range_and_sees_something(groups, a, b, seed):
    low, high = sorted((a, b))
    visible = MaskSampler(groups, (low, high))(64, torch.Generator().manual_seed(seed))
    hidden = (~visible).sum(1)
    assert visible.shape == (64, groups)
    assert visible.any(1).all()
    assert (hidden <= round(high * groups)).all()
    assert (hidden >= min(round(low * groups), groups - 1)).all()


def test_every_group_is_hidden_equally_often():
    visible = MaskSampler(5, (0.4, 0.4))(20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close((~visible).float().mean(0), torch.full((5,), 0.4), atol=0.02, rtol=0)


def test_the_same_seed_draws_the_same_masks():
    first, second = (MaskSampler(9, (0.1, 0.5))(8, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("share", [(-0.1, 0.5), (0.5, 0.2), (0.0, 1.0)])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="hide_share is"):
        MaskSampler(5, share)


def test_no_groups_are_refused():
    with pytest.raises(ValueError, match="groups is 0"):
        MaskSampler(0, (0, 0.5))
