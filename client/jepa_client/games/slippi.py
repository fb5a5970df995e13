"""Replays as the game writes them (.slp), read by peppi (https://github.com/hohav/peppi) into NumPy arrays.

    replay = read_replay(Path("game.slp"))
    replay.frame                      # int32 [n]: the first is -123, and players can act from -39 on
    replay.players[0].after["x"]      # float32 [n]: where the fighter is at the end of each frame
    replay.items[100]                 # the items on the stage in entry 100

A frame that was rolled back is in the file once for each time it was computed, and the last one is what was played.
A file that nobody closed, of a game that was stopped, is read to its last whole frame, and `replay.unfinished` says so.
Needs the extra `slippi`.
"""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The function behind peppi_py.read_slippi, which leaves out the items.
from peppi_py._peppi import read_slippi

from jepa_client.games.replay import Player, Replay, ReplayError

HEAD, METADATA, START = b"{U\x03raw[$U#l", b"U\x08metadata{", b"\x36"
# Where the events begin: after the head and the length of all of them.
EVENTS = len(HEAD) + 4
GAME_END, FRAME_END = 0x39, 0x3C
# Older versions record no speeds, or frames that peppi cannot read.
MIN_VERSION = (3, 7, 0)
# Maps in the metadata; a game has five or six.
MAX_MAPS = 100

# Our name: peppi's name. Fields that an older recorder did not write are read as 0.
BEFORE = {
    "main_x": "joystick.x", "main_y": "joystick.y", "c_x": "cstick.x", "c_y": "cstick.y",
    "buttons": "buttons_physical", "trigger_l": "triggers_physical.l",
}  # fmt: skip
AFTER = {
    "character": "character", "action": "state", "x": "position.x", "y": "position.y", "facing": "direction",
    "percent": "percent", "shield": "shield", "stock": "stocks", "action_frame": "state_age",
    "flags_1": "state_flags.1", "flags_2": "state_flags.2", "flags_3": "state_flags.3", "flags_4": "state_flags.4",
    "misc": "misc_as", "airborne": "airborne", "jumps": "jumps", "hurtbox": "hurtbox_state",
    "speed_air_x": "velocities.self_x_air", "speed_y": "velocities.self_y", "speed_kb_x": "velocities.knockback_x",
    "speed_kb_y": "velocities.knockback_y", "speed_ground_x": "velocities.self_x_ground", "hitlag": "hitlag",
}  # fmt: skip
ITEM = {
    "type": "type", "x": "position.x", "y": "position.y", "vx": "velocity.x", "vy": "velocity.y", "owner": "owner",
}  # fmt: skip


def read_replay(path: Path) -> Replay:
    """The game in a file, up to the last whole frame where nobody closed it (`unfinished` says so); ReplayError if it
    is damaged, OSError if it cannot be read."""
    game, unfinished = _parse(path)
    number, ports = game.frames.field("id").to_numpy(), game.frames.field("ports")
    if len(number) == 0:
        raise ReplayError("no frame was played in it")
    fighters = {int(port.name[1:]): ports.field(port.name) for port in ports.type}
    frame, from_behind = np.unique(number[::-1], return_index=True)
    # [n]: the entry of the last time that each frame was computed.
    last = len(number) - 1 - from_behind
    whole = np.all([_there(fighter.field("leader"))[last] for fighter in fighters.values()], axis=0)
    if unfinished:
        # The recording ended after a rollback, and these frames were not computed again.
        whole &= frame <= number[-1]
    frame, last = frame[whole], last[whole]
    if len(frame) == 0:
        raise ReplayError("there is no frame that holds all its players")
    if (np.diff(frame) != 1).any():
        raise ReplayError(f"frames are missing after frame {frame[int(np.argmax(np.diff(frame) != 1))]}")
    return Replay(
        tuple(game.start["slippi"]["version"]),
        game.start["stage"],
        frame,
        tuple(_player(port, fighter, last) for port, fighter in sorted(fighters.items())),
        _items(game.frames.field("item"), last),
        unfinished,
    )


def _parse(path: Path) -> tuple[Any, str]:
    """peppi's game, with its frames in an Arrow StructArray, and why it may not be whole."""
    content = path.read_bytes()
    length = _check(content)
    missing = EVENTS + length - len(content)
    if length == 0 or missing > 0:
        closed = _closed(content)
        if length == 0:
            return closed, "nobody closed it: the game or the recorder was stopped"
        return closed, f"it is cut off: {missing} of its {length} bytes of events are missing"
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ReplayError(f"peppi cannot read it: {error}; give it another name") from None
    try:
        return _peppi(path), ""
    except ReplayError as error:
        # Where the metadata behind the events is to blame, the game is whole; else this error is the one to tell.
        with suppress(ReplayError):
            if isinstance(error.__cause__, OSError) and _last_event(content) == EVENTS + length:
                return _closed(content), "its metadata is cut off or damaged"
        raise


