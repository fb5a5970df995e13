"""A run whose predictor takes the player's own inputs: it learns from them, is saved with them, and goes on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.training.checkpoint import load_checkpoint
from model.training.forward_pass import forward_pass, predict
from model.training.loop import train
from model.training.run import prepare, resume
from tests.support.games import make_games
from tests.support.small_run import SMALL, trained, weights


def seed():
    return torch.Generator().manual_seed(0)


def pushed(episodes=6, length=120, seed=0):
    """Games in which the player's input alone decides where it goes next: a class of three, recorded before."""
    games, rng = make_games(episodes, length, seed=seed), np.random.default_rng(seed)
    push = rng.integers(0, 3, len(games)).astype(np.float32)
    features = games.features.copy()
    features[1:, 0] = push[:-1] - 1
    return replace(
        games, features=features, actions=push[:, None], action_names=("push",), actions_recorded=("before",)
    )


@pytest.fixture(scope="module")
def games():
    return pushed()


def test_the_loss_is_that_of_the_predictor_that_is_told_the_inputs_of_the_batch(games):
    run = prepare(games, SMALL)
    batch = run.batches.draw(run.train_rows, 32, seed())
    jepa = run.jepa.eval()
    out = forward_pass(jepa, batch)
    told = ~batch.actions.isnan()
    assert told.any()
    now = torch.from_numpy(games.features)[run.train_rows[torch.randint(len(run.train_rows), (32,), generator=seed())]]
    torch.testing.assert_close(batch.rows[:32], now)
    found = predict(jepa, out)[:, 0]
    expected = jepa.predictor(out.context[32:], None, batch.horizon, batch.actions)
    torch.testing.assert_close(found, expected)
    blind = jepa.predictor(out.context[32:], None, batch.horizon)
    moved = (found - blind).abs().amax(1) > 1e-7
    within = told[:, :, 0] & (torch.arange(1, 25) <= batch.horizon[:, None])
    assert torch.equal(moved, within.any(1))


def test_a_stopped_run_resumes_to_the_weights_of_an_unbroken_one_and_knows_its_inputs(games, tmp_path):
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    trained(prepare(games, SMALL), whole)
    train(prepare(games, SMALL), broken, lambda _: None, lambda step: step < 4, every=3)
    trained(resume(games, broken), broken)
    checkpoint = load_checkpoint(whole)
    assert checkpoint.actions == ("push",)
    assert (checkpoint.jepa.config.actions, checkpoint.jepa.config.max_actions) == (1, 24)
    assert checkpoint.jepa.predictor.actions.encoding.values(0) == [0, 1, 2]
    resumed = weights(load_checkpoint(broken))
    for name, value in weights(checkpoint).items():
        torch.testing.assert_close(resumed[name], value, atol=0, rtol=0, msg=name)


def test_a_run_does_not_go_on_with_other_inputs(games, tmp_path):
    path = tmp_path / "c.safetensors"
    train(prepare(games, SMALL), path, lambda _: None, lambda step: step < 2, every=3)
    other = replace(games, action_names=("pull",))
    with pytest.raises(ValueError, match="trained with the inputs push, and this data has pull; give it the same data"):
        resume(other, path)
    with pytest.raises(ValueError, match="trained with the inputs push, and this data has none"):
        resume(replace(games, actions=None, action_names=(), actions_recorded=()), path)


@pytest.mark.parametrize("without", ["max_actions=0", "no order"])
def test_where_no_inputs_are_wanted_the_networks_are_those_without(games, without):
    plain = replace(games, actions=None, action_names=(), actions_recorded=())
    if without == "no order":
        games, plain, recipe = replace(games, frame=None), replace(plain, frame=None), SMALL
    else:
        recipe = replace(SMALL, max_actions=0)
    found, expected = (prepare(each, recipe).checkpoint for each in (games, plain))
    assert found.actions == ()
    for name, value in weights(expected).items():
        torch.testing.assert_close(weights(found)[name], value, atol=0, rtol=0)


def test_more_inputs_than_a_bundle_holds_are_refused_by_name(games):
    wide = replace(
        games,
        actions=np.zeros((len(games), 6000), np.float32),
        action_names=tuple(f"a{i}" for i in range(6000)),
        actions_recorded=("before",) * 6000,
    )
    with pytest.raises(ValueError, match=r"6,000 action columns, 144,000 numbers in 24 frames; .* --set max_actions=0"):
        prepare(wide, SMALL)
