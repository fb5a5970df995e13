"""Replays as the game writes them (.slp): its events as NumPy arrays, one entry a frame.

    replay = read_replay(Path("game.slp"))
    replay.frame                      # int32 [n]: -123 is the first, from -39 on the players can act
    replay.players[0].after["x"]      # float32 [n]: where the fighter is at the end of each frame
    replay.items[100]                 # what flies or lies about in entry 100

The format is Slippi's, https://github.com/project-slippi/slippi-wiki/blob/master/SPEC.md; numbers are big-endian.
Rolled-back frames are in the file as often as they were computed; the last is what was played.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEAD = b"{U\x03raw[$U#l"
PAYLOADS, START, BEFORE, AFTER, END, ITEM = 0x35, 0x36, 0x37, 0x38, 0x39, 0x3B
OLDEST = (3, 5, 0)  # speeds are recorded since
PORTS = 4
STAGE = 0x13  # where in the start of a game

# name: offset in the event, type. What an older recorder left out reads as 0.
FIELDS: dict[int, dict[str, tuple[int, str]]] = {
    BEFORE: {
        "frame": (0x01, ">i4"), "port": (0x05, "u1"), "follower": (0x06, "u1"),
        "main_x": (0x19, ">f4"), "main_y": (0x1D, ">f4"), "c_x": (0x21, ">f4"), "c_y": (0x25, ">f4"),
        "buttons": (0x31, ">u2"), "trigger_l": (0x33, ">f4"),
    },
    AFTER: {
        "frame": (0x01, ">i4"), "port": (0x05, "u1"), "follower": (0x06, "u1"), "character": (0x07, "u1"),
        "action": (0x08, ">u2"), "x": (0x0A, ">f4"), "y": (0x0E, ">f4"), "facing": (0x12, ">f4"),
        "percent": (0x16, ">f4"), "shield": (0x1A, ">f4"), "stock": (0x21, "u1"), "action_frame": (0x22, ">f4"),
        "flags": (0x26, "(5,)u1"), "misc": (0x2B, ">f4"), "airborne": (0x2F, "u1"), "jumps": (0x32, "u1"),
        "hurtbox": (0x34, "u1"), "speed_air_x": (0x35, ">f4"), "speed_y": (0x39, ">f4"),
        "speed_kb_x": (0x3D, ">f4"), "speed_kb_y": (0x41, ">f4"), "speed_ground_x": (0x45, ">f4"),
        "hitlag": (0x49, ">f4"),
    },
    ITEM: {
        "frame": (0x01, ">i4"), "type": (0x05, ">u2"), "vx": (0x0C, ">f4"), "vy": (0x10, ">f4"),
        "x": (0x14, ">f4"), "y": (0x18, ">f4"), "spawn": (0x22, ">u4"), "owner": (0x2A, "i1"),
    },
}  # fmt: skip


class ReplayError(ValueError):
    """A file that is no replay, a broken one, or one of a kind that this does not read."""


@dataclass(frozen=True)
class Player:
    """One port's events: before each frame the controller, after it the fighter, and the second climber's."""

    port: int  # 1 to 4
    before: NDArray[Any]  # [n] of FIELDS[BEFORE]
    after: NDArray[Any]  # [n] of FIELDS[AFTER]
    follower: NDArray[Any]  # [n] of FIELDS[AFTER], zeros where there is none
    followed: NDArray[np.bool_]  # [n]


@dataclass(frozen=True)
class Replay:
    version: tuple[int, int, int]
    stage: int  # the game's external id
    frame: NDArray[np.int32]  # [n], one after another
    players: tuple[Player, ...]  # by port
    items: list[NDArray[Any]]  # [n] of [items] of FIELDS[ITEM], in the order of the file


def read_replay(path: Path) -> Replay:
    """A file's events; ReplayError where it is broken, OSError where it cannot be read."""
    stream = _raw(path.read_bytes())
    sizes = _sizes(stream)
    start, offsets = _walk(stream, sizes)
    version = (stream[start + 1], stream[start + 2], stream[start + 3])
    if version < OLDEST:
        raise ReplayError(
            f"it was recorded by Slippi {'.'.join(map(str, version))}; speeds are in replays since "
            f"{'.'.join(map(str, OLDEST))}"
        )
    before, after, items = (
        _table(stream, offsets[kind], sizes.get(kind, 0), FIELDS[kind]) for kind in (BEFORE, AFTER, ITEM)
    )
    ports = [port for port in range(PORTS) if ((after["port"] == port) & (after["follower"] == 0)).any()]
    if not ports:
        raise ReplayError("no frame was played in it")
    fighters = [(_of(before, port, 0), _of(after, port, 0)) for port in ports]
    shared = set.intersection(*({*table["frame"].tolist()} for pair in fighters for table in pair))
    if not shared:
        raise ReplayError("there is no frame that holds all its players")
    frame = np.array(sorted(shared), np.int32)
    if (np.diff(frame) != 1).any():
        raise ReplayError(f"frames are missing after frame {frame[int(np.argmax(np.diff(frame) != 1))]}")
    players = tuple(
        Player(port + 1, _at(one, frame)[0], _at(other, frame)[0], *_at(_of(after, port, 1), frame))
        for port, (one, other) in zip(ports, fighters, strict=True)
    )
    return Replay(
        version,
        int.from_bytes(stream[start + STAGE : start + STAGE + 2], "big"),
        frame,
        players,
        _by_frame(items, players[0].before),
    )


