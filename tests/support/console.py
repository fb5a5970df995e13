"""libmelee's console without a game: states made of recorded frames, and a controller that keeps what it is told."""

from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from jepa_client.games.melee import BUTTONS
from jepa_client.games.umi import FRAME, STAGES

# As libmelee's. mypy takes members from a literal alone.
Button: Any = Enum("Button", [*(f"BUTTON_{name[4:].upper()}" for name in BUTTONS), "BUTTON_MAIN", "BUTTON_C"])  # type: ignore[misc]


def excerpts() -> list[np.ndarray]:
    """[20] frames of two games in umi-melee, each from both seats."""
    path = Path(__file__).parents[1] / "client" / "games" / "data" / "umi.npz"
    with np.load(path) as stored:
        frames = stored["frames"].view(FRAME)[..., 0]  # [2, 20, 2]
    return [np.ascontiguousarray(frames[game, :, seat]) for game in range(2) for seat in range(2)]


def states(frames: np.ndarray) -> Iterator[Any]:
    """What libmelee would tell of the frames, with the bot at port 1."""
    for frame in frames:
        players = {1: _player(frame["players"][0]), 2: _player(frame["players"][1])}
        for port, nana in zip(players, frame["nana"], strict=True):
            players[port].nana = _player(nana) if nana["exists"] else None
        projectiles = [
            SimpleNamespace(
                type=SimpleNamespace(value=each["type"]),
                # Nobody's items are those of no port, which is 0.
                owner=int(each["owner"]) + 1,
                position=SimpleNamespace(x=each["x"], y=each["y"]),
                speed=SimpleNamespace(x=each["vx"], y=each["vy"]),
            )
            for each in frame["items"]
            if each["exists"]
        ]
        yield SimpleNamespace(
            frame=int(frame["frame"]),
            menu_state=SimpleNamespace(name="IN_GAME"),
            stage=SimpleNamespace(name=STAGES[int(frame["stage"])]),
            players=players,
            projectiles=projectiles,
        )


def _player(of: Any) -> SimpleNamespace:
    same = (
        *("percent", "jumps_left", "shield_strength", "action_frame", "hitlag_left", "speed_air_x_self"),
        *("speed_ground_x_self", "speed_y_self", "speed_x_attack", "speed_y_attack"),
    )
    sent = of["controller"]
    hands = SimpleNamespace(
        button={Button[f"BUTTON_{name[4:].upper()}"]: bool(sent["buttons"] >> i & 1) for i, name in enumerate(BUTTONS)},
        main_stick=(sent["main_x"], sent["main_y"]),
        c_stick=(sent["c_x"], sent["c_y"]),
        l_shoulder=sent["shoulder"],
    )
    return SimpleNamespace(
        **{name: of[name].item() for name in same},
        character=SimpleNamespace(value=of["character"]),
        action=SimpleNamespace(value=of["action"]),
        facing=bool(of["facing"]),
        position=SimpleNamespace(x=of["x"], y=of["y"]),
        invulnerable=bool(of["invulnerable"]),
        on_ground=bool(of["on_ground"]),
        hitstun_frames_left=of["hitstun_left"].item(),
        stock=of["stocks"],
        nana=None,
        controller_state=hands,
    )


class FakeConsole:
    """A console that shows these states, and then is no longer connected."""

    def __init__(self, shown: Iterable[Any]) -> None:
        self._shown = [*shown]

    @property
    def connected(self) -> bool:
        return bool(self._shown)

    def step(self) -> Any:
        return self._shown.pop(0)


class FakeController:
    """A controller of 13 numbers, in the order of the buttons and then the sticks and the trigger as libmelee takes
    them; `sent` has them as they were each time they were flushed."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self._held: dict[str, Any] = {}

    def press_button(self, button: Any) -> None:
        self._held[button.name] = True

    def release_button(self, button: Any) -> None:
        self._held[button.name] = False

    def tilt_analog(self, button: Any, x: float, y: float) -> None:
        assert 0 <= x <= 1
        assert 0 <= y <= 1
        self._held[button.name] = (x, y)

    def press_shoulder(self, button: Any, amount: float) -> None:
        assert 0 <= amount <= 1
        self._held[f"{button.name} trigger"] = amount

    def flush(self) -> None:
        self.sent.append(dict(self._held))
