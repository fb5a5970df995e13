"""The columns of replays and of live states: against the training data where it is, and on games made by hand."""

import re
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

pytest.importorskip("peppi_py", reason="needs the extra: jepa-client[slippi]")

from bundle.folders import locate
from bundle.manifest import read_manifest
from jepa_client.games.melee import BUTTONS, FAST_FALL, HITSTUN, SCREEN, SHIELDING, STAGES, LiveRows, replay_rows
from jepa_client.games.melee_layout import ACTIONS, COLUMNS, GROUPS
from jepa_client.games.replay import ReplayError
from jepa_client.games.slippi import read_replay
from tests.support.replays import Frame, Item, Moment, duel, game

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "data" / "slp"
TRAINING = ROOT.parent / "shared" / "data" / "melee287_train.parquet"
needs_training_data = pytest.mark.skipif(not TRAINING.is_file(), reason=f"needs {TRAINING}")
LIVE_STAGES = {2: "FOUNTAIN_OF_DREAMS", 3: "POKEMON_STADIUM", 32: "FINAL_DESTINATION"}
# As libmelee's. mypy takes members from a literal alone.
Button = Enum("Button", {f"BUTTON_{name[4:].upper()}": number for number, name in enumerate(BUTTONS, 1)})  # type: ignore[misc]


@pytest.fixture
def replay(tmp_path):
    def write_and_read(moments, stage=32):
        (tmp_path / "game.slp").write_bytes(game(moments, stage))
        return read_replay(tmp_path / "game.slp")

    return write_and_read


def named(row):
    return dict(zip(COLUMNS, row.tolist(), strict=True))


def in_last_frame(replay, **own):
    """The columns of a game's last frame, in which the first player is like this."""
    moments = duel(2, first=-39)
    moments[-1].fighters[0] = Frame(-38, **own)
    return named(replay_rows(replay(moments))[0][-1])


def states(replay):
    """What libmelee would tell of a replay, frame by frame."""

    def fighter(after):
        place = SimpleNamespace(x=after["x"], y=after["y"])
        return SimpleNamespace(
            character=SimpleNamespace(value=after["character"]), action=SimpleNamespace(value=after["action"]),
            percent=after["percent"], facing=after["facing"] > 0, position=place, invulnerable=after["hurtbox"] != 0,
            jumps_left=after["jumps"], shield_strength=after["shield"], on_ground=not after["airborne"],
            speed_air_x_self=after["speed_air_x"], speed_ground_x_self=after["speed_ground_x"],
            speed_y_self=after["speed_y"], speed_x_attack=after["speed_kb_x"], speed_y_attack=after["speed_kb_y"],
            hitstun_frames_left=int(after["misc"]), action_frame=int(after["action_frame"]), stock=after["stock"],
            hitlag_left=int(after["hitlag"]), nana=None,
        )  # fmt: skip

    for i, number in enumerate(replay.frame):
        players = {}
        for player in replay.players:
            players[player.port] = one = fighter(player.after[i])
            one.nana = fighter(player.follower[i]) if player.followed[i] else None
            before = player.before[i]
            one.controller_state = SimpleNamespace(
                button={Button[f"BUTTON_{n[4:].upper()}"]: bool(before["buttons"] & bit) for n, bit in BUTTONS.items()},
                main_stick=((before["main_x"] + 1) / 2, (before["main_y"] + 1) / 2),
                c_stick=((before["c_x"] + 1) / 2, (before["c_y"] + 1) / 2),
                l_shoulder=before["trigger_l"],
            )
        projectiles = [
            SimpleNamespace(
                type=SimpleNamespace(value=each["type"]), owner=each["owner"] + 1,
                position=SimpleNamespace(x=each["x"], y=each["y"]), speed=SimpleNamespace(x=each["vx"], y=each["vy"]),
            )
            for each in replay.items[i]
        ]  # fmt: skip
        stage = SimpleNamespace(name=LIVE_STAGES.get(replay.stage, "NO_STAGE"))
        yield SimpleNamespace(frame=number, stage=stage, players=players, projectiles=projectiles)


def episode(number):
    """One game of the training data, of which no more is read than comes before its end."""
    of_game = []
    for batch in pq.ParquetFile(TRAINING).iter_batches(8192, columns=["episode", "frame", *COLUMNS]):
        table = pa.Table.from_batches([batch])
        of_game.append(table.filter(pc.field("episode") == number))
        if table["episode"][-1].as_py() > number:
            return pa.concat_tables(of_game)
    raise AssertionError(f"there is no game behind {number}")


