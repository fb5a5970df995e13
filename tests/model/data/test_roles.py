"""Which column is what: by names of the ecosystem, by the user's choice, and by schema.json."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.schema import Group
from model.data.checks import counting_columns
from model.data.frames import Frames, read_frames
from model.data.groups import shared_groups
from model.data.ranges import Ranges
from model.data.splits import split_notes, split_rows
from model.data.statistics import statistics_of

ROWS = 12


def write(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table({"x": np.linspace(0.1, 1, ROWS), "y": np.linspace(0.9, 0, ROWS)} | columns), path)
    return path


def roles(frames: Frames) -> dict[str, str]:
    return {column.name: column.role for column in frames.roles}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "games.parquet"


@pytest.mark.parametrize(
    "name",
    ["reward", "done", "terminated", "Truncated", "timestamp", "index", "next.done", "next_observation", "timeouts",
     "task_index", "__index_level_0__", "Unnamed: 0", "infos", "dones", "terminals", "log_probs"],
)  # fmt: skip
def test_what_tells_the_outcome_or_numbers_the_rows_is_left_out(name: str, path: Path) -> None:
    write(path, **{name: np.arange(ROWS)})
    frames = read_frames(path)
    assert frames.schema.names == ("x", "y")
    assert roles(frames)[name] == "left out"
    assert read_frames(path, features=["x", name]).schema.names == ("x", name)


@pytest.mark.parametrize("name", ["episode", "Episode", "episode_id", "episode_index", "trajectory_id", "game-id"])
def test_games_are_told_apart_by_the_names_of_the_ecosystem(name: str, path: Path) -> None:
    frames = read_frames(write(path, **{name: np.repeat([3, 5], ROWS // 2)}))
    assert roles(frames) == {"x": "feature", "y": "feature", name: "episode"}
    assert frames.episode.tolist() == [3] * 6 + [5] * 6


@pytest.mark.parametrize("name", ["frame", "frame_index", "step", "t", "timestep"])
def test_frames_are_counted_by_the_names_of_the_ecosystem(name: str, path: Path) -> None:
    frames = read_frames(write(path, **{name: np.arange(ROWS)}))
    assert frames.frame is not None
    assert frames.frame.tolist() == [*range(ROWS)]
    assert frames.schema.names == ("x", "y")


def test_of_two_columns_for_one_role_the_second_is_left_out_and_the_choice_wins(path: Path) -> None:
    write(path, frame=np.arange(ROWS), step=np.arange(ROWS) * 2, game=np.repeat(["a", "b"], 6), t_wall=np.ones(ROWS))
    assert roles(read_frames(path, exclude=["game"]))["step"] == "left out"
    frames = read_frames(path, episode="game", frame="step", exclude=["t_*", "frame"])
    assert roles(frames) == {
        "x": "feature", "y": "feature", "frame": "left out", "step": "frame", "game": "episode", "t_wall": "left out",
    }  # fmt: skip
    assert frames.episode.tolist() == [0] * 6 + [1] * 6
    assert [frames.called(each) for each in (0, 1)] == ["a", "b"]


def test_schema_json_says_the_same_and_flags_win(path: Path) -> None:
    write(path, game=np.repeat(["a", "b"], 6), t=np.arange(ROWS), debug=np.ones(ROWS))
    (path.parent / "schema.json").write_text(json.dumps({"episode": "game", "exclude": ["debug"]}))
    assert roles(read_frames(path)) == {
        "x": "feature", "y": "feature", "game": "episode", "t": "frame", "debug": "left out",
    }  # fmt: skip
    assert read_frames(path, exclude=["x", "game"], episode="t").schema.names == ("y", "debug")
    (path.parent / "schema.json").write_text(json.dumps({"exclude": [5]}))
    with pytest.raises(ValueError, match=r"exclude is \[5\] in schema.json; it must be a list of name patterns"):
        read_frames(path)


@pytest.mark.parametrize(("near", "flag"), [("episode_idx", "episode"), ("frame_no", "frame"), ("steps", "frame")])
def test_a_near_miss_is_named_with_the_flag_and_is_no_feature(near: str, flag: str, path: Path) -> None:
    frames = read_frames(write(path, **{near: np.arange(ROWS)}))
    assert frames.schema.names == ("x", "y")
    why = f"looks like the {flag}; say --{flag} {near}, or --features to learn from it"
    assert frames.notes == (f"'{near}' is left out: {why}",)


def test_a_vertical_position_is_a_label_by_its_name_and_a_feature_by_choice(path: Path) -> None:
    write(path, y_pos=np.linspace(0, 1, ROWS), y_win=np.arange(ROWS) % 2)
    frames = read_frames(path, labels=None)
    assert roles(frames)["y_pos"] == "label"
    assert [*frames.labels] == ["y_win"]
    for chosen in ("*", ["x", "y_pos"]):
        assert "y_pos" in read_frames(path, features=chosen, labels=None).schema.names


def test_a_label_that_is_excluded_is_not_read(path: Path) -> None:
    write(path, y_lost=np.arange(ROWS) % 2, y_win=np.arange(ROWS) % 2)
    for labels in (None, ["y_*"]):
        assert [*read_frames(path, labels=labels, exclude=["y_l*"]).labels] == ["y_win"]


def test_patterns_may_be_several_and_one_that_matches_nothing_names_the_nearest(path: Path) -> None:
    write(path, cart_pos=np.ones(ROWS), cart_vel=np.ones(ROWS), pole=np.ones(ROWS))
    assert read_frames(path, features=["cart_*", "pole*"]).schema.names == ("cart_pos", "cart_vel", "pole")
    assert read_frames(path, exclude=["cart_*", "x"]).schema.names == ("y", "pole")
    with pytest.raises(ValueError, match=r"no column matches 'cart_po'.*the nearest is 'cart_pos': correct --exclude"):
        read_frames(path, exclude=["cart_po"])
    with pytest.raises(ValueError, match="--episode is 'gaem'; no column is"):
        read_frames(path, episode="gaem")
    with pytest.raises(ValueError, match="--episode and --frame both name 'pole'"):
        read_frames(path, episode="pole", frame="pole")
    with pytest.raises(ValueError, match="no column is a feature"):
        read_frames(path, exclude=["*"])


def test_splits_by_other_names_are_obeyed_and_rows_left_out_are_counted(path: Path) -> None:
    split = ["train"] * 6 + ["Validation"] * 4 + ["test"] * 2
    frames = read_frames(write(path, episode=np.repeat([0, 1, 2], 4), split=split))
    assert [len(part) for part in split_rows(frames)] == [6, 4]
    (note,) = split_notes(frames)
    assert "2 rows of 'test' are not read, only those of train and val" in note
    for odd in ("holdout", None):
        with pytest.raises(ValueError, match="in row 11; it must be train, val or test"):
            read_frames(write(path, split=[*split[:-1], odd]))


def test_a_column_that_only_counts_up_is_warned_of(path: Path) -> None:
    games, clock = np.repeat([0, 1], 20), np.tile(np.arange(20.0), 2)
    score = np.minimum(clock, 15)
    pq.write_table(pa.table({"episode": games, "clock": clock, "score": score, "frame": clock.astype(int)}), path)
    (said,) = counting_columns(read_frames(path))
    assert said.startswith("1 of 2 columns (clock) only count up within a game")
    assert "--frame" not in said
    (said,) = counting_columns(read_frames(path, exclude=["frame"]))
    assert "say --frame clock if it counts the frames" in said


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.bool_])
def test_what_an_array_masks_is_missing(kind: type) -> None:
    masked: Any = np.ma.array(np.arange(12).reshape(6, 2).astype(kind), mask=np.zeros((6, 2), bool))
    assert read_frames({"features": masked}).features[:].tolist() == masked.data.astype(float).tolist()
    masked[1, 0] = np.ma.masked
    for given in (masked, {"features": masked}, {"x": masked[:, 0], "z": masked[:, 1]}):
        with pytest.raises(ValueError, match="is nan in row 1"):
            read_frames(given)


def test_missing_numbers_are_refused_hidden_dropped_or_averaged(path: Path) -> None:
    write(path, own_x=pa.array([None, 1, *[3] * (ROWS - 2)], pa.int64()), own_y=np.ones(ROWS), flag=[True, None] * 6)
    with pytest.raises(ValueError, match=r"own_x is nan in row 0; .* --missing hide, drop or mean goes on"):
        read_frames(path)
    assert len(read_frames(path, missing="drop")) == 5
    mean = read_frames(path, missing="mean", features=["own_x", "own_y"])
    assert mean.features[0, 0] == pytest.approx(31 / 11)
    hidden = read_frames(path, missing="hide", features=["own_x", "own_y", "flag"])
    assert hidden.absent is not None
    assert np.isnan(hidden.as_seen()).tolist()[:2] == [[True, True, False], [False, False, True]]
    assert np.isfinite(hidden.features).all()
    statistics, seen = statistics_of(hidden, Ranges.all(len(hidden))), hidden.as_seen().astype(np.float64)
    np.testing.assert_allclose(statistics["mean"], np.nanmean(seen, 0), rtol=1e-6)
    np.testing.assert_allclose(statistics["std"], np.nanstd(seen, 0), rtol=1e-6)
    with pytest.raises(ValueError, match="missing is 'guess'; it must be one of refuse, hide"):
        read_frames(path, missing="guess")


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["own_x", "own_y", "opp_x", "time"], [("own", 0, 2), ("opp_x", 2, 3), ("time", 3, 4)]),
        (["x", "y"], [("x", 0, 1), ("y", 1, 2)]),
        (["own_x", "opp_x", "own_y"], [("own_x", 0, 1), ("opp_x", 1, 2), ("own_y", 2, 3)]),
        (["own_x", "own_y", "opp_x", "own_z", "own_w"], [("own", 0, 2), ("opp_x", 2, 3), ("own_z…own_w", 3, 5)]),
        (["obs.a_x", "obs.a_y", "obs.b_x"], [("obs.a", 0, 2), ("obs.b_x", 2, 3)]),
        (["ram_0", "ram_1", "ram_2"], [("ram_0", 0, 1), ("ram_1", 1, 2), ("ram_2", 2, 3)]),
        (["0", "1"], [("0", 0, 1), ("1", 1, 2)]),
        (["f000", "f001"], [("patch0", 0, 1), ("patch1", 1, 2)]),
    ],
)  # fmt: skip
def test_groups_are_named_by_what_their_columns_share(names: list[str], groups: list[Any]) -> None:
    assert shared_groups(names) == tuple(Group(*group) for group in groups)


def test_many_names_that_share_nothing_make_few_groups() -> None:
    groups = shared_groups([f"c{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(100)])
    assert len(groups) == 8
    assert groups[0].name == "caa…cal"


def recorded(frames: Frames) -> dict[str, str]:
    return dict(zip(frames.action_names, frames.actions_recorded, strict=True))


def test_the_table_says_of_each_input_by_which_frame_it_is_recorded(path: Path) -> None:
    write(path, action=np.arange(ROWS), prev_jump=np.ones(ROWS), button=np.ones(ROWS))
    assert recorded(read_frames(path)) == {"action": "before"}
    frames = read_frames(path, actions=["action", "prev_jump", "button"])
    assert recorded(frames) == {"action": "before", "prev_jump": "after", "button": "before"}
    assert roles(frames) == {
        "x": "feature", "y": "feature", "action": "action", "prev_jump": "feature", "button": "action",
    }  # fmt: skip
    said = {column.name: column.why for column in frames.roles}
    assert said["action"] == "the input that leads to the next frame, by --actions"
    assert said["prev_jump"] == "the input that led to this frame, and a feature as well, by --actions"
    assert frames.schema.names == ("x", "y", "prev_jump")
    assert frames.actions is not None
    np.testing.assert_array_equal(frames.actions[:, 1], 1)


def test_schema_json_says_by_which_frame_inputs_are_recorded(path: Path) -> None:
    write(path, pad=np.arange(ROWS), prev_pad=np.arange(ROWS))
    described = path.parent / "schema.json"
    described.write_text(json.dumps({"actions": ["pad"], "actions_recorded": "after"}))
    frames = read_frames(path)
    assert recorded(frames) == {"pad": "after"}
    assert frames.schema.names == ("x", "y", "pad", "prev_pad")
    described.write_text(json.dumps({"actions": ["prev_pad"], "actions_recorded": "before"}))
    frames = read_frames(path)
    assert recorded(frames) == {"prev_pad": "before"}
    assert frames.schema.names == ("x", "y", "pad")
    described.write_text(json.dumps({"actions_recorded": "later"}))
    with pytest.raises(ValueError, match=r"actions_recorded is 'later' in schema\.json; it must be 'before'"):
        read_frames(path)


def test_an_action_stays_one_where_features_are_picked_and_may_be_picked_or_left_out(path: Path) -> None:
    write(path, action=np.arange(ROWS))
    assert recorded(read_frames(path, features="x")) == {"action": "before"}
    assert read_frames(path, features=["x", "action"]).actions is None
    assert read_frames(path, exclude="action").actions is None


def test_a_known_layout_says_which_features_are_inputs(path: Path) -> None:
    table = pa.table({"own_x": [1.0, 2.0], "prev_btn_a": [0.0, 1.0], "prev_main_x": [0.5, 0.25]})
    metadata = {"layout": "melee287-v1", "groups": '[["own", 0, 1], ["prev_action", 1, 3]]'}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(ValueError, match="has no twin"):
        read_frames(path)
    table = table.append_column("opp_x", pa.array([3.0, 4.0]))
    metadata["groups"] = '[["own", 0, 1], ["prev_action", 1, 3], ["opp", 3, 4]]'
    pq.write_table(table.replace_schema_metadata(metadata), path)
    frames = read_frames(path)
    assert recorded(frames) == {"prev_btn_a": "after", "prev_main_x": "after"}
    assert frames.schema.names == ("own_x", "prev_btn_a", "prev_main_x", "opp_x")
    assert recorded(read_frames(path, exclude="prev_btn_a")) == {"prev_main_x": "after"}
    assert recorded(read_frames(path, actions="own_x")) == {"own_x": "before"}
    sides, mirror = frames.symmetries
    # What the other side pressed is not in the data.
    assert sides.of_actions(frames.action_names, frames.schema)[1].isnan().all()
    source, sign = mirror.of_actions(frames.action_names, frames.schema)
    assert (source.tolist(), sign.tolist()) == ([0, 1], [1, -1])
