"""Horizons are those that the games are long enough for."""

import pytest

from model.data.frames import read_frames
from model.training.horizons import within_reach
from model.training.recipe import Recipe


def games(length, stride=1):
    frames = [frame * stride for frame in range(length)]
    return read_frames({"x": [*range(4 * length)], "episode": sorted([*range(4)] * length), "frame": frames * 4})


@pytest.mark.parametrize(
    ("length", "kept"), [(200, (1, 5, 10, 20, 30, 60)), (60, (1, 5, 10, 20, 30)), (12, (1, 5)), (1, (1,))]
)
def test_horizons_past_what_most_rows_reach_are_left_out_and_said(length, kept):
    recipe = Recipe(horizons=(1, 5, 10, 20, 30, 60))
    found, note = within_reach(games(length), recipe)
    assert found.horizons == kept
    assert (note is None) == (kept == recipe.horizons)
    if note is not None:
        assert note.startswith(
            f"horizons {', '.join(str(each) for each in recipe.horizons if each not in kept)} are left"
        )


def test_of_frames_that_are_not_counted_one_by_one_horizons_between_them_are_left_out():
    assert within_reach(games(100, stride=2), Recipe(horizons=(1, 5, 10, 20)))[0].horizons == (10, 20)


def test_rows_without_order_have_no_horizons_to_leave_out():
    recipe = Recipe()
    assert within_reach(read_frames({"x": [1.0, 2.0]}), recipe) == (recipe, None)
