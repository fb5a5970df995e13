"""Labels of Melee frames, to measure a representation by: what happens next, who plays where, and the player's input.

A label is −1 in frames that have none. None of them may be an input of a model: most say what comes.
"""

import numpy as np
from numpy.typing import NDArray

from jepa_client.games.melee_layout import ACTIONS, CHARACTERS, HANDS, LAST_ACTION, STAGES, TABLE, Fighter, Numbers

# The classes of `y_act30` and `y_opp_act30`, each of one or more classes of ACTIONS.
COARSE_CLASSES: dict[str, tuple[str, ...]] = {
    "inactive": ("dead", "respawn"),
    "idle_ground": ("idle", "walk", "turn", "crouch"),
    "dash_run": ("dash_run",),
    "airborne_free": ("jumpsquat", "jump", "fall", "helpless_fall"),
    "landing": ("landing",),
    "attack": ("jab_tilt_dash_attack", "smash", "aerial", "item_misc"),
    "special": ("special",),
    "defend": ("shield", "dodge_roll"),
    "grab_throw": ("grab_throw",),
    "hit": ("damage", "down_tech", "grabbed"),
    "ledge": ("ledge",),
}
LABELS = (
    "y_act30", "y_opp_act30", "y_dmg60", "y_next_stock", "y_own_char", "y_opp_char", "y_stage", "y_stick_now",
    "y_jump_btn_now",
)  # fmt: skip
# How many frames ahead `y_act30` and `y_dmg60` look.
ACTION_FRAMES, DAMAGE_FRAMES = 30, 60
# The game takes a stick that is less than 23/80 from its centre as centred. A little less is asked for, since 23/80
# comes rounded to float32.
MIN_STICK = 22.9 / 80
DIRECTIONS = 8
# Class of ACTIONS → class of COARSE_CLASSES.
COARSE = np.array([[name in names for names in COARSE_CLASSES.values()].index(True) for name in ACTIONS], np.int8)


def labels(own: Fighter, opp: Fighter, stage: str, hands: Numbers) -> dict[str, NDArray[np.int8]]:
    """The LABELS of n consecutive frames, each [n]; `hands` [n, 13] has the player's inputs in each of them.

    y_act30, y_opp_act30: the class of the action 30 frames on, by COARSE_CLASSES. y_dmg60: 1 if the player's percent
    rises within 60 frames. y_next_stock: who loses the next stock, 0 the player, 1 the opponent. y_own_char,
    y_opp_char, y_stage: places in CHARACTERS and STAGES. y_stick_now: 0 centred, else 1 right to 8 down right,
    anticlockwise. y_jump_btn_now: 1 if X or Y is held.
    """
    n = len(own.action)
    # A stick that the file does not tell is centred.
    x, y = (np.nan_to_num(hands[:, HANDS.index(axis)].astype(np.float64)).clip(-1, 1) for axis in ("main_x", "main_y"))
    direction = np.rint(np.arctan2(y, x) / (2 * np.pi) * DIRECTIONS).astype(int) % DIRECTIONS + 1
    jumps = [hands[:, HANDS.index(button)] > 0 for button in ("btn_x", "btn_y")]
    found = (
        _class_ahead(own.action),
        _class_ahead(opp.action),
        _hurt_soon(own.percent),
        _next_stock(own.stock, opp.stock),
        _known_character(own.character),
        _known_character(opp.character),
        np.full(n, STAGES.index(stage)),
        np.where(np.hypot(x, y) < MIN_STICK, 0, direction),
        jumps[0] | jumps[1],
    )
    return {name: values.astype(np.int8) for name, values in zip(LABELS, found, strict=True)}


def _class_ahead(action: Numbers) -> Numbers:
    """[n] → [n]"""
    coarse = np.full(len(action), -1, np.int8)
    ahead = np.minimum(action[ACTION_FRAMES:], LAST_ACTION).astype(np.intp)
    coarse[: len(ahead)] = COARSE[TABLE[ahead]]
    return coarse


def _hurt_soon(percent: Numbers) -> Numbers:
    """[n] → [n]; of the last frames, those in which nothing happens any more have no label."""
    now = np.arange(len(percent))
    # [n + 1] how often the percent rose up to each frame.
    rises = np.concatenate([[0], np.cumsum(percent[1:] > percent[:-1]), [0]])
    end = np.minimum(now + DAMAGE_FRAMES, len(now) - 1)
    hurt = rises[end] > rises[now]
    return np.where(hurt, 1, np.where(now + DAMAGE_FRAMES < len(now), 0, -1))


def _next_stock(own: Numbers, opp: Numbers) -> Numbers:
    """[n], [n] → [n]; −1 after the last stock that is lost, and before one that both lose in the same frame."""
    # [n - 1] who loses a stock between two frames.
    lost_own, lost_opp = (np.diff(stock.astype(np.int64)) < 0 for stock in (own, opp))
    at = np.flatnonzero(lost_own | lost_opp)
    who = np.append(np.where(lost_own & lost_opp, -1, lost_opp)[at], -1)
    found: Numbers = who[np.searchsorted(at, np.arange(len(own)))]
    return found


def _known_character(character: Numbers) -> Numbers:
    return np.where(character < len(CHARACTERS), character, -1)
