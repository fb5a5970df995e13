"""Columns of other types, names and sizes than usual: read for what they say, or refused, or told; never guessed."""

import datetime
import decimal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pytest
from numpy.typing import NDArray

from model.data.checks import repeated_frames
from model.data.frames import Frames, read_frames
from model.data.splits import split_warnings

ROWS = 8
NUMBERS = np.arange(ROWS)


def read(**columns: Any) -> Frames:
    return read_frames(pa.table({"x": NUMBERS / 4, **columns}))


def roles(frames: Frames) -> dict[str, str]:
    return {column.name: column.role for column in frames.roles}


@pytest.mark.parametrize(
    "column",
    [
        pa.array(NUMBERS % 2 == 0),
        pa.array(NUMBERS.astype(np.float16)),
        pa.array([decimal.Decimal(i) / 4 for i in range(ROWS)]),
        pa.array([decimal.Decimal(i) for i in range(ROWS)], pa.decimal256(50, 2)),
        pa.array((NUMBERS % 3).tolist()).dictionary_encode(),
        pa.RunEndEncodedArray.from_arrays(pa.array([4, ROWS], pa.int32()), pa.array([1.0, 2.0])),
        pa.array(NUMBERS.astype(np.uint64)),
    ],
    ids=lambda column: str(column.type),
)
def test_numbers_of_every_type_are_numbers(column: pa.Array) -> None:
    expected = [float(value) for value in column.to_pylist()]
    assert read(z=column).features[:, 1].tolist() == expected


@pytest.mark.parametrize("kind", [pa.list_view(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.int8(), 2)])
def test_lists_of_every_type_are_lists(kind: pa.DataType, tmp_path: Path) -> None:
    table = pa.table({"obs": pa.array([[1, 2]] * ROWS, kind)})
    feather.write_feather(table, tmp_path / "g.arrow", compression="uncompressed")
    for source in (table, tmp_path):
        assert read_frames(source).features[:].tolist() == [[1, 2]] * ROWS


@pytest.mark.parametrize(
    "column",
    [
        pa.array(NUMBERS.tolist(), pa.timestamp("us")),
        pa.array(NUMBERS.tolist(), pa.timestamp("us", "Europe/Berlin")),
        pa.array([datetime.date(2020, 1, 1)] * ROWS),
        pa.array([datetime.time(1)] * ROWS),
        pa.array([datetime.timedelta(seconds=1)] * ROWS),
        pa.array(["a"] * ROWS).dictionary_encode(),
        pa.array([[("a", 1.0)]] * ROWS, pa.map_(pa.string(), pa.float64())),
        pa.array([[{"p": 1.0}]] * ROWS),
    ],
    ids=lambda column: str(column.type),
)
def test_what_is_no_number_is_refused_with_the_way_to_leave_it_out(column: pa.Array) -> None:
    with pytest.raises(ValueError, match=r"'z' is .*--exclude 'z'"):
        read(z=column)
    assert read_frames(pa.table({"x": NUMBERS, "z": column}), exclude=["z"]).schema.names == ("x",)


def test_numbers_written_as_text_are_said_to_be() -> None:
    with pytest.raises(ValueError, match=r"'k' is string, .*'k' holds numbers written as text: save them as numbers;"):
        read(k=NUMBERS.astype(str))


def test_all_columns_of_text_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"'a' is string, not numbers, nor is 'b'; .*--exclude 'a' --exclude 'b'"):
        read(a=["u"] * ROWS, b=["v"] * ROWS)


