"""Environments of TINY's columns before a real service."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra: jepa-client[gymnasium]")

from gymnasium import Env
from gymnasium.spaces import Box, Discrete, Space
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from jepa_client import JepaClient, UnknownModel
from jepa_client.games.gymnasium import EmbedObservation, EmbedVectorObservation
from tests.client.conftest import Running
from tests.support.bundles import TinyModel


class Drift(Env[np.ndarray, np.int64]):
    """Ten numbers, each of which an action moves; over after five steps."""

    action_space = Discrete(10)

    def __init__(self, space: Space[Any] | None = None) -> None:
        self.observation_space = space or Box(-5, 5, (10,), np.float64)
        self.seen: list[np.ndarray] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.seen = [self.np_random.normal(size=10)]
        return self.seen[-1], {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.seen.append(self.seen[-1] + 0.1 * np.eye(10)[action])
        return self.seen[-1], 1.0, len(self.seen) > 5, False, {}


@pytest.fixture
def client(running: Running) -> Iterator[JepaClient]:
    with JepaClient(running.url) as client:
        yield client


def requests(running: Running) -> int:
    metrics = httpx.get(f"{running.url}/metrics").text
    return sum(
        int(float(count)) for count in re.findall(r"^jepa_http_requests_total\{.*/embed.*\} (\S+)", metrics, re.M)
    )


def test_an_observation_becomes_its_embedding(client: JepaClient, tiny: TinyModel) -> None:
    drift = Drift()
    env = EmbedObservation(drift, client)
    assert env.observation_space.shape == (4,)
    first, _ = env.reset(seed=1)
    second, *_ = env.step(np.int64(3))
    assert first in env.observation_space
    np.testing.assert_allclose(np.stack([first, second]), tiny.encode(np.array(drift.seen, np.float32)), atol=1e-5)


def test_or_has_it_appended_within_the_same_bounds(client: JepaClient, tiny: TinyModel) -> None:
    drift = Drift()
    env = EmbedObservation(drift, client, append=True, encoder="context", model="tiny")
    assert isinstance(env.observation_space, Box)
    np.testing.assert_array_equal(env.observation_space.low, [-5] * 10 + [-np.inf] * 4)
    np.testing.assert_array_equal(env.observation_space.high, [5] * 10 + [np.inf] * 4)
    row, _ = env.reset(seed=1)
    assert row.dtype == np.float32
    (seen,) = np.array(drift.seen, np.float32)
    np.testing.assert_allclose(row, [*seen, *tiny.encode(seen[None], "context")[0]], atol=1e-5)


def test_bounds_beyond_float32_are_none(client: JepaClient) -> None:
    space = EmbedObservation(Drift(Box(-1e300, 1e300, (10,), np.float64)), client, append=True).observation_space
    assert isinstance(space, Box)
    assert np.isinf(space.low).all()
    assert np.isinf(space.high).all()


def test_hidden_groups_make_no_difference(client: JepaClient) -> None:
    env = EmbedObservation(Drift(), client, hidden=["own", "stage"])
    before, _ = env.reset(seed=1)
    after, *_ = env.step(np.int64(0))  # a column of "own"
    np.testing.assert_allclose(after, before, atol=1e-6)


@pytest.mark.parametrize("append", [False, True])
def test_environments_in_a_vector_share_a_request(
    append: bool, client: JepaClient, running: Running, tiny: TinyModel
) -> None:
    drifts = [Drift() for _ in range(3)]
    envs = EmbedVectorObservation(SyncVectorEnv([partial(next, iter(drifts))] * 3), client, append=append)
    width = 14 if append else 4
    assert envs.single_observation_space.shape == (width,)
    assert envs.observation_space.shape == (3, width)
    before = requests(running)
    first, _ = envs.reset(seed=1)
    for _ in range(6):  # over the end of a game
        rows, *_ = envs.step(np.array([0, 5, 9]))
    assert requests(running) - before == 7
    assert first.shape == rows.shape == (3, width)
    assert rows in envs.observation_space
    seen = np.array([drift.seen[-1] for drift in drifts], np.float32)
    np.testing.assert_allclose(rows[:, -4:], tiny.encode(seen), atol=1e-5)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Discrete(3), r"an observation is Discrete\(3\); it must be a flat Box: .*FlattenObservation"),
        (Box(0, 1, (2, 5)), r"an observation is Box\(.*; it must be a flat Box"),
        (Box(0, 1, (4,)), "an observation has 4 numbers, model 'tiny' takes 10"),
    ],
)
def test_observations_that_are_no_rows_are_refused_at_once(space: Space[Any], message: str, client: JepaClient) -> None:
    with pytest.raises(ValueError, match=message):
        EmbedObservation(Drift(space), client)
    with pytest.raises(ValueError, match=message):
        EmbedVectorObservation(SyncVectorEnv([lambda: Drift(space)]), client)


def test_a_model_that_is_not_there_is_an_error_at_once(client: JepaClient) -> None:
    with pytest.raises(UnknownModel):
        EmbedObservation(Drift(), client, model="pong")


def test_a_vector_that_hides_its_last_observations_in_infos_is_refused(client: JepaClient) -> None:
    with pytest.raises(ValueError, match="autoreset_mode"):
        EmbedVectorObservation(SyncVectorEnv([Drift], autoreset_mode=AutoresetMode.SAME_STEP), client)
