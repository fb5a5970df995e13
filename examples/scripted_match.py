"""A scripted match: two Foxes on Final Destination with simple kinematics, in the 287-column Melee layout."""

import numpy as np

FRAMES_A_SECOND = 60
# In game units from the centre of the stage.
LEDGE, BLAST_SIDE, BLAST_TOP, BLAST_BOTTOM = 85.0, 185.0, 185.0, -140.0
# In units per frame, gravity in units per frame squared.
WALK, RUN, DRIFT, JUMP, GRAVITY, MAX_FALL = 1.2, 2.2, 0.8, 3.6, 0.23, 2.8
KNOCKBACK_DECAY = 0.051
FOX_ID = 1
ACTION_IDS = {
    "idle": 14, "walk": 15, "dash_run": 20, "jumpsquat": 24, "jump": 25, "fall": 29, "landing": 42, "damage": 88,
    "jab_tilt_dash_attack": 44, "smash": 60, "aerial": 65, "dead": 0, "respawn": 12,
}  # fmt: skip
# How many frames an action takes at least.
MIN_FRAMES = {
    "jumpsquat": 3, "landing": 4, "jab_tilt_dash_attack": 17, "smash": 40, "aerial": 35, "dead": 60, "respawn": 60,
}  # fmt: skip
# The frame on which an attack hits, and the percent that it adds.
HITS = {"jab_tilt_dash_attack": (3, 4), "smash": (12, 15), "aerial": (6, 11)}


class Fighter:
    """Runs at its foe, jumps and attacks when near, and drifts back when off the stage, or dies trying."""

    def __init__(self, x: float, rng: np.random.Generator) -> None:
        self.x, self.y, self.vx, self.vy, self.push_x, self.push_y = x, 0.0, 0.0, 0.0, 0.0, 0.0
        self.percent, self.stock, self.jumps, self.facing = 0.0, 4, 2, -np.sign(x)
        self.action, self.action_frame, self.hitstun, self.invulnerable = "idle", 0, 0, 0
        self.rng = rng

    @property
    def grounded(self) -> bool:
        return self.y == 0 and abs(self.x) <= LEDGE and self.action not in ("dead", "respawn")

    def begin(self, action: str) -> None:
        self.action_frame = self.action_frame + 1 if action == self.action else 0
        self.action = action

    def step(self, foe: "Fighter") -> None:
        self.hitstun, self.invulnerable = max(0, self.hitstun - 1), max(0, self.invulnerable - 1)
        if self.hitstun:
            self.begin("damage")
        elif self.action_frame < MIN_FRAMES.get(self.action, 0):
            self.begin(self.action)
        else:
            self.decide(foe)
        self.strike(foe)
        if self.action not in ("dead", "respawn"):
            self.move()

    def decide(self, foe: "Fighter") -> None:
        dx, dy, luck = foe.x - self.x, foe.y - self.y, self.rng.random()
        near = abs(dx) < 14 and abs(dy) < 14
        if self.action == "dead":
            self.x, self.y, self.percent, self.jumps, self.invulnerable = 0.0, 40.0, 0.0, 1, 180
            self.begin("respawn")
        elif self.action == "jumpsquat":
            self.vy, self.jumps = JUMP, 1
            self.begin("jump")
        elif not self.grounded:
            aim = -self.x if abs(self.x) > LEDGE - 15 else dx
            self.vx = DRIFT * np.sign(aim)
            if abs(self.x) > LEDGE and self.y < 0 and self.jumps:
                self.vy, self.jumps = JUMP, 0
            self.begin("aerial" if near and luck < 0.15 else "jump" if self.vy > 0 else "fall")
        else:
            self.facing = np.sign(dx) or self.facing
            gait = "dash_run" if abs(dx) > 40 else "walk" if abs(dx) > 10 else "idle"
            self.vx = self.facing * {"dash_run": RUN, "walk": WALK, "idle": 0.0}[gait]
            attack = "smash" if luck < 0.02 else "jab_tilt_dash_attack"
            self.begin(attack if near and luck < 0.08 else "jumpsquat" if luck > 0.98 else gait)

    def strike(self, foe: "Fighter") -> None:
        frame, percent = HITS.get(self.action, (-1, 0))
        if self.action_frame != frame or foe.invulnerable or foe.action == "dead":
            return
        if abs(foe.x - self.x) < 18 and abs(foe.y - self.y) < 16:
            foe.percent += percent
            strength = 25 + foe.percent * percent / 9
            foe.hitstun = int(0.4 * strength)
            foe.push_x, foe.push_y = 0.025 * strength * self.facing, 0.018 * strength
            foe.vx = foe.vy = 0.0

    def move(self) -> None:
        if self.action in HITS and self.grounded:
            self.vx = 0.0
        speed = np.hypot(self.push_x, self.push_y)
        slower = max(0.0, speed - KNOCKBACK_DECAY) / speed if speed else 0.0
        self.push_x, self.push_y = self.push_x * slower, self.push_y * slower
        was_grounded, was_y = self.grounded, self.y
        if not was_grounded:
            self.vy = max(self.vy - GRAVITY, -MAX_FALL)
        self.x, self.y = self.x + self.vx + self.push_x, self.y + self.vy + self.push_y
        if was_grounded and not self.hitstun and self.vy <= 0:
            self.x = float(np.clip(self.x, -LEDGE, LEDGE))
        if was_y >= 0 >= self.y and abs(self.x) <= LEDGE:
            self.y, self.vy, self.push_y, self.jumps = 0.0, 0.0, 0.0, 2
            if not was_grounded and not self.hitstun:
                self.begin("landing")
        if abs(self.x) > BLAST_SIDE or not BLAST_BOTTOM < self.y < BLAST_TOP:
            self.stock, self.hitstun = self.stock - 1, 0
            self.vx = self.vy = self.push_x = self.push_y = 0.0
            self.begin("dead")


