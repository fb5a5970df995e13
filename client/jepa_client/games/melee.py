"""Super Smash Bros. Melee as rows of the 287-column layout: from a replay file, or from libmelee's GameState.

    rows, frame = replay_rows(read_replay(path))  # float32 [n, 287], int32 [n]; from the lower port's view
    labels = replay_labels(read_replay(path))  # int8 [n] each, by name, to measure a model of these rows by

    live = LiveRows(port=1)  # the port that the bot plays on
    while (state := console.step()) is not None:          # libmelee
        if state.menu_state.name == "IN_GAME":
            embedding = client.embed(live.row(state))

Both fill the columns with the same code (melee_layout.py), so a model plays with the same rows it was trained on.
libmelee need not be installed: only attributes of its GameState are read. read_replay is in slippi.py.
"""

from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jepa_client.games.melee_labels import labels
from jepa_client.games.melee_layout import FIRST_FRAME, HANDS, ITEM, PROJECTILES, Fighter, Numbers, Side, fill
from jepa_client.games.replay import Player, Replay, ReplayError
from jepa_client.rows import Rows

# By the stage ids in replays.
STAGES = {2: "fod", 3: "ps", 8: "ys", 28: "dl", 31: "bf", 32: "fd"}
LIVE_STAGES = {
    "FOUNTAIN_OF_DREAMS": "fod", "POKEMON_STADIUM": "ps", "YOSHIS_STORY": "ys", "DREAMLAND": "dl", "BATTLEFIELD": "bf",
    "FINAL_DESTINATION": "fd",
}  # fmt: skip
BUTTONS = {
    "btn_a": 0x0100, "btn_b": 0x0200, "btn_x": 0x0400, "btn_y": 0x0800, "btn_z": 0x0010, "btn_l": 0x0040,
    "btn_r": 0x0020, "btn_d_up": 0x0008,
}  # fmt: skip
# libmelee does not report these, so they are inferred: hitstun, shielding and death from the action state, a fast fall
# from the character's fast-fall speed, and being off the screen from the position. SCREEN gives a limit for |x|, the
# highest y and the lowest y of each stage.
HITSTUN, SHIELDING, GONE = {*range(75, 92), 193, 247}, {178, 179, 181, 182}, {0, 1, 2}
FAST_FALL = np.array([
    2.3, 3.4, 3.5, 2.96, 2.0, 2.4, 3.0, 3.0, 2.2, 2.0, 2.0, 2.0, 2.7, 2.3, 2.93, 1.6, 2.3, 2.0, 2.5, 1.85, 2.56, 2.3,
    3.5, 2.5, 2.3, 2.6, 2.9,
])  # fmt: skip
SCREEN = {
    "fod": (120, 80, -80), "ps": (160, 80, -60), "ys": (110, 80, -60), "dl": (150, 100, -80), "bf": (150, 120, -60),
    "fd": (170, 80, -80), "other": (170, 80, -80),
}  # fmt: skip


def replay_rows(replay: Replay, port: int | None = None) -> tuple[Rows, Numbers]:
    """Rows [n, 287] and frame numbers [n] of a two-player game, as seen by the player at `port` (1 to 4; by default the
    lower one); ReplayError for other games."""
    own, opp, since = _seats(replay, port)
    rows = fill(
        replay.frame[since],
        STAGES.get(replay.stage, "other"),
        _recorded_side(own, since),
        _recorded_side(opp, since),
        np.concatenate([np.zeros((1, len(HANDS))), _recorded_hands(own.before[since])[:-1]]),
        _recorded_items([*compress(replay.items, since)], own, opp),
    )
    return rows, replay.frame[since]


def replay_labels(replay: Replay, port: int | None = None) -> dict[str, NDArray[np.int8]]:
    """The labels of the rows that `replay_rows` makes, each [n]; melee_labels.py says what they mean."""
    own, opp, since = _seats(replay, port)
    fighters = _recorded(own.after[since]), _recorded(opp.after[since])
    return labels(*fighters, STAGES.get(replay.stage, "other"), _recorded_hands(own.before[since]))


def _seats(replay: Replay, port: int | None) -> tuple[Player, Player, NDArray[np.bool_]]:
    """The player at the port, the other one, and in which frames [n] they can act; ReplayError if that cannot be."""
    ports = [player.port for player in replay.players]
    if len(ports) != 2:
        raise ReplayError(f"it has {len(ports)} players; rows are of games of two")
    if port not in (None, *ports):
        raise ReplayError(f"no one plays at port {port}; its ports are {ports[0]} and {ports[1]}")
    own, opp = replay.players if port in (None, ports[0]) else replay.players[::-1]
    since = replay.frame >= FIRST_FRAME
    if not since.any():
        raise ReplayError(f"it ends at frame {replay.frame[-1]}, before the players can act")
    return own, opp, since


class LiveRows:
    """Makes a row from each frame of a running game, and remembers the player's inputs of the previous frame."""

    def __init__(self, port: int) -> None:
        """`port` is the key in GameState.players of the player whose columns are `own`."""
        self._port = port
        self._before: tuple[int, Numbers] = (0, np.zeros(len(HANDS)))

    def row(self, state: Any) -> Rows:
        """The row [287] of a libmelee GameState; ValueError unless it has two players, one of them at this port."""
        ports = sorted(state.players)
        if len(ports) != 2 or self._port not in ports:
            raise ValueError(f"players are at ports {ports}; rows are of games of two, one of them at {self._port}")
        (other,) = (port for port in ports if port != self._port)
        own, opp = state.players[self._port], state.players[other]
        frame, hands = self._before
        # Another game began, or frames were skipped.
        if frame != state.frame - 1:
            hands = np.zeros(len(HANDS))
        self._before = (int(state.frame), _live_hands(own.controller_state))
        items = _items([_live_item(item, self._port) for item in state.projectiles])
        stage = LIVE_STAGES.get(state.stage.name, "other")
        sides = _live_side(own, stage), _live_side(opp, stage)
        row: Rows = fill(np.array([state.frame]), stage, *sides, hands[None], items[None])[0]
        return row


