"""Frames of the Universal Melee Interface, which the bots of the Computer Melee Championship speak (PyPI umi-melee), as
rows of the 287-column layout and as inputs.

    class MyBot(umi.Bot):
        def setup(self, session):
            self.rows, self.delays = UmiRows(), {}

        def act(self, batch):
            rows = self.rows.rows(batch.games, batch.first, batch.frames)       # float32 [N, 287]
            …
            return umi.Actions(ctrl=controller(chosen))                         # chosen: inputs [N, 13]

An input has the numbers in melee_layout.HANDS, as a model's `actions` and the columns prev_* have them: buttons as 0
and 1, then sticks from −1 to 1. UMI writes sticks from 0 to 1, and buttons behind them. umi-melee need not be
installed.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jepa_client.games.melee import FAST_FALL, GONE, HITSTUN, LIVE_STAGES, SCREEN, SHIELDING
from jepa_client.games.melee_layout import COLUMNS, FIRST_FRAME, HANDS, ITEM, PROJECTILES, Fighter, Numbers, Side, fill
from jepa_client.rows import Rows

# The layout of a frame in version 1 of the interface, 770 bytes, from the seat of the bot: `players[0]` is its own.
CONTROLLER = np.dtype([*((name, "<f4") for name in ("main_x", "main_y", "c_x", "c_y", "shoulder")), ("buttons", "u1")])
FIGHTER = np.dtype([
    *((name, "u1") for name in ("exists", "character", "stocks", "facing", "on_ground", "invulnerable")),
    ("hurtbox_state", "u1"), ("jumps_left", "u1"), ("action", "<u2"), ("action_frame", "<i2"), ("percent", "<u2"),
    ("hitlag_left", "<u2"), ("hitstun_left", "<u2"), ("x", "<f4"), ("y", "<f4"), ("shield_strength", "<f4"),
    ("speed_air_x_self", "<f4"), ("speed_ground_x_self", "<f4"), ("speed_y_self", "<f4"), ("speed_x_attack", "<f4"),
    ("speed_y_attack", "<f4"), ("controller", CONTROLLER),
])  # fmt: skip
THING = np.dtype([
    ("exists", "u1"), ("type", "<u2"), ("state", "u1"), ("owner", "i1"), ("x", "<f4"), ("y", "<f4"), ("vx", "<f4"),
    ("vy", "<f4"), ("spawn_id", "<u4"), ("timer", "<f4"), ("damage", "<u2"),
])  # fmt: skip
FRAME = np.dtype([
    ("frame", "<i4"), ("stage", "u1"), ("randall_x", "<f4"), ("randall_y", "<f4"), ("fod_left", "<f4"),
    ("fod_right", "<f4"), ("players", FIGHTER, (2,)), ("nana", FIGHTER, (2,)), ("items", THING, (15,)),
])  # fmt: skip
# libmelee's names by the internal ids of stages.
STAGES = {
    6: "YOSHIS_STORY", 8: "FOUNTAIN_OF_DREAMS", 18: "POKEMON_STADIUM", 24: "BATTLEFIELD", 25: "FINAL_DESTINATION",
    26: "DREAMLAND",
}  # fmt: skip
BUTTONS = 8
# Of no character that the table of speeds does not know it can be said that it falls fast.
FALLS = np.append(FAST_FALL, np.inf)

Frames = NDArray[Any]


def game_rows(frames: Frames | bytes) -> Rows:
    """Consecutive frames [n] of one game → rows [n, 287]; those before FIRST_FRAME, in which nobody can act, are left
    out. ValueError if frames are missing."""
    frames = _frames(frames)
    if (gaps := np.flatnonzero(np.diff(frames["frame"]) != 1)).size:
        raise ValueError(
            f"frames are missing after frame {frames['frame'][gaps[0]]}; send the frames of one game in order"
        )
    frames = frames[frames["frame"] >= FIRST_FRAME]
    before = np.concatenate([np.zeros((1, len(HANDS))), inputs(frames)[:-1]])[: len(frames)]
    return _rows(frames, before)


def inputs(frames: Frames | bytes) -> Rows:
    """Frames [n] → the bot's own inputs [n, 13] that led to each."""
    sent = _frames(frames)["players"][:, 0]["controller"]
    pressed = sent["buttons"][:, None] >> np.arange(BUTTONS) & 1
    sticks = [2 * sent[name] - 1 for name in ("main_x", "main_y", "c_x", "c_y")]
    return np.column_stack([pressed, *sticks, sent["shoulder"]]).astype(np.float32)


def as_inputs(ctrl: ArrayLike) -> Rows:
    """Controller rows as a UMI bot returns them, [13] or [N, 13] → inputs of the same shape."""
    rows = np.asarray(ctrl, np.float32)
    return np.concatenate(
        [rows[..., -BUTTONS:] > 0.5, 2 * rows[..., :4] - 1, rows[..., 4:5]], axis=-1, dtype=np.float32
    )