def test_columns_and_groups_are_those_of_the_bundled_model():
    schema = read_manifest(locate("default")).feature_schema
    assert tuple(COLUMNS) == schema.names
    assert {group.name: slice(group.start, group.stop) for group in schema.groups} == GROUPS


@needs_training_data
@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs replays in {REAL}")
def test_a_replay_that_was_trained_on_has_the_columns_of_the_training_data():
    (path,) = REAL.glob("fox_gnw_*.slp")
    rows, frame = replay_rows(read_replay(path))
    trained = episode(11)
    np.testing.assert_array_equal(frame, trained["frame"].to_numpy())
    for i, name in enumerate(COLUMNS):  # stored as float16
        np.testing.assert_array_equal(rows[:, i].astype(np.float16), trained[name].to_numpy().astype(np.float16), name)


def test_the_games_numbers_are_scaled(replay):
    speeds = {"speeds": (0.8, -1.2, 2.0, 30.0, -0.6), "hitlag": 5.0}
    flags = bytes([0, 0x08, 0x80, 0x02, 0x80])
    row = in_last_frame(
        replay, x=-50.0, y=10.0, percent=42.0, facing=-1.0, action=88, age=29.6, stock=3, jumps=1, misc=24.0,
        flags=flags, airborne=True, shield=30.0, hurtbox=1, character=18, **speeds,
    )  # fmt: skip
    told = {
        "own_percent": 0.42, "own_facing": -1, "own_x": -2.5, "own_y": 0.5, "own_invulnerable": 1,
        "own_jumps_left": 1 / 6, "own_shield": 0.3, "own_on_ground": 0, "own_speed_air_x": 0.4, "own_speed_y": -0.6,
        "own_speed_kb_x": 1, "own_speed_kb_y": 10, "own_speed_ground_x": -0.3, "own_hitstun_left": 0.2,
        "own_action_frame": 0.5, "own_stock": 0.75, "own_ledge_dist": 35 / 85, "own_hitlag": 0.25,
        "own_in_hitstun": 1, "own_fastfall": 1, "own_shielding": 1, "own_offscreen": 1, "own_act_damage": 1,
        "own_char_marth": 1, "own_action_id": 88 / 399, "own_char_id": 18 / 33, "stage_fd": 1, "dx": 0.4, "dy": -0.1,
        "distance": np.hypot(80, 10) / 200, "time": 0, "opp_x": 1.5, "opp_char_fox": 1, "opp_act_idle": 1,
    }  # fmt: skip
    assert {name: row[name] for name in told} == pytest.approx(told)


def test_what_is_no_hitstun_is_not_counted(replay):
    assert in_last_frame(replay, misc=24.0)["own_hitstun_left"] == 0
    assert in_last_frame(replay, misc=float("nan"))["own_hitstun_left"] == 0


def test_a_place_that_the_game_lost_is_still_a_number(replay):
    row = in_last_frame(replay, x=float("nan"), y=float("inf"))
    assert np.isfinite([*row.values()]).all()


@pytest.mark.parametrize(("stage", "name"), [*STAGES.items(), (12, "other")])
def test_each_stage_has_its_column(replay, stage, name):
    rows, _ = replay_rows(replay(duel(5), stage))
    assert (rows[:, GROUPS["stage"]].sum(1) == 1).all()
    assert (rows[:, COLUMNS.index(f"stage_{name}")] == 1).all()


def test_each_action_state_is_of_one_class():
    states = [state for ranges in ACTIONS.values() for first, last in ranges for state in range(first, last + 1)]
    assert sorted(states) == [*range(400)]


def test_rows_begin_where_the_players_can_act(replay):
    rows, frame = replay_rows(replay(duel(100, first=-123)))
    assert frame[0] == -39
    assert len(rows) == len(frame) == 16


def test_hands_are_those_of_the_frame_before(replay):
    moments = duel(3, first=-39)
    moments[0].fighters[0] = Frame(-39, buttons=0x0408, sticks=(0.5, -1, 0.25, 0), trigger=0.75)
    moments[0].fighters[1] = Frame(-39, 1, buttons=0x0100)
    rows, _ = replay_rows(replay(moments))
    hands = rows[:, GROUPS["prev_action"]]
    np.testing.assert_array_equal(hands[[0, 2]], 0)
    np.testing.assert_array_equal(hands[1], [0, 0, 1, 0, 0, 0, 0, 1, 0.5, -1, 0.25, 0, 0.75])
    assert named(replay_rows(replay(moments), port=2)[0][1])["prev_btn_a"] == 1