def _recorded_side(player: Player, since: NDArray[np.bool_]) -> Side:
    fighter, followed = _recorded(player.after[since]), player.followed[since]
    return Side(fighter, _recorded(player.follower[since]), followed) if followed.any() else Side(fighter)


def _recorded(after: Numbers) -> Fighter:
    in_hitstun = (after["flags_3"] & 0x02) != 0
    return Fighter(
        character=after["character"],
        action=after["action"],
        percent=after["percent"],
        facing=np.where(after["facing"] > 0, 1, -1),
        x=after["x"],
        y=after["y"],
        invulnerable=after["hurtbox"] != 0,
        jumps_left=after["jumps"],
        shield=after["shield"],
        on_ground=after["airborne"] == 0,
        speed_air_x=after["speed_air_x"],
        speed_ground_x=after["speed_ground_x"],
        speed_y=after["speed_y"],
        speed_kb_x=after["speed_kb_x"],
        speed_kb_y=after["speed_kb_y"],
        # Outside hitstun the field means something else.
        hitstun_left=np.where(in_hitstun, np.rint(after["misc"]), 0),
        action_frame=np.rint(after["action_frame"]),
        stock=after["stock"],
        hitlag=np.rint(after["hitlag"]),
        in_hitstun=in_hitstun,
        fastfall=(after["flags_1"] & 0x08) != 0,
        shielding=(after["flags_2"] & 0x80) != 0,
        offscreen=(after["flags_4"] & 0x80) != 0,
    )


def _recorded_hands(before: Numbers) -> Numbers:
    """[n, 13]"""
    buttons = [(before["buttons"] & bit) != 0 for bit in BUTTONS.values()]
    return np.column_stack([*buttons, *(before[name] for name in ("main_x", "main_y", "c_x", "c_y", "trigger_l"))])


def _recorded_items(items: list[Numbers], own: Player, opp: Player) -> Numbers:
    """The first five items of each of n frames, [n, 5, 7]."""
    counts = [len(each) for each in items]
    # np.concatenate would compare the types of all of them.
    every = np.frombuffer(b"".join(each.data for each in items), items[0].dtype)
    frame = np.repeat(np.arange(len(items)), counts)
    place = np.arange(len(every)) - np.repeat(np.cumsum(counts) - counts, counts)
    owner = every["owner"].astype(int) + 1
    whose = np.select([owner == own.port, owner == opp.port], [1, 2], 0)
    fields = np.ones(len(every)), whose, *(every[name] for name in ("x", "y", "type", "vx", "vy"))
    filled, first = np.zeros((len(items), PROJECTILES, len(ITEM))), place < PROJECTILES
    filled[frame[first], place[first]] = np.column_stack(fields)[first]
    return filled


def _items(items: list[tuple[float, ...]]) -> Numbers:
    """The first five items [5, 7], padded with zeros."""
    filled = np.zeros((PROJECTILES, len(ITEM)))
    if items:
        filled[: len(items)] = items[:PROJECTILES]
    return filled


def _live_side(player: Any, stage: str) -> Side:
    if player.nana is None:
        return Side(_live(player, stage))
    return Side(_live(player, stage), _live(player.nana, stage), np.array([True]))


def _live(player: Any, stage: str) -> Fighter:
    side, top, bottom = SCREEN[stage]
    x, y = player.position.x, player.position.y
    action, character = int(player.action.value), int(player.character.value)
    in_hitstun = action in HITSTUN and player.hitstun_frames_left > 0
    speed = FAST_FALL[character] if character < len(FAST_FALL) else np.inf
    numbers = {
        "character": character,
        "action": action,
        "percent": player.percent,
        "facing": 1 if player.facing else -1,
        "x": x,
        "y": y,
        "invulnerable": player.invulnerable,
        "jumps_left": player.jumps_left,
        "shield": player.shield_strength,
        "on_ground": player.on_ground,
        "speed_air_x": player.speed_air_x_self,
        "speed_ground_x": player.speed_ground_x_self,
        "speed_y": player.speed_y_self,
        "speed_kb_x": player.speed_x_attack,
        "speed_kb_y": player.speed_y_attack,
        "hitstun_left": player.hitstun_frames_left if in_hitstun else 0,
        "action_frame": player.action_frame,
        "stock": player.stock,
        "hitlag": player.hitlag_left,
        "in_hitstun": in_hitstun,
        "fastfall": not player.on_ground and -speed - 0.01 < player.speed_y_self < 0.01 - speed,
        "shielding": action in SHIELDING,
        "offscreen": action in GONE or abs(x) > side or not bottom <= y <= top,
    }
    return Fighter(**{name: np.array([number], np.float64) for name, number in numbers.items()})


def _live_hands(controller: Any) -> Numbers:
    """[13]"""
    pressed = {button.name.lower().replace("button_", "btn_"): down for button, down in controller.button.items()}
    # libmelee gives axes from 0 to 1.
    sticks = [2 * axis - 1 for stick in (controller.main_stick, controller.c_stick) for axis in stick]
    return np.array([*(pressed.get(name, False) for name in BUTTONS), *sticks, controller.l_shoulder], np.float64)


def _live_item(item: Any, port: int) -> tuple[float, ...]:
    owner = 1 if item.owner == port else 2 if item.owner > 0 else 0
    return 1, owner, item.position.x, item.position.y, int(item.type.value), item.speed.x, item.speed.y
