"""A match that no one played: two Foxes on Final Destination with simple kinematics, in the 287-column Melee layout."""

import numpy as np

FOX, ACTION_IDS = "fox", {"idle": 14, "dash_run": 20, "jump": 25, "fall": 29, "aerial": 65, "damage": 75, "respawn": 12}
FOX_ID, LEDGE, BLAST_ZONE = 1, 85.0, 200.0
GRAVITY, RUN, JUMP = 0.2, 1.8, 4.0  # units a frame (a frame)
FRAMES_A_SECOND = 60


class Fighter:
    """A body that runs at its foe, jumps now and then, hits when near, and comes back when it is knocked out."""

    def __init__(self, x: float, rng: np.random.Generator) -> None:
        self.x, self.y, self.vx, self.vy = x, 0.0, 0.0, 0.0
        self.percent, self.stock, self.hitstun, self.invulnerable = 0.0, 4, 0, 0
        self.facing, self.action, self.action_frame = -np.sign(x), "idle", 0
        self.rng = rng

    def step(self, foe: "Fighter") -> None:
        self.facing = np.sign(foe.x - self.x) or 1.0
        grounded = self.y <= 0 and abs(self.x) < LEDGE
        action = "fall"
        if self.hitstun:
            self.hitstun -= 1
            action = "damage"
        elif grounded:
            self.vx, action = self.facing * RUN * (abs(foe.x - self.x) > 8), "dash_run"
            if self.rng.random() < 0.03:
                self.vy, action = JUMP, "jump"
        elif abs(foe.x - self.x) + abs(foe.y - self.y) < 15:
            action = "aerial"
            if not foe.hitstun and not foe.invulnerable:
                foe.take_hit(self.facing)
        self.vy = 0.0 if grounded and self.vy <= 0 else self.vy - GRAVITY
        self.x, self.y = self.x + self.vx, self.y + self.vy
        if self.y < 0 and abs(self.x) < LEDGE:
            self.y = 0.0
        self.invulnerable = max(0, self.invulnerable - 1)
        self.action_frame = self.action_frame + 1 if action == self.action else 0
        self.action = action
        if max(abs(self.x), abs(self.y)) > BLAST_ZONE:
            self.lose_stock()

    def take_hit(self, direction: float) -> None:
        self.percent += 12
        self.hitstun = int(10 + self.percent / 4)
        self.vx, self.vy = direction * (1 + self.percent / 25), 1 + self.percent / 40

    def lose_stock(self) -> None:
        self.x = self.y = self.vx = self.vy = self.percent = 0.0
        self.stock, self.hitstun, self.invulnerable, self.action = max(self.stock - 1, 1), 0, 120, "respawn"


def columns(side: str, fighter: Fighter) -> dict[str, float]:
    """The columns of one player, scaled as in the layout; what is left out is 0."""
    grounded = fighter.y <= 0 and abs(fighter.x) < LEDGE
    return {
        f"{side}_percent": fighter.percent * 0.01,
        f"{side}_facing": fighter.facing,
        f"{side}_x": fighter.x * 0.05,
        f"{side}_y": fighter.y * 0.05,
        f"{side}_invulnerable": float(fighter.invulnerable > 0),
        f"{side}_jumps_left": (1 + grounded) / 6,
        f"{side}_shield": 0.6,
        f"{side}_on_ground": float(grounded),
        f"{side}_speed_ground_x" if grounded else f"{side}_speed_air_x": fighter.vx * 0.5,
        f"{side}_speed_y": fighter.vy * 0.5,
        f"{side}_hitstun_left": fighter.hitstun / 120,
        f"{side}_action_frame": min(fighter.action_frame / 60, 2),
        f"{side}_stock": fighter.stock / 4,
        f"{side}_ledge_dist": (LEDGE - abs(fighter.x)) / LEDGE,
        f"{side}_act_{fighter.action}": 1.0,
        f"{side}_char_{FOX}": 1.0,
        f"{side}_in_hitstun": float(fighter.hitstun > 0),
        f"{side}_action_id": ACTION_IDS[fighter.action] / 399,
        f"{side}_char_id": FOX_ID / 33,
    }


def play(names: list[str], frames: int, seed: int = 0) -> np.ndarray:
    """float32 [frames, 287] in the order of `names`; ValueError where the model's rows have another layout."""
    position = {name: i for i, name in enumerate(names)}
    rng = np.random.default_rng(seed)
    own, opp = Fighter(-40, rng), Fighter(40, rng)
    rows = np.zeros((frames, len(names)), np.float32)
    for t in range(frames):
        own.step(opp)
        opp.step(own)
        dx, dy = opp.x - own.x, opp.y - own.y
        row = columns("own", own) | columns("opp", opp)
        row |= {"stage_fd": 1.0, "dx": dx / 200, "dy": dy / 100, "distance": np.hypot(dx, dy) / 200, "time": t / 28800}
        if missing := row.keys() - position.keys():
            raise ValueError(f"the model's rows have no column {sorted(missing)[0]}: it is not of the Melee layout")
        rows[t, [position[name] for name in row]] = list(row.values())
    return rows
