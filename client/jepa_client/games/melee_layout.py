"""The 287 columns of a Melee frame (layout melee287-v1): their names, groups, and how the game's numbers fill them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jepa_client.rows import Rows

LAYOUT = "melee287-v1"
FRAMES_A_SECOND = 60
# The first frame in which players can act.
FIRST_FRAME = -39
PROJECTILES = 5

CHARACTERS = (
    "mario", "fox", "falcon", "dk", "kirby", "bowser", "link", "sheik", "ness", "peach", "popo", "nana", "pikachu",
    "samus", "yoshi", "puff", "mewtwo", "luigi", "marth", "zelda", "ylink", "doc", "falco", "pichu", "gnw", "ganon",
    "roy",
)  # fmt: skip
STAGES = ("fod", "ps", "ys", "dl", "bf", "fd", "other")
# The ranges of action states, first and last, that make up each class of actions.
ACTIONS: dict[str, list[tuple[int, int]]] = {
    "dead": [(0, 11)],
    "respawn": [(12, 13), (322, 324)],
    "idle": [(14, 14), (245, 246), (264, 265)],
    "walk": [(15, 17)],
    "turn": [(18, 19)],
    "dash_run": [(20, 23)],
    "jumpsquat": [(24, 24)],
    "jump": [(25, 28)],
    "fall": [(29, 34), (244, 244)],
    "helpless_fall": [(35, 37)],
    "crouch": [(39, 41)],
    "landing": [(42, 43), (70, 74)],
    "jab_tilt_dash_attack": [(44, 57)],
    "smash": [(58, 64)],
    "aerial": [(65, 69)],
    "damage": [(38, 38), (75, 91), (205, 211), (237, 238), (247, 251)],
    "item_misc": [(92, 177)],
    "shield": [(178, 182)],
    "down_tech": [(183, 204)],
    "grab_throw": [(212, 222)],
    "grabbed": [(223, 232), (239, 243), (266, 321), (325, 340)],
    "dodge_roll": [(233, 236)],
    "ledge": [(252, 263)],
    "special": [(341, 399)],
}
LAST_ACTION = 399
# The second climber has ExPhil's coarser classes, given here by the last action state of all but the last class.
CATEGORY_ENDS = np.array([
    0x0A, 0x0D, 0x14, 0x18, 0x1E, 0x22, 0x2C, 0x36, 0x3C, 0x42, 0x54, 0x60, 0x6B, 0x7F, 0x93, 0xA7, 0xBB, 0xC7, 0xD3,
    0xDF, 0xED, 0xFF, 0x130, 0x160,
])  # fmt: skip
CATEGORIES = len(CATEGORY_ENDS) + 1
ATTACKING, GRABBING, FREE = range(10, 17), (17, 18), (2, 3, 4, 6, 7, 9)

# Each column is the game's number times a factor, clipped to bounds.
POSITION, SPEED, HITSTUN, AGE = (0.05, -10, 10), (0.5, -10, 10), (1 / 120, 0, 1), (1 / 60, 0, 2)
PERCENT, STOCK, FLAG = (0.01, 0, 5), (1 / 4, 0, 1), (1, 0, 1)
BASE = {
    "percent": PERCENT, "facing": (1, -1, 1), "x": POSITION, "y": POSITION, "invulnerable": FLAG,
    "jumps_left": (1 / 6, 0, 1), "shield": (0.01, 0, 1), "on_ground": FLAG,
}  # fmt: skip
SPEEDS = {f"speed_{name}": SPEED for name in ("air_x", "ground_x", "y", "kb_x", "kb_y")}
TIMING = {"hitstun_left": HITSTUN, "action_frame": AGE}
FLAGS = {"hitlag": (1 / 20, 0, 1), "in_hitstun": FLAG, "fastfall": FLAG, "shielding": FLAG, "offscreen": FLAG}
SECOND = {
    "x": POSITION, "y": POSITION, "facing": (1, -1, 1), "on_ground": FLAG, "percent": PERCENT, "stock": STOCK,
    "hitstun_left": HITSTUN, "action_frame": AGE, "invulnerable": FLAG,
}  # fmt: skip
ITEM = {
    "exists": FLAG, "owner": (0.5, 0, 1), "x": POSITION, "y": POSITION, "type": (0.01, -10, 10), "vx": SPEED,
    "vy": SPEED,
}  # fmt: skip
HANDS = (
    "btn_a", "btn_b", "btn_x", "btn_y", "btn_z", "btn_l", "btn_r", "btn_d_up", "main_x", "main_y", "c_x", "c_y",
    "shoulder",
)  # fmt: skip
# Action state → index of its class.
TABLE = np.zeros(LAST_ACTION + 1, np.intp)
for _number, _ranges in enumerate(ACTIONS.values()):
    for _first, _last in _ranges:
        TABLE[_first : _last + 1] = _number

Scales = Mapping[str, tuple[float, float, float]]
Numbers = NDArray[Any]


@dataclass(frozen=True)
class Fighter:
    """One fighter over n frames, in the game's own units; each field is [n]."""

    character: Numbers  # internal id
    action: Numbers  # action state
    percent: Numbers
    facing: Numbers  # −1 left, 1 right
    x: Numbers
    y: Numbers
    invulnerable: Numbers
    jumps_left: Numbers
    shield: Numbers  # 0 to 60
    on_ground: Numbers
    speed_air_x: Numbers  # units a frame
    speed_ground_x: Numbers
    speed_y: Numbers
    speed_kb_x: Numbers
    speed_kb_y: Numbers
    hitstun_left: Numbers  # frames
    action_frame: Numbers  # frames
    stock: Numbers
    hitlag: Numbers  # frames
    in_hitstun: Numbers
    fastfall: Numbers
    shielding: Numbers
    offscreen: Numbers


