"""Replay files: those that this makes event by event, and the game's own where they are."""

from pathlib import Path

import numpy as np
import pytest

from jepa_client.games.melee import replay_rows
from jepa_client.games.slippi import ReplayError, read_replay
from tests.support.replays import Frame, Item, Moment, duel, event, game, slp, start

REAL = Path("/work/shared/data/slp")


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
    assert (after["action_frame"], after["airborne"], [*after["flags"]]) == (6.5, 1, [1, 2, 3, 4, 5])
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


def test_a_game_that_was_never_closed_is_read_up_to_its_last_whole_frame(read):
    events = [start(), *(moment.events() for moment in duel(3, first=0))]
    replay = read(slp(*events, closed=False)[:-40])
    assert [*replay.frame] == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1 and so on", "it is no Slippi replay"),
        (game(duel())[:500], r"it is cut off: it should hold \d+ bytes of events and has 485"),
        (slp(start(version=(2, 0, 1))), r"recorded by Slippi 2\.0\.1; speeds are in replays since 3\.5\.0"),
        (slp(start(), b"\x77"), r"byte \d+ of its events is 0x77"),
        (game([Moment([Frame(0)], [Item(54)])]).replace(b"\x3b\0\x2a", b"\x3e\0\x2a"), "of its events is 0x3b"),
        (slp(), "no game starts in it"),
        (slp(start()), "no frame was played in it"),
        (
            slp(start(), *(each for n in (0, 1) for each in (Frame(n, n).before(), Frame(n, n).after()))),
            "all its players",
        ),
        (slp(start(), Frame(0).after()), "all its players"),
        (game([*duel(3, first=0), *duel(3, first=5)]), "frames are missing after frame 2"),
        (b"{U\x03raw[$U#l\0\0\0\x0b\x35\x0a\x36\0\1\x37\0\1\x38\0\1", "the start of its game has 2 bytes"),
        (b"{U\x03raw[$U#l\0\0\0\0", "first event does not say how long"),
        (b"{U\x03raw[$U#l\0\0\0\5\x35\4\x36\0\1", "how long events 0x37, 0x38 are"),
    ],
)
def test_a_broken_file_is_refused_with_what_is_wrong(read, content, message):
    with pytest.raises(ReplayError, match=message):
        read(content)


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
    known = slp(start(), event(0x3C, 0, 0), duel(1, first=0)[0].events())
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
