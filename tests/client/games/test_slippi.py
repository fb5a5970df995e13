"""Replay files: those that this makes event by event, and the game's own where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("peppi_py", reason="needs the extra: jepa-client[slippi]")

from jepa_client.games.melee import replay_rows
from jepa_client.games.replay import ReplayError
from jepa_client.games.slippi import read_replay
from tests.support.replays import Frame, Item, Moment, duel, event, game, slp, start

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "data" / "slp"


@pytest.fixture
def read(tmp_path):
    def write_and_read(content):
        (tmp_path / "game.slp").write_bytes(content)
        return read_replay(tmp_path / "game.slp")

    return write_and_read


def test_what_was_written_is_read(read):
    told = {"character": 22, "action": 88, "x": -1.5, "y": 2.25, "facing": -1.0, "percent": 41.5, "shield": 12.5}
    told |= {"stock": 3, "misc": 7.0, "jumps": 1, "hurtbox": 2, "hitlag": 4.0}
    hands = {"sticks": (0.5, -0.5, 0.25, -1.0), "buttons": 0x0210, "trigger": 0.75}
    other = Frame(-123, 3, age=6.5, flags=b"\1\2\3\4\5", airborne=True, speeds=(1, 2, 3, 4, 5), **told, **hands)
    replay = read(game([Moment([Frame(-123), other], [Item(54, 3, 1, 2, 3, 4)])], stage=8))
    assert (replay.version, replay.stage, [*replay.frame]) == ((3, 14, 0), 8, [-123])
    assert [player.port for player in replay.players] == [1, 4]
    after, before = replay.players[1].after[0], replay.players[1].before[0]
    assert {name: after[name] for name in told} == told
    assert (after["action_frame"], after["airborne"]) == (6.5, 1)
    assert [after[f"flags_{i}"] for i in (1, 2, 3, 4)] == [2, 3, 4, 5]
    speeds = [after[f"speed_{name}"] for name in ("air_x", "y", "kb_x", "kb_y", "ground_x")]
    assert speeds == [1, 2, 3, 4, 5]
    assert [before[name] for name in ("main_x", "main_y", "c_x", "c_y")] == [0.5, -0.5, 0.25, -1.0]
    assert (before["buttons"], before["trigger_l"]) == (0x0210, 0.75)
    (item,) = replay.items[0]
    assert [item[name] for name in ("type", "owner", "x", "y", "vx", "vy")] == [54, 3, 1, 2, 3, 4]


def test_of_a_frame_that_was_rolled_back_the_last_time_counts(read):
    moments = duel(4, first=0)
    again = [Moment([Frame(n, port, percent=9.0) for port in (0, 1)], [Item(55)] * (n - 1)) for n in (1, 2)]
    moments[1].items = moments[2].items = [Item(54)] * 3
    replay = read(game([*moments[:3], *again, moments[3]]))
    assert [*replay.frame] == [0, 1, 2, 3]
    assert [*replay.players[0].after["percent"]] == [0, 9, 9, 0]
    assert [[*items["type"]] for items in replay.items] == [[], [], [55], []]


def test_the_second_climber_is_there_while_it_lives(read):
    moments = [Moment([Frame(n, character=10), Frame(n, 1)]) for n in range(3)]
    moments[1].fighters.insert(1, Frame(1, follower=True, character=11, x=5.0))
    popo, other = read(game(moments)).players
    assert [*popo.followed] == [False, True, False]
    assert popo.follower["x"][1] == 5
    assert popo.after["character"][1] == 10
    assert not other.followed.any()


def test_what_an_older_recorder_left_out_is_zero(read):
    moments = [Moment([Frame(0, percent=8.0, hitlag=5.0)])]
    (told,) = read(game(moments, version=(3, 8, 0))).players[0].after
    (older,) = read(game(moments, version=(3, 7, 0))).players[0].after
    assert (told["percent"], told["hitlag"], older["percent"], older["hitlag"]) == (8, 5, 8, 0)


def test_a_game_without_metadata_is_read(read):
    assert [*read(game(duel(2, first=0)).replace(b"U\x08metadata{}", b"")).frame] == [0, 1]


def test_a_game_that_was_stopped_is_read_to_its_last_whole_frame(read):
    moments = duel(5, first=0)
    whole, last = game(moments), len(moments[-1].events())
    end = whole.index(b"U\x08metadata") - 7  # the game's end is an event of 7 bytes
    stopped = {0: 5, 1: 4, last - 1: 4, last: 4, last + 1: 3}
    for cut, frames in stopped.items():
        for content, said in (
            (whole[: end - cut], f"it is cut off: {cut + 7} of its {end + 7 - 15} bytes of events are missing"),
            (whole[:11] + bytes(4) + whole[15 : end - cut], "nobody closed it: the game or the recorder was stopped"),
        ):
            replay = read(content)
            assert [*replay.frame] == [*range(frames)]
            assert replay.unfinished == said
            assert len(replay.items) == len(replay.players[1].after) == frames


def test_a_game_whose_length_nobody_wrote_is_read_to_its_end(read):
    whole = game(duel(3, first=0))
    for content in (whole, whole[: whole.index(b"U\x08metadata")]):
        assert [*read(content[:11] + bytes(4) + content[15:]).frame] == [0, 1, 2]


def test_metadata_that_is_cut_off_costs_no_frame(read):
    told = b"U\x08metadata{U\x07playersU\x01{U\x010{U\x05namesSU\x05first}}}}"
    whole = game(duel(3, first=0)).replace(b"U\x08metadata{}}", told)
    for end in range(len(whole) - len(told), len(whole) - 1):
        replay = read(whole[:end])
        assert ([*replay.frame], replay.unfinished) == ([0, 1, 2], "its metadata is cut off or damaged")


def test_what_was_to_be_computed_again_when_a_game_was_stopped_is_left_out(read):
    again = [Moment([Frame(1, port, percent=9.0) for port in (0, 1)])]
    events = [moment.events() for moment in (*duel(4, first=0), *again)]
    replay = read(slp(start(), *events, closed=False))
    assert [*replay.players[0].after["percent"]] == [0, 9]


def test_what_is_read_is_of_numpy_alone(read):
    replay = read(game(duel(3)))
    one = replay.players[0]
    for array in (replay.frame, one.before, one.after, one.follower, one.followed, replay.items[0]):
        assert type(array) is np.ndarray
        assert not array.dtype.hasobject


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is no Slippi replay"),
        (b"PAR1 and so on", "it is no Slippi replay"),
        (game(duel())[:500], "it was never finished, and ends before its first whole frame"),
        (slp(start(), duel(1)[0].events()[:-1], closed=False), "it was never finished, and ends before its first"),
        (
            slp(start(), duel(1)[0].events(), b"\x77", closed=False),
            "it is damaged: its byte 1114 is 0x77, where an event",
        ),
        (game(duel(), version=(3, 6, 1)), r"recorded by Slippi 3\.6\.1; replays are read since 3\.7\.0"),
        (slp(start(), b"\x77"), "peppi cannot read it: .* unknown event: 0x77"),
        (game([Moment([Frame(0)], [Item(54)])]).replace(b"\x3b\0\x2a", b"\x3e\0\x2a"), "unknown event: 0x3b"),
        (slp(), "peppi cannot read it: .* unknown event: 0x55"),
        (slp(start()), "no frame was played in it"),
        (game([Moment([Frame(n, n)]) for n in (0, 1)]), "there is no frame that holds all its players"),
        (slp(start(), Frame(0).after()), "its events do not fit together; peppi says: .*Option::unwrap"),
        (slp(start(), duel(1)[0].events()[:-9]), "its events do not fit together; peppi says: "),
        (game([Moment([Frame(0, 4)])]), "its events do not fit together; peppi says: index out of bounds"),
        (game([*duel(3, first=0), *duel(3, first=5)]), "frames are missing after frame 2"),
        (slp(start())[:-1] + b"U\0{" * 200_000, "its metadata goes on and on"),
        (b"{U\x03raw[$U#l\0\0\0\1\x35", "peppi cannot read it: .* failed to fill whole buffer"),
    ],
)
def test_a_broken_file_is_refused_with_what_is_wrong(read, content, message):
    with pytest.raises(ReplayError, match=message):
        read(content)


def test_a_name_that_peppi_cannot_take_is_refused(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.slp"))
    path.write_bytes(game(duel()))
    with pytest.raises(ReplayError, match=r"peppi cannot read it: .*surrogates not allowed"):
        read_replay(path)


def test_a_file_that_cannot_be_opened_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_replay(tmp_path / "game.slp")


def test_no_damage_is_answered_with_anything_but_the_reason(read):
    moments, rng = duel(6, first=-39), np.random.default_rng(0)
    moments[2].items = [Item(54, 0)]
    whole = game(moments)
    for i in range(400):
        broken = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.3 else whole)
        for at in rng.integers(0, len(broken) if i % 2 else min(70, len(broken)), 3):  # the head, half of the time
            broken[at] = rng.integers(256)
        try:
            rows, frame = replay_rows(read(bytes(broken)))
        except ReplayError:
            continue
        assert len(rows) == len(frame)
        assert np.abs(rows).max() <= 10


def test_event_codes_of_later_versions_are_passed_over(read):
    known = slp(start(), event(0x50, 7), duel(1, first=0)[0].events())
    assert [*read(known).frame] == [0]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs replays in {REAL}")
def test_replays_of_the_game_itself_are_whole():
    for path in REAL.glob("*.slp"):
        replay = read_replay(path)
        assert replay.frame[0] == -123
        assert len(replay.players) == 2
        for player in replay.players:
            assert {*player.after["stock"].tolist()} <= {0, 1, 2, 3, 4}
            assert np.isfinite(player.after["x"]).all()
