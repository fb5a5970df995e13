"""A number that is missing hides its group in that row: nothing is learned from what stands in its place."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bundle.columns import column_statistics
from bundle.schema import Group, Schema
from model.data.ranges import Ranges
from model.export.bundle import questions
from model.networks.encoding import FeatureEncoding
from model.networks.jepa import JEPA
from model.networks.predictor import Predictor
from model.training.batches import Batches
from model.training.held_out import loss_quantiles
from model.training.objective import Objective
from model.training.recipe import Recipe
from model.training.run import prepare
from tests.support.games import make_games

HORIZONS = (2, 5)
# Of a number in whose place it could be taken for one.
ELSEWHERE = 3.0


@pytest.fixture(scope="module")
def games():
    """With gaps in own, now and later, and in rows of their own in opp."""
    games = make_games(episodes=3, length=60)
    absent = np.zeros((len(games), 3), bool)
    absent[np.arange(len(games)) % 3 == 0, 0] = True
    absent[np.arange(len(games)) % 7 == 0, 1] = True
    return replace(games, absent=absent)


def learned(games, recipe):
    """The loss of a step and what each weight learns from it."""
    torch.manual_seed(0)
    shown = make_games(episodes=3, length=60).features
    encoding = FeatureEncoding.fit(shown, games.schema, column_statistics(shown))
    jepa = JEPA(recipe.config(games.schema, ordered=games.frame is not None), encoding).eval()
    for ahead in jepa.column_heads.ahead:
        rows = encoding(torch.from_numpy(shown))
        jepa.column_heads.measure_directions(ahead, [(rows[:-10], rows[ahead : len(rows) - 10 + ahead])])
    batches = Batches(games, jepa.config.horizons, recipe.hide_share, (), torch.device("cpu"))
    usable = batches.with_later_rows(Ranges.all(len(games)))
    loss = Objective(jepa, recipe)(batches.draw(usable, 64, torch.Generator().manual_seed(0)))
    loss.backward()
    return loss.item(), [weight.grad for weight in jepa.parameters() if weight.grad is not None]


@pytest.mark.parametrize("tokens", ["row", "groups"])
@pytest.mark.parametrize("ordered", [True, False])
def test_what_stands_in_place_of_a_missing_number_changes_nothing_that_is_learned(games, tokens, ordered):
    recipe = Recipe(
        horizons=HORIZONS, tokens=tokens, embed_dim=16, predictor_embed_dim=16,
        encoder_depth=1, predictor_depth=1, num_heads=2,
    )  # fmt: skip
    games = games if ordered else replace(games, frame=None)
    columns = np.repeat(games.absent, [group.width for group in games.schema.groups], axis=1)
    other = replace(games, features=np.where(columns, np.float32(ELSEWHERE), games.features))
    loss, gradients = learned(games, recipe)
    loss_of_other, gradients_of_other = learned(other, recipe)
    assert loss == loss_of_other
    assert all(torch.equal(one, same) for one, same in zip(gradients, gradients_of_other, strict=True))
    assert learned(replace(other, absent=None), recipe)[0] != loss


@pytest.mark.parametrize("ordered", [True, False])
def test_what_stands_in_place_of_a_missing_number_changes_no_network_no_sample_and_no_quantile(games, ordered):
    recipe = Recipe(
        horizons=HORIZONS, batch_size=8, embed_dim=16, predictor_embed_dim=16, encoder_depth=1, predictor_depth=1,
        num_heads=2,
    )  # fmt: skip
    games = games if ordered else replace(games, frame=None)
    columns = np.repeat(games.absent, [group.width for group in games.schema.groups], axis=1)
    other = replace(games, features=np.where(columns, np.float32(ELSEWHERE), games.features))
    one, same = prepare(games, recipe), prepare(other, recipe)
    weights = [each.jepa.state_dict().values() for each in (one, same)]
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True))
    assert np.array_equal(one.checkpoint.sample, same.checkpoint.sample, equal_nan=True)
    assert np.isnan(one.checkpoint.sample).any()
    assert loss_quantiles(one, one.jepa) == loss_quantiles(same, same.jepa)
    shown = prepare(replace(other, absent=None), recipe)
    assert loss_quantiles(shown, shown.jepa) != loss_quantiles(one, one.jepa)


def test_a_row_with_gaps_is_asked_about_with_a_group_left():
    schema = Schema(("own_x", "own_y", "opp_x"), (Group("own", 0, 2), Group("opp", 2, 3)))
    config = Recipe(embed_dim=16, predictor_embed_dim=16, predictor_depth=1, num_heads=2).config(schema, ordered=False)
    rows = np.ones((12, 3), np.float32)
    rows[::2, 2], rows[1::4, :2] = np.nan, np.nan
    asked = np.isnan(questions(Predictor(config), schema, rows)["features"])
    assert not asked.all(1).any()
    assert asked[~np.isnan(rows).any(1)].any()
