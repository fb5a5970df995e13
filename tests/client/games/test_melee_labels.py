"""The labels of frames: against those of the training data where it is, and on games made by hand."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("peppi_py", reason="needs the extra: jepa-client[slippi]")

from jepa_client.games.melee import replay_labels, replay_rows
from jepa_client.games.melee_labels import COARSE_CLASSES, LABELS, labels
from jepa_client.games.melee_layout import ACTIONS, CHARACTERS, HANDS, STAGES
from jepa_client.games.slippi import read_replay
from tests.support.replays import Frame, duel, game

TRAINING = Path(__file__).parents[4] / "shared" / "data" / "melee287_train.parquet"


@pytest.fixture
def replay(tmp_path):
    def write_and_read(moments, stage=32):
        (tmp_path / "game.slp").write_bytes(game(moments, stage))
        return read_replay(tmp_path / "game.slp")

    return write_and_read


@pytest.mark.skipif(not TRAINING.is_file(), reason=f"needs {TRAINING}")
def test_labels_are_those_of_the_training_data():
    """Computed of its columns, which is all there is of most of its games."""
    sides = [f"{side}_{name}" for side in ("own", "opp") for name in ("action_id", "percent", "stock", "char_id")]
    names = ["episode", *sides, *(f"stage_{name}" for name in STAGES), *(f"prev_{name}" for name in HANDS), *LABELS]
    table = {
        name: column.to_numpy() for name, column in zip(names, pq.read_table(TRAINING, columns=names), strict=True)
    }
    stage = np.stack([table[f"stage_{name}"] for name in STAGES], axis=1).argmax(1)
    before = np.stack([table[f"prev_{name}"] for name in HANDS], axis=1)
    for rows in np.split(np.arange(len(stage)), np.flatnonzero(np.diff(table["episode"])) + 1):
        # Of the last frame, only the next one would know what was pressed.
        hands = np.concatenate([before[rows[1:]], np.zeros((1, len(HANDS)))])
        own, opp = (
            SimpleNamespace(
                action=np.rint(table[f"{side}_action_id"][rows] * 399),
                percent=table[f"{side}_percent"][rows],
                stock=np.rint(table[f"{side}_stock"][rows] * 4),
                character=np.rint(table[f"{side}_char_id"][rows] * 33).astype(int),
            )
            for side in ("own", "opp")
        )
        found = labels(own, opp, STAGES[stage[rows[0]]], hands)
        for name in LABELS:
            known = slice(None, -1) if name.endswith("_now") else slice(None)
            np.testing.assert_array_equal(found[name][known], table[name][rows][known], name)


@pytest.mark.skipif(not TRAINING.is_file(), reason=f"needs {TRAINING}")
def test_classes_have_the_names_of_the_training_data():
    about = pq.read_metadata(TRAINING).metadata
    assert json.loads(about[b"coarse_classes"]) == [*COARSE_CLASSES]
    assert json.loads(about[b"chars"]) == [*CHARACTERS]


def test_each_class_of_actions_is_of_one_coarser_class():
    assert sorted(name for names in COARSE_CLASSES.values() for name in names) == sorted(ACTIONS)


def test_there_is_a_label_for_each_row(replay):
    recorded = replay(duel(100, first=-123))
    rows, _ = replay_rows(recorded)
    found = replay_labels(recorded)
    assert {name: (values.dtype, values.shape) for name, values in found.items()} == dict.fromkeys(
        LABELS, (np.dtype(np.int8), (len(rows),))
    )


def test_what_each_player_does_thirty_frames_later(replay):
    moments = duel(40, first=-39)
    moments[35].fighters[0].action = 65  # an aerial
    moments[36].fighters[1].action = 400  # beyond the last that is known
    found = replay_labels(replay(moments))
    idle, attack, special = ([*COARSE_CLASSES].index(name) for name in ("idle_ground", "attack", "special"))
    assert [*found["y_act30"]] == [idle] * 5 + [attack] + [idle] * 4 + [-1] * 30
    assert [*found["y_opp_act30"]] == [idle] * 6 + [special] + [idle] * 3 + [-1] * 30


def test_damage_within_a_second(replay):
    moments = duel(130, first=-39)
    for moment in moments[100:]:
        moment.fighters[0].percent = 5.0
    for moment in moments[110:]:
        moment.fighters[0].percent = 0.0  # a new stock is no damage
    found = replay_labels(replay(moments))["y_dmg60"]
    assert [*found] == [0] * 40 + [1] * 60 + [-1] * 30


def test_who_loses_the_next_stock(replay):
    moments = duel(8, first=-39)
    for at, port, left in ((2, 1, 3), (4, 0, 3), (6, 0, 2), (6, 1, 2)):
        for moment in moments[at:]:
            moment.fighters[port].stock = left
    found = replay_labels(replay(moments))["y_next_stock"]
    assert [*found] == [1, 1, 0, 0, -1, -1, -1, -1]
    assert [*replay_labels(replay(moments), port=2)["y_next_stock"]] == [0, 0, 1, 1, -1, -1, -1, -1]


def test_who_plays_where(replay):
    moments = duel(2, first=-39)
    for moment in moments:
        moment.fighters[0].character, moment.fighters[1].character = 18, 30
    for stage, name in ((2, "fod"), (31, "bf"), (12, "other")):
        found = replay_labels(replay(moments, stage))
        assert [*found["y_stage"]] == [STAGES.index(name)] * 2
        assert [*found["y_own_char"]] == [CHARACTERS.index("marth")] * 2
        assert [*found["y_opp_char"]] == [-1, -1]


def test_the_players_input_in_this_frame(replay):
    pressed = [
        ((np.nan, 0), 0), ((0.275, 0), 0), ((0.2875, 0), 1), ((0.7, 0.7), 2), ((0, 1), 3), ((-0.7, 0.7), 4),
        ((-1, 0), 5), ((-1, -0.1), 5), ((-0.7, -0.7), 6), ((0, -1), 7), ((0.7, -0.7), 8), ((1, -0.1), 1),
    ]  # fmt: skip
    buttons = [0x0400, 0x0800, 0x0300]
    moments = duel(len(pressed), first=-39)
    for i, ((x, y), _) in enumerate(pressed):
        moments[i].fighters[0] = Frame(-39 + i, sticks=(x, y, 0, 0), buttons=buttons[i % 3])
    found = replay_labels(replay(moments))
    assert [*found["y_stick_now"]] == [direction for _, direction in pressed]
    assert [*found["y_jump_btn_now"]] == [1, 1, 0] * 4
