import pytest
import torch

from bundle.schema import Group, Schema
from model.data.frames import read_frames
from model.data.symmetry import Symmetry, symmetries
from tests.model.data.test_frames import write

NAN = float("nan")
NAMES = ("own_x", "own_hp", "opp_x", "opp_hp", "dx", "proj0_owner", "prev_a")
SCHEMA = Schema(NAMES, (Group("players", 0, 4), Group("space", 4, 6), Group("prev_action", 6, 7)))
DESCRIPTION = {
    "pairs": [["own_", "opp_"]],
    "negate": ["dx"],
    "exchange": [["proj?_owner", 0.5, 1.0]],
    "hide": ["prev_action"],
}


def test_the_other_side_sees_itself_as_own():
    rows = torch.tensor([[1, 2, 3, 4, 2, 0.5, 1], [5, 6, 7, 8, 2, 1.0, 0], [0, 0, 0, 0, 0, 0.0, 0]])
    assert Symmetry.of(SCHEMA, DESCRIPTION).apply(rows).tolist() == [
        [3, 4, 1, 2, -2, 1.0, 1],
        [7, 8, 5, 6, -2, 0.5, 0],
        [0, 0, 0, 0, 0, 0.0, 0],
    ]


def test_applying_it_twice_gives_the_row_back():
    rows = torch.randn(20, 7, generator=torch.Generator().manual_seed(0))
    sides = Symmetry.of(SCHEMA, DESCRIPTION)
    torch.testing.assert_close(sides.apply(sides.apply(rows)), rows, atol=0, rtol=0)


def test_what_one_side_cannot_know_is_hidden():
    assert Symmetry.of(SCHEMA, DESCRIPTION).hidden.tolist() == [False, False, True]


def test_inputs_are_those_of_the_other_side_where_the_data_has_them():
    names = ("own_x", "opp_x", "own_hp", "button", "dx", "proj0_owner", "prev_a")
    source, sign = Symmetry.of(SCHEMA, DESCRIPTION).of_actions(names, SCHEMA)
    assert source.tolist()[:2] == [1, 0]
    # opp_hp is no input, button no column; the owner is exchanged, and prev_a hidden.
    torch.testing.assert_close(sign, torch.tensor([1, 1, NAN, NAN, -1, NAN, NAN]), equal_nan=True)


def test_a_column_without_a_twin_and_an_unknown_group_are_named():
    with pytest.raises(ValueError, match="sides: column 'own_x' has no twin 'foe_x'"):
        symmetries(SCHEMA, {"sides": {"pairs": [["own_", "foe_"]]}})
    with pytest.raises(ValueError, match=r"mirror: there is no group \['weather'\] to hide"):
        symmetries(SCHEMA, {"mirror": {"hide": ["weather"]}})


def test_a_known_layout_brings_its_symmetries(tmp_path):
    metadata = {"layout": "melee287-v1", "groups": '[["own", 0, 1], ["opp", 1, 2], ["prev_action", 2, 4]]'}
    path = write(tmp_path / "melee.parquet", metadata, own_x=[1.0], opp_x=[2.0], prev_btn_x=[1.0], prev_main_x=[0.5])
    frames = read_frames(path)
    sides, mirror = frames.symmetries
    assert sides.apply(torch.from_numpy(frames.features[:])).tolist() == [[2, 1, 1, 0.5]]
    assert mirror.apply(torch.from_numpy(frames.features[:])).tolist() == [[-1, -2, 1, -0.5]]