@dataclass(frozen=True)
class Side:
    """A player over n frames: the fighter, and the Ice Climbers' second one, present where `followed` [n] is true."""

    fighter: Fighter
    second: Fighter | None = None
    followed: NDArray[np.bool_] | None = None


def _groups() -> dict[str, list[str]]:
    def of(side: str) -> dict[str, list[str]]:
        second = ["exists", *SECOND, *(f"cat{i:02d}" for i in range(CATEGORIES))]
        second += ["attacking", "grabbing", "can_act", "synced"]
        state = {"base": [*BASE], "speed": [*SPEEDS], "timing": [*TIMING], "stock": ["stock", "ledge_dist"]}
        state["nana"] = [f"nana_{name}" for name in second]
        return {f"{side}_{group}": [f"{side}_{name}" for name in names] for group, names in state.items()}

    def kind(side: str) -> dict[str, list[str]]:
        return {
            f"{side}_action": [f"{side}_act_{name}" for name in ACTIONS],
            f"{side}_char": [f"{side}_char_{name}" for name in CHARACTERS],
            f"{side}_flags": [f"{side}_{name}" for name in FLAGS],
        }

    return {
        **of("own"),
        **of("opp"),
        "stage": [f"stage_{name}" for name in STAGES],
        "prev_action": [f"prev_{name}" for name in HANDS],
        **kind("own"),
        **kind("opp"),
        "spatial": ["distance", "dx", "dy", "time"],
        **{f"projectile{i}": [f"proj{i}_{name}" for name in ITEM] for i in range(PROJECTILES)},
        "ids": ["own_action_id", "opp_action_id", "own_char_id", "opp_char_id"],
    }


COLUMNS = tuple(name for names in _groups().values() for name in names)
GROUPS: dict[str, slice] = {}
for _group, _names in _groups().items():
    GROUPS[_group] = slice(COLUMNS.index(_names[0]), COLUMNS.index(_names[0]) + len(_names))


def fill(frame: Numbers, stage: str, own: Side, opp: Side, hands: Numbers, items: Numbers) -> Rows:
    """Rows [n, 287] of n frames on one of STAGES.

    `hands` [n, 13] has the inputs in HANDS of each previous frame, buttons as 0 and 1 and sticks from −1 to 1. `items`
    [n, 5, 7] has the fields in ITEM, with owner 1 for own, 2 for the opponent and 0 for nobody.
    """
    # Column after column, which is how they are filled here and written to files.
    rows = np.zeros((len(frame), len(COLUMNS)), np.float32, order="F")
    for name, side in (("own", own), ("opp", opp)):
        fighter, action = side.fighter, np.minimum(side.fighter.action, LAST_ACTION).astype(np.intp)
        for group, scales in (("base", BASE), ("speed", SPEEDS), ("timing", TIMING), ("flags", FLAGS)):
            rows[:, GROUPS[f"{name}_{group}"]] = _scaled(fighter, scales)
        ledge = (85 - np.abs(fighter.x)) / 85
        rows[:, GROUPS[f"{name}_stock"]] = np.column_stack([_scaled(fighter, {"stock": STOCK}), ledge.clip(-10, 10)])
        rows[:, GROUPS[f"{name}_nana"]] = _second(side)
        rows[:, GROUPS[f"{name}_action"]] = _one_hot(TABLE[action], len(ACTIONS))
        rows[:, GROUPS[f"{name}_char"]] = _one_hot(fighter.character, len(CHARACTERS))
        rows[:, COLUMNS.index(f"{name}_action_id")] = action / LAST_ACTION
        rows[:, COLUMNS.index(f"{name}_char_id")] = fighter.character / 33
    rows[:, COLUMNS.index(f"stage_{stage}")] = 1
    rows[:, GROUPS["prev_action"]] = hands.clip(-1, 1)
    dx, dy = opp.fighter.x - own.fighter.x, opp.fighter.y - own.fighter.y
    between = (np.hypot(dx, dy) / 200).clip(0, 1.5), (dx / 200).clip(-10, 10), (dy / 100).clip(-10, 10)
    rows[:, GROUPS["spatial"]] = np.column_stack([*between, (frame / 28800).clip(0, 1)])
    factors, low, high = np.transpose([*ITEM.values()])
    first, last = GROUPS["projectile0"].start, GROUPS[f"projectile{PROJECTILES - 1}"].stop
    rows[:, first:last] = (items * factors).clip(low, high).reshape(len(frame), -1)
    # The game reports no position for some objects that have left the screen.
    return np.nan_to_num(rows, copy=False)


def _scaled(fighter: Fighter, scales: Scales) -> Numbers:
    return np.column_stack([
        np.clip(getattr(fighter, name) * factor, low, high) for name, (factor, low, high) in scales.items()
    ])  # fmt: skip


def _second(side: Side) -> Numbers | float:
    if side.second is None or side.followed is None:
        return 0.0
    category, other = (np.searchsorted(CATEGORY_ENDS, each.action) for each in (side.second, side.fighter))
    kinds = [np.isin(category, [*kind]) for kind in (ATTACKING, GRABBING, FREE)]
    columns = np.column_stack([
        side.followed, _scaled(side.second, SECOND), _one_hot(category, CATEGORIES), *kinds, category == other
    ])  # fmt: skip
    filled: Numbers = np.where(side.followed[:, None], columns, 0)
    return filled


def _one_hot(number: Numbers, count: int) -> Numbers:
    """[n] → [n, count], with zeros for numbers outside the range."""
    hot: Numbers = number[:, None] == np.arange(count)
    return hot
