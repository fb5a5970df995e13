from dataclasses import replace

import pytest

from benchmarks.lab import training as benchmark
from model.training.loop import Training
from model.training.recipe import Recipe
from tests.support.games import make_games

RECIPE = Recipe(embed_dim=16, predictor_embed_dim=8, encoder_depth=1, predictor_depth=1, num_heads=1, batch_size=32)


def test_flops_are_those_of_the_products_of_every_row_forwards_and_backwards() -> None:
    training = Training(make_games(episodes=5, length=200), RECIPE)
    flops = benchmark.flops_a_step(training)
    # Of the MLP alone: used once forwards and twice backwards by each row, two operations each time.
    parameters = training.jepa.context_encoder.named_parameters()
    mlp = sum(each.numel() for name, each in parameters if name.startswith("blocks.0.mlp.") and each.ndim == 2)
    assert flops > 32 * 6 * mlp
    # Of two later frames drawn, more or less can be looked on from.
    twice = Training(make_games(episodes=5, length=200), replace(RECIPE, batch_size=64))
    assert benchmark.flops_a_step(twice) == pytest.approx(2 * flops, rel=0.02)
