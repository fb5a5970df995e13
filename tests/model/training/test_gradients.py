import pytest
import torch

from bundle.columns import column_statistics
from model.data.ranges import Ranges
from model.networks.dropout import draws
from model.networks.encoding import FeatureEncoding
from model.networks.jepa import JEPA
from model.training.batches import Batches
from model.training.devices import launch, threads_an_operation
from model.training.gradients import Gradients
from model.training.objective import Objective
from model.training.recipe import Recipe
from tests.support.games import make_games

SMALL = Recipe(
    embed_dim=16, predictor_embed_dim=8, encoder_depth=1, predictor_depth=1, num_heads=4, horizons=(2, 5), anchor=1.0
)


@pytest.fixture(scope="module")
def objective():
    games = make_games()
    torch.manual_seed(0)
    encoding = FeatureEncoding.fit(games.features, games.schema, column_statistics(games.features))
    return Objective(JEPA(SMALL.config(games.schema, ordered=True), encoding), SMALL)


@pytest.fixture(scope="module")
def draw():
    games = make_games()
    batches = Batches(games, SMALL.horizons, SMALL.hide_share, (), torch.device("cpu"))
    rows = batches.with_later_rows(Ranges.all(len(games)))
    return lambda rank, ranks: batches.draw(rows, 48, torch.Generator().manual_seed(0), rank=rank, ranks=ranks)


def gradients(objective, draw, threads, *, half=False):
    learned = [weight for weight in objective.parameters() if weight.requires_grad]
    with threads_an_operation(threads):
        made = Gradients(objective, learned, 48, launch(accelerator="cpu"), half=half)
        for weight in learned:
            weight.grad = None
        return made, made(draw, 5), [weight.grad for weight in learned]


@pytest.mark.parametrize(("threads", "shares"), [(2, 2), (3, 3), (5, 4), (64, 4)])
def test_the_shares_of_a_batch_have_its_loss_and_its_gradient(objective, draw, threads, shares):
    alone, loss, expected = gradients(objective, draw, 1)
    assert (alone.shares, alone.threads) == (1, 1)
    shared, shared_loss, found = gradients(objective, draw, threads)
    assert (shared.shares, shared.threads) == (shares, threads // shares)
    torch.testing.assert_close(shared_loss, loss)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_gradient_is_that_of_backward(objective, draw):
    _, loss, found = gradients(objective, draw, 2)
    learned = [weight for weight in objective.parameters() if weight.requires_grad]
    for weight in learned:
        weight.grad = None
    with draws(5, 0, 1, torch.device("cpu")):
        whole = objective(draw(0, 1))
    whole.backward()
    torch.testing.assert_close(loss, whole.detach())
    for weight, one in zip(learned, found, strict=True):
        assert (weight.grad is None) == (one is None)
        if one is not None:
            torch.testing.assert_close(one, weight.grad)


def test_a_batch_that_no_other_number_divides_is_one_share(objective):
    with threads_an_operation(4):
        assert Gradients(objective, [], 7, launch(accelerator="cpu"), half=False).shares == 1


def test_an_error_in_a_share_reaches_the_caller(objective):
    def draw(rank, ranks):
        raise ValueError(f"share {rank} of {ranks}")

    with pytest.raises(ValueError, match="share 0 of 2"):
        gradients(objective, draw, 2)


def test_half_precision_rounds_and_no_more(objective, draw):
    _, loss, _ = gradients(objective, draw, 2)
    _, rounded, found = gradients(objective, draw, 2, half=True)
    torch.testing.assert_close(rounded, loss, rtol=0.02, atol=0)
    assert all(gradient.dtype == torch.float32 for gradient in found if gradient is not None)
