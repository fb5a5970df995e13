"""Replay files as the game would write them, event by event, from the format's own table of fields."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

import pytest

FORMATS = {
    # version, stage; six players of 36 bytes; names, the match and so on
    0x36: ">B4s14xH80x216s444x",
    # frame, port, follower; seed, action, x, y, facing; sticks, trigger, processed, buttons, L, R; raw x, percent
    0x37: ">BiBBIHffffffffIHffbf",
    # frame, port, follower, character, action, x, y, facing, percent, shield; attack, combo, hit by, stock, age; five
    # bytes of flags, misc, airborne, ground, jumps, l-cancel, hurtbox; speeds, hitlag, animation
    0x38: ">BiBBBHfffffBBBBf5sfBHBBBffffffI",
    # frame, type, state, facing, velocity, place, damage, timer, spawn, misc, owner
    0x3B: ">BiHBfffffHfI4sb",
    0x3A: ">BiII",  # frame, seed, counter
    0x3C: ">Bii",  # frame, the last one that is final
    0x39: ">Bbb4s",  # how it ended
    0x50: ">BI",  # of a version to come
}
NOBODY = 3  # plays at a port


def event(kind: int, *values: object) -> bytes:
    return struct.pack(FORMATS[kind], kind, *values)


def start(
    stage: int = 32, version: tuple[int, int, int] = (3, 14, 0), players: Mapping[int, int] = {0: 2, 1: 2}
) -> bytes:
    """`players` is port → external character; 14 are the climbers."""
    slots = b"".join(struct.pack("BB34x", players.get(port, 0), 0 if port in players else NOBODY) for port in range(6))
    return event(0x36, bytes([*version, 0]), stage, slots)


@dataclass
class Frame:
    """What one fighter does in one frame; a follower is the second climber."""

    number: int
    port: int = 0
    follower: bool = False
    character: int = 1
    action: int = 14
    x: float = 0.0
    y: float = 0.0
    facing: float = 1.0
    percent: float = 0.0
    shield: float = 60.0
    stock: int = 4
    age: float = 0.0
    flags: bytes = bytes(5)
    misc: float = 0.0
    airborne: bool = False
    jumps: int = 2
    hurtbox: int = 0
    speeds: tuple[float, float, float, float, float] = (0, 0, 0, 0, 0)  # air x, y, knockback x and y, ground x
    hitlag: float = 0.0
    buttons: int = 0
    sticks: tuple[float, float, float, float] = (0, 0, 0, 0)
    trigger: float = 0.0

    def before(self) -> bytes:
        state = 0, self.action, self.x, self.y, self.facing
        hands = *self.sticks, 0, self.buttons, self.buttons, self.trigger, 0, 0, self.percent
        return event(0x37, self.number, self.port, self.follower, *state, *hands)

    def after(self) -> bytes:
        who = self.number, self.port, self.follower, self.character, self.action
        where = self.x, self.y, self.facing, self.percent, self.shield, 0, 0, 0, self.stock, self.age
        what = self.flags, self.misc, self.airborne, 0, self.jumps, 0, self.hurtbox
        return event(0x38, *who, *where, *what, *self.speeds, self.hitlag, 0)


@dataclass
class Item:
    type: int
    owner: int = -1
    x: float = 0.0
    y: float = 0.0
    vx: float = 0.0
    vy: float = 0.0

    def update(self, number: int) -> bytes:
        return event(0x3B, number, self.type, 0, 1, self.vx, self.vy, self.x, self.y, 0, 0, 0, bytes(4), self.owner)


@dataclass
class Moment:
    """A frame of all fighters, as it was once computed."""

    fighters: list[Frame]
    items: list[Item] = field(default_factory=list)

    def events(self) -> bytes:
        number = self.fighters[0].number
        items = [item.update(number) for item in self.items]
        before, after = [each.before() for each in self.fighters], [each.after() for each in self.fighters]
        return b"".join([event(0x3A, number, 0, 0), *before, *items, *after, event(0x3C, number, number)])


def duel(length: int = 30, first: int = -42) -> list[Moment]:
    """Two Foxes that stand there."""
    return [
        Moment([Frame(n, port, x=30.0 * (2 * port - 1), facing=1 - 2 * port) for port in (0, 1)])
        for n in range(first, first + length)
    ]


def slp(*events: bytes, closed: bool = True) -> bytes:
    """A file of these events; of a game that was never closed, if not `closed`. Skips where nothing can read it."""
    pytest.importorskip("peppi_py", reason="needs the extra: jepa-client[slippi]")
    sizes = chain.from_iterable(struct.pack(">BH", kind, struct.calcsize(form) - 1) for kind, form in FORMATS.items())
    table = bytes(sizes)
    stream = b"".join([bytes([0x35, 1 + len(table)]), table, *events])
    length = struct.pack(">I", len(stream) if closed else 0)
    return b"{U\x03raw[$U#l" + length + stream + (b"U\x08metadata{}}" if closed else b"")


def game(moments: list[Moment], stage: int = 32, version: tuple[int, int, int] = (3, 14, 0)) -> bytes:
    fighters = [fighter for moment in moments for fighter in moment.fighters]
    climbers = {fighter.port for fighter in fighters if fighter.follower}
    players = {fighter.port: 14 if fighter.port in climbers else 2 for fighter in fighters}
    events = [moment.events() for moment in moments]
    return slp(start(stage, version, players), *events, event(0x39, 2, -1, bytes([0, 1, 255, 255])))