def columns(side: str, fighter: Fighter) -> dict[str, float]:
    """One player's columns, scaled as in the layout; columns left out are 0."""
    return {
        f"{side}_percent": fighter.percent * 0.01,
        f"{side}_facing": fighter.facing,
        f"{side}_x": fighter.x * 0.05,
        f"{side}_y": fighter.y * 0.05,
        f"{side}_invulnerable": float(fighter.invulnerable > 0),
        f"{side}_jumps_left": fighter.jumps / 6,
        f"{side}_shield": 0.6,
        f"{side}_on_ground": float(fighter.grounded),
        f"{side}_speed_ground_x" if fighter.grounded else f"{side}_speed_air_x": fighter.vx * 0.5,
        f"{side}_speed_y": fighter.vy * 0.5,
        f"{side}_speed_kb_x": fighter.push_x * 0.5,
        f"{side}_speed_kb_y": fighter.push_y * 0.5,
        f"{side}_hitstun_left": min(fighter.hitstun / 120, 1.0),
        f"{side}_action_frame": min(fighter.action_frame / 60, 2.0),
        f"{side}_stock": fighter.stock / 4,
        f"{side}_ledge_dist": (LEDGE - abs(fighter.x)) / LEDGE,
        f"{side}_act_{fighter.action}": 1.0,
        f"{side}_char_fox": 1.0,
        f"{side}_in_hitstun": float(fighter.hitstun > 0),
        f"{side}_action_id": ACTION_IDS[fighter.action] / 399,
        f"{side}_char_id": FOX_ID / 33,
    }


def sticks(own: Fighter) -> dict[str, float]:
    """The player's inputs in this frame, which the next row holds as those of the previous frame."""
    return {
        "prev_main_x": float(np.sign(own.vx)) * (own.action in ("walk", "dash_run", "jump", "fall")),
        "prev_btn_x": float(own.action == "jumpsquat"),
        "prev_btn_a": float(own.action in HITS and own.action_frame < 3),
    }


def play(names: list[str], frames: int, seed: int = 0) -> np.ndarray:
    """float32 [frames, 287] in the order of `names`; ValueError if the model's rows have another layout."""
    position = {name: i for i, name in enumerate(names)}
    rng = np.random.default_rng(seed)
    own, opp, started = Fighter(-40, rng), Fighter(40, rng), 0
    hands: dict[str, float] = {}
    rows = np.zeros((frames, len(names)), np.float32)
    for t in range(frames):
        if not (own.stock and opp.stock):
            own, opp, started = Fighter(-40, rng), Fighter(40, rng), t
        own.step(opp)
        opp.step(own)
        dx, dy = opp.x - own.x, opp.y - own.y
        row = columns("own", own) | columns("opp", opp) | hands
        row |= {"stage_fd": 1.0, "dx": dx / 200, "dy": dy / 100, "distance": min(np.hypot(dx, dy) / 200, 1.5)}
        row["time"] = min((t - started) / 28800, 1.0)
        if missing := row.keys() - position.keys():
            raise ValueError(f"the model's rows have no column '{min(missing)}': it is not of the Melee layout")
        rows[t, [position[name] for name in row]] = list(row.values())
        hands = sticks(own)
    return rows
