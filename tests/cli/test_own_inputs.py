"""From a recording with the player's own inputs to a bot that plays through a delay: trained, served and asked."""

from collections.abc import Iterator

import numpy as np
import pytest

from jepa_client import Delay, InvalidInput, JepaClient
from model import frames, train
from tests.support.serving import Server

GAMES, LENGTH, DELAY = 6, 150, 4
PUSHES = np.array([-1.0, 0.0, 1.0], np.float32)


def game(seed: int) -> dict[str, np.ndarray]:
    """A place that nothing moves but the player, at random: where it will be is in the inputs alone."""
    rng = np.random.default_rng(seed)
    action = rng.choice(PUSHES, LENGTH)
    # An input leads to the next frame.
    place = np.concatenate([[0], np.cumsum(action[:-1])]) / 8
    return {
        "place": place,
        "sin": np.sin(place),
        "action": action,
        "frame": np.arange(LENGTH),
        "game": np.full(LENGTH, seed),
    }


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JepaClient]:
    games = [game(seed) for seed in range(GAMES)]
    columns = {name: np.concatenate([each[name] for each in games]) for name in games[0]}
    recording = frames(columns, episode="game", frame="frame")
    sizes = {"embed_dim": 32, "predictor_embed_dim": 16, "encoder_depth": 1, "predictor_depth": 1, "num_heads": 4}
    models = tmp_path_factory.mktemp("models")
    train(recording, out=models, name="mover", preset="quick", steps=200, batch_size=128, horizons=(1, DELAY), **sizes)
    with Server("--models", str(models)) as server, JepaClient(server.url) as client:
        yield client


def row(played: dict[str, np.ndarray], frame: int) -> np.ndarray:
    return np.array([played["place"][frame], played["sin"][frame]], np.float32)


def test_the_frame_on_which_the_next_input_acts_is_better_known_with_those_in_flight(client: JepaClient) -> None:
    model = client.model()
    assert (model["actions"], model["names"]) == (["action"], ["place", "sin"])
    played, rng = game(100), np.random.default_rng(0)
    delay = Delay(client, frames=DELAY)
    right, wrong, none = [], [], []
    for frame in range(LENGTH - DELAY):
        seen, then = row(played, frame), client.embed(row(played, frame + DELAY))
        ahead = delay.embed(seen)
        if frame >= DELAY:
            right.append(np.abs(ahead - then).mean())
            others = rng.choice(PUSHES, (DELAY, 1))
            wrong.append(np.abs(client.predict(seen, horizon=DELAY, actions=others) - then).mean())
            none.append(np.abs(client.predict(seen, horizon=DELAY) - then).mean())
        # What is chosen now acts DELAY frames later.
        delay.press([played["action"][frame + DELAY]])
    assert np.mean(right) < 0.8 * np.mean(none)
    assert np.mean(none) < np.mean(wrong)


def test_an_input_of_a_class_that_training_did_not_know_is_refused(client: JepaClient) -> None:
    if not client.model()["action_values"]:
        pytest.skip("its values count as numbers")
    with pytest.raises(
        InvalidInput, match=r"\(action\) is 2, which is none of the values it had in training: -1, 0, 1"
    ):
        client.predict(np.zeros(2), horizon=DELAY, actions=[[0], [2]])
