import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.training.masking import ActionMaskSampler, MaskSampler


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


def test_of_half_of_the_rows_no_input_is_known_and_of_a_quarter_nearly_all():
    horizon = torch.full((20_000,), 18)
    known = ActionMaskSampler(24, 3)(horizon, torch.Generator().manual_seed(0))
    assert known.shape == (20_000, 24, 3)
    assert 0.48 < (~known.flatten(1).any(1)).float().mean() < 0.54
    whole = known.flatten(1).all(1).float().mean()
    # Of half of the others the frames are not cut short, of 9/16 of these nothing else is hidden.
    assert abs(whole - 0.25 * 0.75 * (0.75 + 0.25 * 0.7**3)) < 0.02


def test_inputs_that_are_cut_short_end_before_the_horizon_and_all_lengths_come():
    horizon = torch.tensor([1, 6, 30]).repeat(4000)
    known = ActionMaskSampler(24, 1)(horizon, torch.Generator().manual_seed(0))[:, :, 0]
    last = (known * torch.arange(1, 25)).amax(1)  # [n] the last frame with a known input
    for ahead in (6, 30):
        some = last[horizon == ahead]
        assert set(some.tolist()) >= {0, 24, *range(1, min(ahead, 24) - 1)}
    # One frame ahead there is but one input.
    assert set(last[horizon == 1].tolist()) <= {0, 1, *range(20, 25)}


def test_the_same_seed_hides_the_same_inputs():
    first, second = (ActionMaskSampler(5, 2)(torch.arange(1, 9), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