def test_the_other_port_sees_the_same_game_from_the_other_side(replay):
    moments = duel(3, first=-39)
    moments[1].items = [Item(54, 0), Item(55, 1), Item(56)]
    ours, theirs = (replay_rows(replay(moments), port)[0] for port in (1, 2))
    for side, other in (("own", "opp"), ("opp", "own")):
        for group in ("base", "speed", "timing", "stock", "nana", "action", "char", "flags"):
            np.testing.assert_array_equal(ours[:, GROUPS[f"{side}_{group}"]], theirs[:, GROUPS[f"{other}_{group}"]])
    np.testing.assert_array_equal(ours[:, COLUMNS.index("dx")], -theirs[:, COLUMNS.index("dx")])
    assert [named(ours[1])[f"proj{i}_owner"] for i in range(3)] == [0.5, 1, 0]
    assert [named(theirs[1])[f"proj{i}_owner"] for i in range(3)] == [1, 0.5, 0]


def test_the_first_five_projectiles_have_columns(replay):
    moments = duel(1, first=-39)
    moments[0].items = [Item(100 + i, x=-20.0, y=40.0, vx=3.0, vy=-1.0) for i in range(7)]
    row = named(replay_rows(replay(moments))[0][0])
    for i in range(5):
        told = {"exists": 1, "owner": 0, "x": -1, "y": 2, "type": 1 + i / 100, "vx": 1.5, "vy": -0.5}
        assert {name: row[f"proj{i}_{name}"] for name in told} == pytest.approx(told)


def test_the_second_climber_has_columns_while_it_lives(replay):
    moments = [Moment([Frame(n, character=10), Frame(n, 1)]) for n in (-39, -38)]
    nana = {"character": 11, "x": 10.0, "y": 4.0, "facing": -1.0, "percent": 30.0, "stock": 2, "action": 100, "age": 12}
    moments[1].fighters.insert(1, Frame(-38, follower=True, airborne=True, **nana))
    alone, together = map(named, replay_rows(replay(moments))[0])
    assert not any(value for name, value in alone.items() if "nana" in name and name != "own_char_nana")
    told = {"exists": 1, "x": 0.5, "y": 0.2, "facing": -1, "on_ground": 0, "percent": 0.3, "stock": 0.5}
    told |= {"action_frame": 0.2, "cat12": 1, "attacking": 1, "can_act": 0, "synced": 0, "grabbing": 0}
    assert {name: together[f"own_nana_{name}"] for name in told} == pytest.approx(told)
    assert sum(together[f"own_nana_cat{i:02d}"] for i in range(25)) == 1


def test_only_games_of_two_become_rows(replay):
    with pytest.raises(ReplayError, match="it has 3 players; rows are of games of two"):
        replay_rows(replay([Moment([Frame(0, port) for port in range(3)])]))
    with pytest.raises(ReplayError, match="no one plays at port 3; its ports are 1 and 2"):
        replay_rows(replay(duel()), port=3)
    with pytest.raises(ReplayError, match="ends at frame -94, before the players can act"):
        replay_rows(replay(duel(30, first=-123)))


def test_a_live_state_has_the_columns_of_its_replay(replay):
    falling, shielding = bytes([0, 0x08, 0, 0, 0]), bytes([0, 0, 0x80, 0, 0])
    moments = [
        Moment([Frame(-39, buttons=0x0110, sticks=(1, -1, 0.5, 0), trigger=0.5), Frame(-39, 1, x=20.0)], [Item(54, 1)]),
        Moment([Frame(-38, action=88, misc=12, flags=bytes([0, 0, 0, 2, 0]), hitlag=3), Frame(-38, 1, action=341)]),
        Moment([Frame(-37, airborne=True, speeds=(0.5, -3.4, 0, 0, 0), flags=falling, y=9), Frame(-37, 1, misc=9)]),
        Moment([Frame(-36, action=179, flags=shielding, age=4), Frame(-36, 1, action=0, flags=b"\0\0\0\0\x80")]),
        Moment([
            Frame(-35, character=10), Frame(-35, follower=True, character=11, action=14, x=3), Frame(-35, 1, facing=-1)
        ]),
    ]  # fmt: skip
    for stage in (2, 3, 12):
        recorded = replay(moments, stage)
        for port in (1, 2):
            live = LiveRows(port)
            rows = [live.row(state) for state in states(recorded)]
            np.testing.assert_allclose(rows, replay_rows(recorded, port)[0], atol=1e-6)


