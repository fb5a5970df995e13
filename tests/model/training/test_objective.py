import math
from dataclasses import replace

import pytest
import torch

from model.training import losses
from model.training.batches import Batch
from model.training.forward_pass import forward_pass
from model.training.objective import Objective
from model.training.recipe import Recipe
from tests.support.games import make_games

TERMS = ("prediction", "anchor", "foresight", "direction", "composite")


@pytest.fixture
def batch():
    rows = torch.from_numpy(make_games(episodes=2).features)
    visible = torch.tensor([[True, False, True]] * 4)
    return Batch(torch.cat([rows[:4], rows[10:14]]), torch.full((4,), 10.0), visible, None, rows[200:201], None)


@pytest.fixture
def networks(jepa_and_rows):
    jepa, rows = jepa_and_rows
    jepa.column_heads.measure_directions(10, [(rows[:-10], rows[10:])])
    return jepa


def test_the_objective_is_the_recipes_weighted_sum_of_terms(networks, batch):
    recipe = Recipe(prediction=2.0, anchor=3.0, foresight=5.0, direction=7.0, composite=11.0)
    out = forward_pass(networks, batch)
    terms = [getattr(losses, f"{name}_loss")(networks, out) for name in TERMS]
    assert all(term > 0 for term in terms)
    expected = sum(getattr(recipe, name) * term for name, term in zip(TERMS, terms, strict=True))
    torch.testing.assert_close(Objective(networks, recipe)(batch), expected)


@pytest.mark.parametrize("name", TERMS)
def test_a_term_of_no_weight_is_not_computed(networks, batch, name):
    recipe = replace(Recipe(), **dict.fromkeys(TERMS, 0.0) | {name: 1.0})
    objective = Objective(networks, recipe)
    assert objective.terms == [(1.0, getattr(losses, f"{name}_loss"))]
    objective(batch).backward()
    trained = any(weight.grad is not None for weight in networks.predictor.parameters())
    assert trained == (name == "prediction")


@pytest.mark.parametrize(("name", "weight"), [("direction", -1.0), ("anchor", float("nan")), ("composite", math.inf)])
def test_a_weight_below_0_or_not_finite_is_refused(name, weight):
    with pytest.raises(ValueError, match=rf"{name} is {weight}; it must be a number from 0 to 1,000,000"):
        replace(Recipe(), **{name: weight})


def test_an_objective_of_no_terms_is_refused():
    with pytest.raises(ValueError, match="every term of the loss has weight 0; give one of them more"):
        replace(Recipe(), **dict.fromkeys(TERMS, 0.0))