def _raw(content: bytes) -> bytes:
    """The stream of events in a file's UBJSON."""
    if not content.startswith(HEAD):
        raise ReplayError("it is no Slippi replay: it does not begin as one")
    first = len(HEAD) + 4
    length = int.from_bytes(content[len(HEAD) : first], "big")
    if len(content) < first + length:
        raise ReplayError(f"it is cut off: it should hold {length} bytes of events and has {len(content) - first}")
    return content[first : first + length] if length else content[first:]  # 0: the game was never closed


def _sizes(stream: bytes) -> dict[int, int]:
    """The bytes of each event, its code included, as the first event has them."""
    if len(stream) < 2 or stream[0] != PAYLOADS:
        raise ReplayError("its first event does not say how long events are")
    table = stream[2 : 1 + stream[1]]
    sizes = {table[i]: 1 + int.from_bytes(table[i + 1 : i + 3], "big") for i in range(0, len(table) - 2, 3)}
    if missing := {START, BEFORE, AFTER} - sizes.keys():
        raise ReplayError(f"its first event does not say how long events {', '.join(map(hex, sorted(missing)))} are")
    if sizes[START] < STAGE + 2:
        raise ReplayError(f"the start of its game has {sizes[START]} bytes, too few for a stage")
    return sizes | {PAYLOADS: 1 + stream[1]}


def _walk(stream: bytes, sizes: dict[int, int]) -> tuple[int, dict[int, list[int]]]:
    """Where the game's start is, and where each event of a kind in FIELDS is."""
    offsets: dict[int, list[int]] = {kind: [] for kind in FIELDS}
    at, start = 0, None
    while at < len(stream) and (kind := stream[at]) != END:
        if kind not in sizes:
            raise ReplayError(f"byte {at} of its events is {kind:#04x}, which none of them begins with")
        if at + sizes[kind] > len(stream):  # the last event of a game that was never closed
            break
        if kind == START:
            start = at
        elif kind in offsets:
            offsets[kind].append(at)
        at += sizes[kind]
    if start is None:
        raise ReplayError("no game starts in it")
    return start, offsets


def _table(stream: bytes, offsets: list[int], size: int, fields: dict[str, tuple[int, str]]) -> NDArray[Any]:
    """Events of one kind as records in the machine's byte order, with their place in the stream as `at`."""
    kinds = {name: np.dtype(kind) for name, (_, kind) in fields.items()}
    table = np.zeros(len(offsets), [("at", np.intp), *((name, kind.newbyteorder("=")) for name, kind in kinds.items())])
    table["at"] = offsets
    events = np.frombuffer(stream, np.uint8)[table["at"][:, None] + np.arange(size)]  # [events, bytes]
    for name, (offset, _) in fields.items():
        stop = offset + kinds[name].itemsize
        if stop <= size:
            table[name] = np.ascontiguousarray(events[:, offset:stop]).view(kinds[name].base).reshape(table[name].shape)
    return table


def _of(table: NDArray[Any], port: int, follower: int) -> NDArray[Any]:
    """One fighter's events, one a frame: the last."""
    own = table[(table["port"] == port) & (table["follower"] == follower)]
    _, last = np.unique(own["frame"][::-1], return_index=True)
    kept: NDArray[Any] = own[::-1][last]
    return kept


def _at(table: NDArray[Any], frame: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The events of these frames [n], zeros where there is none, and where there is one."""
    found = np.zeros(len(frame), table.dtype)
    kept = table[np.isin(table["frame"], frame)]
    found[kept["frame"] - frame[0]] = kept
    return found, np.isin(frame, kept["frame"])


def _by_frame(items: NDArray[Any], controller: NDArray[Any]) -> list[NDArray[Any]]:
    """The items of each frame in the order of the file. They come behind the controllers: those before the
    controller's last event are of an earlier time that the frame was computed."""
    place = items["frame"] - controller["frame"][0]
    inside = (place >= 0) & (place < len(controller))
    items, place = items[inside], place[inside]
    last = items["at"] > controller["at"][place]
    items, place = items[last], place[last]
    order = np.argsort(place, kind="stable")
    return np.split(items[order], np.searchsorted(place[order], np.arange(1, len(controller))))
