"""The scripted match has the layout and the habits of a game."""

import numpy as np
import pytest
from scripted_match import play

from bundle.folders import locate
from bundle.manifest import read_manifest

NAMES = read_manifest(locate("default")).feature_schema.names
MINUTE = 3600


@pytest.fixture(scope="module")
def match():
    rows = play(NAMES, 2 * MINUTE)
    return {name: rows[:, i] for i, name in enumerate(NAMES)}


def test_rows_are_finite_and_within_the_layouts_bounds():
    rows = play(NAMES, MINUTE)
    assert rows.shape == (MINUTE, 287)
    assert rows.dtype == np.float32
    assert np.abs(rows).max() <= 10
    assert np.isfinite(rows).all()


def test_the_same_seed_plays_the_same_match():
    np.testing.assert_array_equal(play(NAMES, 300, seed=1), play(NAMES, 300, seed=1))
    assert (play(NAMES, 300, seed=1) != play(NAMES, 300, seed=2)).any()


@pytest.mark.parametrize("side", ["own", "opp"])
def test_both_walk_jump_attack_are_hit_and_die(match, side):
    for action in ("walk", "jump", "smash", "aerial", "damage", "dead", "respawn"):
        assert match[f"{side}_act_{action}"].any(), action
    assert match[f"{side}_percent"].max() > 0.3
    assert set(np.diff(match[f"{side}_stock"])) <= {-0.25, 0.0, 0.25, 0.5, 0.75, 1.0}
    assert (np.diff(match[f"{side}_stock"]) == -0.25).any()


@pytest.mark.parametrize("side", ["own", "opp"])
@pytest.mark.parametrize("kind", ["act", "char"])
def test_one_hot_columns_have_a_single_one(match, side, kind):
    names = [name for name in NAMES if name.startswith(f"{side}_{kind}_") and not name.endswith("_id")]
    columns = [match[name] for name in names]
    np.testing.assert_array_equal(np.sum(columns, axis=0), 1)


def test_columns_of_one_frame_agree(match):
    dx = (match["opp_x"] - match["own_x"]) / 0.05
    np.testing.assert_allclose(match["dx"], dx / 200, atol=1e-5)
    assert not match["own_percent"][match["own_act_respawn"] == 1].any()
    assert not match["own_on_ground"][match["own_y"] != 0].any()


def test_positions_follow_from_speeds(match):
    moved = np.diff(match["own_x"]) / 0.05
    speed = (match["own_speed_air_x"] + match["own_speed_ground_x"] + match["own_speed_kb_x"])[1:] / 0.5
    in_flight = (match["own_act_fall"] == 1)[1:] & (match["own_act_fall"] == 1)[:-1]
    np.testing.assert_allclose(moved[in_flight], speed[in_flight], atol=1e-3)


def test_another_layout_is_refused_by_the_column_it_lacks():
    with pytest.raises(ValueError, match="no column 'distance'"):
        play(["ram_000", *(name for name in NAMES if name != "distance")], 10)