def test_after_frames_that_were_left_out_nothing_is_known_of_the_hands(replay):
    moments = [Moment([Frame(n, buttons=0x0100), Frame(n, 1)]) for n in range(4)]
    live = LiveRows(1)
    pressed = [named(live.row(state))["prev_btn_a"] for state in states(replay(moments)) if state.frame != 2]
    assert pressed == [0, 1, 0]


def test_a_live_state_of_other_players_is_refused(replay):
    (state,) = states(replay(duel(1)))
    with pytest.raises(ValueError, match=r"players are at ports \[1, 2\]; .* one of them at 3"):
        LiveRows(3).row(state)


@needs_training_data
def test_what_is_concluded_of_a_live_state_is_what_games_record():
    names = ["x", "y", "speed_y", "on_ground", "action_id", "char_id", "fastfall", "in_hitstun", "shielding"]
    names = [*(f"own_{name}" for name in [*names, "offscreen"]), *(f"stage_{stage}" for stage in STAGES.values())]
    table = pq.read_table(TRAINING, columns=names)
    number = {name.removeprefix("own_"): table[name].to_numpy() for name in table.column_names}
    action, character = np.rint(number["action_id"] * 399), np.rint(number["char_id"] * 33).astype(int)
    falls = (number["on_ground"] == 0) & (np.abs(number["speed_y"] / 0.5 + FAST_FALL[character]) < 0.01)

    def f1(concluded, recorded):
        return 2 * (concluded & recorded).sum() / (concluded.sum() + recorded.sum())

    assert f1(falls, number["fastfall"] == 1) > 0.99
    assert f1(np.isin(action, [*HITSTUN]), number["in_hitstun"] == 1) > 0.98
    assert f1(np.isin(action, [*SHIELDING]), number["shielding"] == 1) > 0.99
    for stage, least in {"fod": 0.6, "ps": 0.6, "ys": 0.6, "dl": 0.6, "bf": 0.8, "fd": 0.8}.items():
        on, (side, top, bottom) = number[f"stage_{stage}"] == 1, SCREEN[stage]
        x, y = np.abs(number["x"] / 0.05), number["y"] / 0.05
        gone = np.isin(action, [0, 1, 2]) | (x > side) | (y > top) | (y < bottom)
        assert f1(gone[on], number["offscreen"][on] == 1) > least


@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs replays in {REAL}")
def test_libmelee_reads_a_replay_into_the_same_columns():
    melee = pytest.importorskip("melee", reason="needs libmelee: jepa-client[melee]")
    known = {"own_action_frame", "opp_action_frame", "own_offscreen", "opp_offscreen", "prev_shoulder"}
    same = [i for i, name in enumerate(COLUMNS) if name not in known]
    for path in REAL.glob("*.slp"):
        recorded = read_replay(path)
        want = dict(zip(*replay_rows(recorded)[::-1], strict=True))
        console, live = melee.Console(is_dolphin=False, path=str(path)), LiveRows(recorded.players[0].port)
        assert console.connect()
        seen = 0
        while (state := console.step()) is not None:
            row = live.row(state)
            if state.frame > -39:  # the first row of a replay has no frame before it
                np.testing.assert_allclose(row[same], want[int(state.frame)][same], atol=1e-5)
                seen += 1
        assert seen == len(want) - 1


def test_the_page_on_the_layout_lists_the_same_action_states():
    listed = {}
    for names, ranges in re.findall(
        r"^\| ((?:`\w+`(?:, )?)+) \| ([\d–,; ]+) \|$", (ROOT / "docs/melee.md").read_text(), re.M
    ):
        for name, states in zip(re.findall(r"\w+", names), ranges.split(";"), strict=True):
            pairs = [each.strip().split("–") for each in states.split(",")]
            listed[name] = [(int(pair[0]), int(pair[-1])) for pair in pairs]
    assert listed == ACTIONS