def _peppi(path: Path) -> Any:
    try:
        return read_slippi(str(path))
    except OSError as error:
        raise ReplayError(f"peppi cannot read it: {error}") from error
    except BaseException as error:
        # The exception for a Rust panic cannot be imported and does not derive from Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise ReplayError(f"its events do not fit together; peppi says: {' '.join(str(error).split())}") from None


def _closed(content: bytes) -> Any:
    """peppi's game of a file that nobody closed, up to its last whole frame."""
    end = _last_event(content)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "closed.slp"
        path.write_bytes(HEAD + (end - EVENTS).to_bytes(4, "big") + content[EVENTS:end] + b"}")
        return _peppi(path)


def _last_event(content: bytes) -> int:
    """Where the game's end or its last whole frame ends in a file; ReplayError if there is none, or after damage."""
    # The first event tells the length of every kind of event: three bytes each.
    at = EVENTS + 1 + int.from_bytes(content[EVENTS + 1 : EVENTS + 2])
    kinds = range(EVENTS + 2, min(at, len(content) - 2), 3)
    lengths = {content[i]: 1 + int.from_bytes(content[i + 1 : i + 3], "big") for i in kinds}
    end = 0
    while at < len(content) and content[at] in lengths:
        kind = content[at]
        at += lengths[kind]
        if at <= len(content) and kind in (FRAME_END, GAME_END):
            end = at
        if kind == GAME_END:
            break
    else:
        if at < len(content) and content[at : at + 1] not in (METADATA[:1], b"}"):
            raise ReplayError(f"it is damaged: its byte {at} is {content[at]:#04x}, where an event should begin")
    if end == 0:
        raise ReplayError("it was never finished, and ends before its first whole frame")
    return end


def _check(content: bytes) -> int:
    """The length of the events, which is 0 in a file that nobody closed; rejects, with a clear message, files that
    peppi would reject or crash on."""
    if not content.startswith(HEAD) or len(content) < EVENTS:
        raise ReplayError("it is no Slippi replay: it does not begin as one")
    start = EVENTS + 1 + int.from_bytes(content[EVENTS + 1 : EVENTS + 2])
    version = tuple(content[start + 1 : start + 4])
    if content[start : start + 1] == START and version < MIN_VERSION:
        raise ReplayError(
            f"it was recorded by Slippi {'.'.join(map(str, version))}; replays are read since "
            f"{'.'.join(map(str, MIN_VERSION))}"
        )
    # A few thousand nested maps would overflow the stack.
    if content.count(b"{", content.find(METADATA)) > MAX_MAPS:
        raise ReplayError("its metadata goes on and on")
    return int.from_bytes(content[len(HEAD) : EVENTS], "big")


def _player(port: int, fighter: Any, entries: NDArray[np.intp]) -> Player:
    after = _table(fighter.field("leader").field("post"), AFTER)[entries]
    follower, followed = np.zeros_like(after), np.zeros(len(entries), bool)
    if fighter.type.get_field_index("follower") >= 0:
        other = fighter.field("follower")
        follower, followed = _table(other.field("post"), AFTER)[entries], _there(other)[entries]
    return Player(port, _table(fighter.field("leader").field("pre"), BEFORE)[entries], after, follower, followed)


def _items(lists: Any, entries: NDArray[np.intp]) -> list[NDArray[Any]]:
    items, offsets = _table(lists.values, ITEM), lists.offsets.to_numpy()
    return [items[offsets[i] : offsets[i + 1]] for i in entries]


def _there(events: Any) -> NDArray[np.bool_]:
    there: NDArray[np.bool_] = events.is_valid().to_numpy(zero_copy_only=False)
    return there


def _table(events: Any, places: dict[str, str]) -> NDArray[Any]:
    """A StructArray's columns as records [n], zeros where there is no event."""
    columns = {name: _column(events, place) for name, place in places.items()}
    table = np.zeros(len(events), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    return table


def _column(events: Any, place: str) -> NDArray[Any]:
    column = events
    for part in place.split("."):
        if column.type.get_field_index(part) < 0:
            return np.zeros(len(events), np.float32)
        column = column.field(part)
    filled: NDArray[Any] = (column.fill_null(0) if column.null_count else column).to_numpy()
    return filled
