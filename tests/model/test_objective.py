import numpy as np
import pytest
import torch

from model.encoding import FeatureEncoding, column_statistics
from model.jepa import JEPA, NOW
from model.objective import later_frame_loss, masked_groups_loss, prediction_loss
from model.recipe import Recipe
from tests.support.games import make_games

Z = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).double()


def test_prediction_loss_counts_only_the_patches_asked_for():
    predicted, target = Z.view(10, 5, 6), torch.zeros(10, 5, 6).double()
    asked = torch.zeros(10, 5, dtype=torch.bool)
    asked[:, 2] = True
    expected = prediction_loss(predicted[:, 2:3], target[:, 2:3])
    torch.testing.assert_close(prediction_loss(predicted, target, asked), expected)


@pytest.fixture
def jepa():
    games = make_games(episodes=2)
    encoding = FeatureEncoding.fit(games.features, games.schema, column_statistics(games.features))
    recipe = Recipe(
        embed_dim=16, predictor_embed_dim=8, encoder_depth=1, predictor_depth=1, num_heads=4, tokens="groups"
    )
    return JEPA(recipe.config(games.schema, ordered=True), encoding).eval(), encoding(torch.from_numpy(games.features))


def seen_by(anchor, ahead, embedding):
    """What the map of that horizon makes of an embedding [D], in NumPy."""
    head = anchor.heads[anchor.horizons.index(ahead)]
    return head.weight.detach().numpy() @ embedding.detach().numpy() + head.bias.detach().numpy()


def test_the_anchor_is_half_the_squared_distance_to_the_standardised_columns_by_each_horizons_own_linear_map(jepa):
    networks, rows = jepa
    anchor, context, later = networks.anchor, networks.context_encoder(rows[:8]), rows[6:14]
    horizon = torch.tensor([5.0, 30, 0, 20, 20, 0, 1, 5])
    expected = 0.0
    for row, frames in enumerate(horizon.int().tolist()):
        distance = seen_by(anchor, frames, context[row]) - later[row, : anchor.columns].numpy()
        expected += (NOW if frames == 0 else 1) * (distance**2 / 2).mean() / 8
    np.testing.assert_allclose(anchor.loss(context, later, horizon, None).item(), expected, rtol=1e-4)


def test_foresight_compares_what_two_moments_foresee_of_a_third(jepa):
    networks, rows = jepa
    anchor, context, later = networks.anchor, networks.context_encoder(rows[:6]), networks.target_encoder(rows[6:12])
    assert anchor.horizons == (0, 1, 5, 10, 20, 30, 60)
    horizon = torch.tensor([5.0, 10, 20, 30, 1, 60])
    # 10 frames on, the later frame can look 10 and 20 further; from 1 and 60 on, nothing is looked at from both.
    pairs = [(0, 5, 10), (1, 10, 20), (1, 20, 30), (2, 10, 30), (3, 30, 60)]
    known = torch.ones(6, len(networks.encoding.columns))
    known[3, 2] = 0.0
    expected = 0.0
    for row, further, straight in pairs:
        distance = seen_by(anchor, straight, context[row]) - seen_by(anchor, further, later[row])
        expected += (known[row, : anchor.columns].numpy() * distance**2 / 2).mean() / 6
    np.testing.assert_allclose(anchor.foresight_loss(context, later, horizon, known).item(), expected, rtol=1e-4)


def test_foresight_moves_what_is_foreseen_from_here_alone(jepa):
    networks, rows = jepa
    context, later = networks.context_encoder(rows[:8]), networks.target_encoder(rows[30:38]).requires_grad_()
    networks.anchor.foresight_loss(context, later, torch.full((8,), 30.0), None).backward()
    assert later.grad is None
    moved = [head.weight.grad is not None and bool(head.weight.grad.any()) for head in networks.anchor.heads]
    assert moved == [ahead == 60 for ahead in networks.anchor.horizons]
    assert networks.context_encoder.position.grad.abs().sum() > 0


def test_the_anchor_adds_to_the_loss_and_not_to_the_prediction(jepa):
    networks, rows = jepa
    context = networks.context_encoder(rows[:8])
    horizon = torch.full((8,), 10.0)
    frames = torch.cat([rows[:8], rows[6:14]])
    plain = later_frame_loss(networks, context, frames, horizon, None, Recipe(anchor=0.0, foresight=0.0))
    anchored = later_frame_loss(networks, context, frames, horizon, None, Recipe(anchor=2.0, foresight=0.0))
    torch.testing.assert_close(anchored[1], plain[1])
    now = networks.anchor.loss(context, rows[:8], torch.zeros(8), None)
    later = networks.anchor.loss(context, rows[6:14], horizon, None)
    torch.testing.assert_close(anchored[0], plain[0] + now + later)


def test_several_later_frames_of_a_row_count_alike(jepa):
    networks, rows = jepa
    context, known = networks.context_encoder(rows[:8]), torch.tensor([[True, True, False]] * 3 + [[True] * 3] * 5)
    first, second, both = torch.full((8,), 5.0), torch.full((8,), 30.0), torch.tensor([5.0] * 8 + [30.0] * 8)
    recipe = Recipe(anchor=0.0)  # which counts the frame itself, too
    one = later_frame_loss(networks, context, torch.cat([rows[:8], rows[6:14]]), first, known, recipe)
    other = later_frame_loss(networks, context, torch.cat([rows[:8], rows[30:38]]), second, known, recipe)
    together = later_frame_loss(networks, context, torch.cat([rows[:8], rows[6:14], rows[30:38]]), both, known, recipe)
    torch.testing.assert_close(together[0], (one[0] + other[0]) / 2)


def test_what_a_side_cannot_know_reaches_no_target(jepa):
    networks, rows = jepa
    known = torch.tensor([[True, True, False]]).expand(8, 3)
    changed = rows[:8].clone()
    changed[:, [i for i, column in enumerate(networks.encoding.columns) if column >= 6]] = 0.25
    context, horizon = networks.context_encoder(rows[:8]), torch.full((8,), 10.0)
    first = later_frame_loss(networks, context, rows[:8].repeat(2, 1), horizon, known, Recipe(anchor=1.0))
    second = later_frame_loss(networks, context, changed.repeat(2, 1), horizon, known, Recipe(anchor=1.0))
    torch.testing.assert_close(first[2][:, :2], second[2][:, :2])
    torch.testing.assert_close(first[0], second[0])


def test_masked_groups_are_predicted_only_where_hidden(jepa):
    networks, rows = jepa
    visible = torch.tensor([[True, False, True]] * 4 + [[True, True, True]] * 4)
    context = networks.context_encoder(rows[:8], visible)
    loss, predicted, target = masked_groups_loss(networks, context, rows[:8], visible, None, Recipe(anchor=0.0))
    asked = torch.tensor([[False, True, False]] * 4 + [[True, True, True]] * 4)
    torch.testing.assert_close(loss, prediction_loss(predicted, target, asked))
