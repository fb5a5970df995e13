"""Rows and inputs of the Universal Melee Interface: the same as from libmelee's GameState, on recorded games."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jepa_client.games.melee import BUTTONS, LiveRows
from jepa_client.games.melee_layout import COLUMNS, GROUPS, HANDS
from jepa_client.games.umi import FRAME, STAGES, UmiRows, as_inputs, controller, game_rows, inputs
from tests.support.console import excerpts, states

INSTALLED = importlib.util.find_spec("umi")
WHEEL = Path(str(INSTALLED.origin)).parent if INSTALLED else Path()
needs_umi = pytest.mark.skipif(not INSTALLED, reason="needs its recorded games: pip install umi-melee")


def recorded() -> list[np.ndarray]:
    """[200] frames of each game in the wheel, from both seats."""
    with np.load(WHEEL / "conform" / "fixtures.npz") as stored:
        frames = stored["frames"][:, 84:284]  # from frame −39 on
    assert frames.dtype == FRAME
    return [np.ascontiguousarray(game[:, seat]) for game in frames for seat in range(2)]


def check_against_libmelee(frames: np.ndarray) -> None:
    live = LiveRows(port=1)
    rows = np.stack([live.row(state) for state in states(frames)])
    np.testing.assert_allclose(game_rows(frames), rows, atol=1e-6)
    one_by_one = UmiRows()
    each = [one_by_one.rows([3], [i == 0], frames[i : i + 1])[0] for i in range(len(frames))]
    np.testing.assert_allclose(each, rows, atol=1e-6)
    # In the next frame's row stand the inputs that led to this one.
    np.testing.assert_allclose(rows[1:, GROUPS["prev_action"]], inputs(frames)[:-1], atol=1e-6)


def test_rows_are_those_of_libmelee() -> None:
    for frames in excerpts():
        check_against_libmelee(frames)


@needs_umi
def test_rows_of_the_recorded_games_are_those_of_libmelee() -> None:
    games = recorded()
    assert len(games) == 12
    for frames in games:
        check_against_libmelee(frames)


@needs_umi
def test_frames_have_the_layout_that_is_published() -> None:
    spec = importlib.util.spec_from_file_location("published", WHEEL / "frame.py")
    assert spec is not None
    assert spec.loader is not None
    published = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(published)
    assert published.FRAME == FRAME
    assert {number: name for name, number in published.STAGES.items()} == STAGES
    assert [f"btn_{name.lower()}" for name in published.BUTTONS] == list(BUTTONS)
    np.testing.assert_array_equal(as_inputs(published.NEUTRAL_CTRL), np.zeros(13))


def test_the_other_seat_sees_the_same_game() -> None:
    own = [i for i, name in enumerate(COLUMNS) if name.startswith("own_")]
    opp = [COLUMNS.index(COLUMNS[i].replace("own_", "opp_", 1)) for i in own]
    for mine, others in zip(*[iter(excerpts())] * 2, strict=True):
        np.testing.assert_array_equal(game_rows(mine)[:, own], game_rows(others)[:, opp])


def test_games_side_by_side_each_remember_their_own_inputs() -> None:
    games = excerpts()
    apart = [game_rows(frames) for frames in games]
    rows, together = UmiRows(), []
    for i in range(20):
        batch = np.concatenate([frames[i : i + 1] for frames in games])
        together.append(rows.rows(np.arange(4, dtype=np.uint32), np.full(4, i == 0), batch.tobytes()))
    np.testing.assert_array_equal(np.stack(together, axis=1), apart)
    # Another game begins in the same place, and one comes again after frames that nobody saw.
    again = rows.rows([0, 1], [True, False], np.concatenate([games[0][5:6], games[1][:1]]))
    assert not again[:, GROUPS["prev_action"]].any()
    rows.forget(2)
    assert not rows.rows([2], [False], games[2][19:])[:, GROUPS["prev_action"]].any()


def test_an_input_becomes_a_controller_row_and_back() -> None:
    chosen = np.zeros((2, 13), np.float32)
    chosen[0, [HANDS.index("btn_b"), HANDS.index("main_x"), HANDS.index("shoulder")]] = 1, -1, 0.25
    chosen[1, [HANDS.index("btn_d_up"), HANDS.index("c_y")]] = 1, 0.5
    rows = controller(chosen)
    np.testing.assert_array_equal(rows[0], [0, 0.5, 0.5, 0.5, 0.25, 0, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(rows[1], [0.5, 0.5, 0.5, 0.75, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(as_inputs(rows), chosen)
    np.testing.assert_array_equal(as_inputs(controller(chosen[0])), chosen[0])
    # Buttons are pressed above a half.
    assert as_inputs([0.5] * 4 + [0.0, 0.4, 0.6] + [0.0] * 6)[:3].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (b"x" * 771, "771 bytes are no frames of 770; send the field `frames` as it came"),
        (np.zeros((2, 770), np.uint8), "frames are 2-dimensional, of 1 bytes each; send [n] of 770"),
    ],
)
def test_what_is_no_frame_is_refused(frames: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        game_rows(frames)


def test_missing_frames_are_named() -> None:
    frames = excerpts()[0]
    with pytest.raises(
        ValueError, match=f"frames are missing after frame {frames['frame'][3]}; send the frames of one"
    ):
        game_rows(np.delete(frames, 4))