def controller(chosen: ArrayLike) -> Rows:
    """Inputs [13] or [N, 13] → controller rows of the same shape, which a UMI bot returns."""
    rows = np.asarray(chosen, np.float32)
    sticks = (rows[..., BUTTONS : BUTTONS + 4] + 1) / 2
    return np.concatenate([sticks, rows[..., -1:], rows[..., :BUTTONS]], axis=-1, dtype=np.float32)


class UmiRows:
    """Makes rows from one frame each of many games, and remembers the inputs of the frame before."""

    def __init__(self) -> None:
        # By game: the number of its last frame, and the input that led to it.
        self._before: dict[int, tuple[int, Rows]] = {}

    def rows(self, games: ArrayLike, first: ArrayLike, frames: Frames | bytes) -> Rows:
        """The fields of a batch, [N] each → rows [N, 287]; `first` says which games begin with their frame."""
        frames = _frames(frames)
        names, begins = np.asarray(games).tolist(), np.asarray(first).tolist()
        before = np.zeros((len(frames), len(HANDS)), np.float32)
        for i, (game, new, led) in enumerate(zip(names, begins, inputs(frames), strict=True)):
            number = int(frames["frame"][i])
            last, hands = self._before.get(game, (None, None))
            if not new and hands is not None and last == number - 1 and number > FIRST_FRAME:
                before[i] = hands
            self._before[game] = number, led
        return _rows(frames, before)

    def forget(self, game: int) -> None:
        """The game has ended."""
        self._before.pop(game, None)


def _frames(frames: Frames | bytes) -> Frames:
    if isinstance(frames, bytes):
        if len(frames) % FRAME.itemsize:
            raise ValueError(
                f"{len(frames)} bytes are no frames of {FRAME.itemsize}; send the field `frames` as it came"
            )
        return np.frombuffer(frames, FRAME)
    if frames.dtype != FRAME or frames.ndim != 1:
        raise ValueError(
            f"frames are {frames.ndim}-dimensional, of {frames.dtype.itemsize} bytes each; send [n] of {FRAME.itemsize}"
        )
    return frames


def _rows(frames: Frames, before: Numbers) -> Rows:
    rows = np.zeros((len(frames), len(COLUMNS)), np.float32)
    for number in np.unique(frames["stage"]):
        here = frames["stage"] == number
        stage, of = LIVE_STAGES.get(STAGES.get(int(number), ""), "other"), frames[here]
        rows[here] = fill(
            of["frame"], stage, _side(of, 0, stage), _side(of, 1, stage), before[here], _items(of["items"])
        )
    return rows


def _side(frames: Frames, seat: int, stage: str) -> Side:
    fighter, nana = _fighter(frames["players"][:, seat], stage), frames["nana"][:, seat]
    followed = nana["exists"] != 0
    return Side(fighter, _fighter(nana, stage), followed) if followed.any() else Side(fighter)


def _fighter(of: Frames, stage: str) -> Fighter:
    side, top, bottom = SCREEN[stage]
    action, falling = of["action"], FALLS[np.minimum(of["character"], len(FAST_FALL))]
    in_hitstun = np.isin(action, [*HITSTUN]) & (of["hitstun_left"] > 0)
    speed_y, airborne = of["speed_y_self"], of["on_ground"] == 0
    return Fighter(
        character=of["character"],
        action=action,
        percent=of["percent"],
        facing=np.where(of["facing"] != 0, 1, -1),
        x=of["x"],
        y=of["y"],
        invulnerable=of["hurtbox_state"] != 0,
        jumps_left=of["jumps_left"],
        shield=of["shield_strength"],
        on_ground=~airborne,
        speed_air_x=of["speed_air_x_self"],
        speed_ground_x=of["speed_ground_x_self"],
        speed_y=speed_y,
        speed_kb_x=of["speed_x_attack"],
        speed_kb_y=of["speed_y_attack"],
        hitstun_left=np.where(in_hitstun, of["hitstun_left"], 0),
        action_frame=of["action_frame"],
        stock=of["stocks"],
        hitlag=of["hitlag_left"],
        in_hitstun=in_hitstun,
        fastfall=airborne & (-falling - 0.01 < speed_y) & (speed_y < 0.01 - falling),
        shielding=np.isin(action, [*SHIELDING]),
        offscreen=np.isin(action, [*GONE]) | (abs(of["x"]) > side) | (of["y"] < bottom) | (of["y"] > top),
    )


def _items(things: Frames) -> Numbers:
    """[n, 15] → the first five that there are, [n, 5, 7]."""
    exists = things["exists"] != 0
    order = np.argsort(~exists, axis=1, kind="stable")[:, :PROJECTILES]
    chosen = np.take_along_axis(things, order, axis=1)
    owner = np.select([chosen["owner"] == 0, chosen["owner"] == 1], [1, 2], 0)
    fields = [chosen["exists"] != 0, owner, *(chosen[name] for name in ("x", "y", "type", "vx", "vy"))]
    filled: Numbers = np.stack([np.asarray(each, np.float64) for each in fields], axis=2)
    assert filled.shape[2] == len(ITEM)
    return np.where(filled[:, :, :1] != 0, filled, 0)