def test_times_with_a_zone_are_left_out_or_tell_games_apart_as_others_do() -> None:
    stamps = pa.array((NUMBERS // 4).tolist(), pa.timestamp("us", "UTC"))
    assert roles(read(timestamp=stamps))["timestamp"] == "left out"
    assert read(episode=stamps).episode.tolist() == [0] * 4 + [1] * 4
    with pytest.raises(ValueError, match="a frame counts rows, not seconds"):
        read(frame=stamps)


def test_a_part_of_a_struct_that_bears_the_name_of_a_column_is_named() -> None:
    with pytest.raises(ValueError, match=r"has the column 'obs\.hp' more than once"):
        read(obs=pa.array([{"hp": 1.0}] * ROWS), **{"obs.hp": NUMBERS})


@pytest.mark.parametrize("scale", [1e300, 2.0**63])
def test_games_frames_and_labels_past_what_a_whole_number_holds_are_not_mixed_up(scale: float) -> None:
    two = np.repeat([1.0, 2.0], 4) * scale
    assert read(episode=two).episode.tolist() == [0] * 4 + [1] * 4
    assert len({*read(episode=two).episode_names}) == 2
    with pytest.raises(ValueError, match="must be a whole number in every row"):
        read(frame=two)
    with pytest.raises(ValueError, match="labels are whole numbers"):
        read_frames(pa.table({"x": NUMBERS, "y_win": two}), labels=["y_win"])


def test_unsigned_numbers_past_the_signed_ones_keep_their_names() -> None:
    games = read(episode=np.repeat(np.array([2**63, 2**63 + 1], np.uint64), 4))
    assert [games.called(each) for each in (0, 1)] == [str(2**63), str(2**63 + 1)]


@pytest.mark.parametrize("listed", [False, True])
def test_a_number_past_float32_is_named_as_it_is(listed: bool) -> None:
    column = [[1.0, value] for value in NUMBERS * 1e300] if listed else NUMBERS * 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"'z' holds 1e\+300 in row 1, more than float32 can hold"):
            read(z=column)


def test_whole_numbers_that_float32_rounds_are_said() -> None:
    far = np.array([0, 1, 2**24 + 1, 2**30] * 2)
    (said,) = read(z=far).notes
    assert "'z' holds whole numbers from 0 to 1073741824, and float32 rounds those above 16,777,216" in said
    assert read(z=far.astype(np.float64)).notes == ()
    assert read(z=np.array([0, 2**24, 2**30] + [2**25] * 5)).notes == ()
    (said,) = read(z=far.astype(np.int32)).notes
    assert "'z' holds whole numbers" in said


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_ids_past_float64_that_float32_makes_one_are_said(listed: bool, kind: type) -> None:
    ids: NDArray[Any] = (np.arange(ROWS) + 2**60).astype(kind)
    (said,) = read(z=ids[:, None].repeat(2, 1).tolist() if listed else ids).notes[:1]
    assert "and float32 rounds such numbers to multiples of" in said
    apart: NDArray[Any] = np.array([1, 2, 3, 4, 5, 6, 7, 2**60 + 1], kind)
    (said,) = read(z=apart).notes
    assert "'z' holds whole numbers from 1 to" in said
    assert read(z=apart // 2**40 * 2**40).notes == ()
    assert read(z=np.array([-(2**31), 0] * 4, np.int32)).notes == ()


def test_numbers_in_lists_that_float32_rounds_are_said_and_many_are_counted() -> None:
    notes = read(obs=[[1.7e9 + i / 60, i] for i in range(ROWS)]).notes
    assert [note.partition(" goes")[0] for note in notes] == ["'obs_0'"]
    notes = read(obs=[[1.7e9 + i / 60] * 9 for i in range(ROWS)]).notes
    assert len(notes) == 6
    assert notes[-1] == "float32 rounds 4 more columns in such a way"


def test_an_action_may_be_unknown_but_not_infinite() -> None:
    with pytest.raises(ValueError, match="action 'action' is infinite in row 2"):
        read(action=[0, np.nan, np.inf, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("ep_id", "--episode"), ("episode_number", "--episode"), ("game_number", "--episode"), ("demo", "--episode"),
        ("run_id", "--episode"), ("session_id", "--episode"), ("match_no", "--episode"), ("uuid", "--episode"),
        ("frame_count", "--frame"), ("global_step", "--frame"), ("elapsed_steps", "--frame"), ("tick_no", "--frame"),
        ("act", "--actions"), ("label", "--labels"), ("Y_win", "--labels"),
        ("p1_reward", "--features"), ("reward_shaped", "--features"),
    ],
)  # fmt: skip
def test_near_misses_are_left_out_and_said(name: str, flag: str) -> None:
    frames = read(**{name: NUMBERS % 2})
    said = f"say {flag} " + (name if flag != "--features" else "to learn from it")
    assert roles(frames)[name] == "left out"
    assert any(f"'{name}' is left out: looks like" in note and said in note for note in frames.notes)
    assert name in read_frames(pa.table({"x": NUMBERS, name: NUMBERS}), features=["*"]).schema.names


@pytest.mark.parametrize(
    "name",
    ["rew", "return", "episode_return", "ep_len", "cum_reward", "is_done", "game_over", "truncation", "obs_next",
     "rewards_1", "dones_0", "timestamp_0"],
)  # fmt: skip
def test_what_comes_later_is_left_out_by_more_names(name: str) -> None:
    assert roles(read(**{name: np.zeros(ROWS)}))[name] == "left out"


def test_what_a_column_will_be_in_the_next_frame_is_left_out_and_said() -> None:
    frames = read(next_x=NUMBERS, next_piece=NUMBERS)
    assert roles(frames) == {"x": "feature", "next_x": "left out", "next_piece": "feature"}
    assert frames.notes == ("'next_x' is left out: looks like 'x' of the next frame; say --features to learn from it",)


def test_games_that_interleave_and_frames_in_any_order_are_those_of_the_sorted_rows() -> None:
    frames = read(episode=NUMBERS % 2, frame=[3, 3, 1, 1, 0, 0, 2, 2])
    assert frames.episode.tolist() == (NUMBERS % 2).tolist()
    assert repeated_frames(frames) == []


def test_frames_that_are_doubled_are_said() -> None:
    (said,) = repeated_frames(read(episode=[0] * ROWS, frame=NUMBERS // 2))
    assert said.startswith("4 rows repeat a frame of their episode, first frame 0 of episode 0")


def test_where_frames_begin_again_and_no_column_tells_games_apart_a_game_begins() -> None:
    frames = read(frame=NUMBERS % 4)
    assert frames.episode.tolist() == [0] * 4 + [1] * 4
    assert "one begins in each of the 2 rows in which 'frame' begins again with 0" in frames.notes[0]
    # In any other order it is not known.
    assert {*read(frame=[0, 2, 1, 3, 4, 6, 5, 7]).episode.tolist()} == {0}


def test_frames_that_count_down_are_said() -> None:
    (said,) = read(episode=NUMBERS // 4, frame=3 - NUMBERS % 4).notes
    assert said.startswith("'frame' falls from row to row, and rows are put in the order in which it rises")
    for frame in (NUMBERS % 4, [3, 0, 1, 2] * 2, [3, 2, 1, 0, 0, 1, 2, 3]):
        assert read(episode=NUMBERS // 4, frame=frame).notes == ()


def test_names_of_several_levels_are_refused() -> None:
    pd = pytest.importorskip("pandas")
    columns = pd.MultiIndex.from_tuples([("s", "x"), ("k", "episode")])
    with pytest.raises(ValueError, match=r"has columns of several levels, such as \('s', 'x'\); give each one name"):
        read_frames(pd.DataFrame(np.ones((ROWS, 2)), columns=columns))


@pytest.mark.parametrize(
    ("option", "given", "message"),
    [
        ("features", 3, "features is 3; it must be a pattern of names"),
        ("exclude", ["x", 0], r"exclude is \['x', 0\]; it must be a pattern of names"),
        ("labels", {"y_a": 1}, "labels is .*; it must be a pattern of names"),
        ("episode", 0, "episode is 0; it must be the name of a column, as text"),
        ("frame", ["x"], r"frame is \['x'\]; it must be the name of a column, as text"),
    ],
)
def test_choices_of_another_type_are_refused(option: str, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_frames(pa.table({"x": NUMBERS}), **{option: given})


def test_patterns_may_be_an_array_of_names() -> None:
    names: Any = np.array(["z"])
    assert read_frames(pa.table({"x": NUMBERS, "z": NUMBERS}), features=names).schema.names == ("z",)


def test_inputs_that_are_no_numbers_are_said() -> None:
    (said,) = read(action=["left", "right"] * 4).notes
    assert said.startswith("'action' is left out: named as an action, but holds string, not numbers; number the inputs")


@pytest.mark.parametrize("labels", [pa.array([0, None] * 4), [0.0, np.nan] * 4, ["won", "lost"] * 4])
def test_labels_with_gaps_and_labels_of_text_are_taken_for_labels(labels: Any) -> None:
    frames = read(y_win=labels)
    assert roles(frames)["y_win"] == "label"
    assert frames.notes == ()


def test_infinite_numbers_of_both_signs_are_one_line() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="z is inf in row 0"):
            read(z=[np.inf, -np.inf, 1, 2] * 2)


@pytest.mark.parametrize("order", [("Episode", "episode"), ("episode", "Episode")])
def test_of_two_spellings_of_a_name_the_known_one_counts(order: tuple[str, str]) -> None:
    found = read(**dict(zip(order, (NUMBERS, NUMBERS), strict=True)))
    assert roles(found) == {"x": "feature", "episode": "episode", "Episode": "left out"}


def test_frames_of_another_type_are_refused_by_it() -> None:
    with pytest.raises(ValueError, match="'frame' holds 0, 1, 2 …, which are string; it must be a whole number"):
        read(frame=NUMBERS.astype(str))


def test_games_that_lie_in_several_splits_are_said() -> None:
    (said,) = split_warnings(read(episode=NUMBERS // 4, split=["train"] * 2 + ["val"] * 2 + ["train"] * 4))
    assert said.startswith("1 of 2 games have rows of several splits, first 0")
    assert split_warnings(read(episode=NUMBERS // 4, split=["train"] * 4 + ["val"] * 4)) == []
