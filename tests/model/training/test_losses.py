"""Each term of the loss against a formula in NumPy, on small networks with a token a group."""

import numpy as np
import pytest
import torch

from model.networks.column_heads import direction
from model.training.batches import Batch
from model.training.forward_pass import forward_pass
from model.training.losses import (
    CURRENT_FRAME_WEIGHT,
    anchor_loss,
    composite_loss,
    direction_loss,
    foresight_loss,
    patch_loss,
    prediction_loss,
)
from tests.support.games import make_games

TERMS = (prediction_loss, anchor_loss, foresight_loss, direction_loss, composite_loss)


def smooth_l1(predicted, target):
    """½d² where |d| < 1, else |d| − ½, of each element."""
    distance = np.abs(predicted - target)
    return np.where(distance < 1, distance**2 / 2, distance - 0.5)


def linear(head, embedding):
    """What a linear map makes of an embedding [D]."""
    return head.weight.detach().numpy() @ embedding.detach().numpy() + head.bias.detach().numpy()


def columns_seen_from(heads, ahead, embedding):
    return linear(heads.heads[heads.horizons.index(ahead)], embedding)


@pytest.fixture
def networks(jepa_and_rows):
    """They know how often columns rise and fall, and predict so badly that some distances are over 1."""
    jepa, rows = jepa_and_rows
    for ahead in jepa.column_heads.ahead:
        jepa.column_heads.measure_directions(ahead, [(rows[:-60], rows[ahead : len(rows) - 60 + ahead])])
    with torch.no_grad():
        jepa.predictor.project_back.weight *= 20
    return jepa


@pytest.fixture
def games():
    return torch.from_numpy(make_games(episodes=2).features)


def batch_of(games, later=(6, 30), horizon=(5.0, 30.0), known=None, visible=None):
    """The frames 0 … 3 of a game and for each of `later` those so many on, said to be `horizon` ahead."""
    everything = torch.ones(4, 3, dtype=torch.bool)
    rows = torch.cat([games[:4], *(games[start : start + 4] for start in later)])
    composites = torch.cat([games[4:5, :3], games[204:205, 3:]], dim=1)
    return Batch(
        rows=rows,
        horizon=torch.tensor(horizon).repeat_interleave(4) if later else torch.empty(0),
        visible=everything if visible is None else visible,
        known=known,
        composites=composites,
        composites_known=None if known is None else known[:1],
    )


SOME_KNOWN = torch.tensor([[True, True, False], [True, True, True], [True, False, True], [True, True, True]])
KNOWN = pytest.mark.parametrize("known", [None, SOME_KNOWN], ids=["all known", "some known"])


def counted(networks, known):
    """Which columns [4, columns] of the four rows can be known."""
    columns = networks.column_heads.columns
    if known is None:
        return np.ones((4, columns))
    return (known.float() @ networks.context_encoder.group_inputs)[:, :columns].numpy()


@KNOWN
def test_prediction_is_smooth_l1_to_the_target_encoders_representation_of_later_frames(networks, games, known):
    batch = batch_of(games, known=known)
    encoded = networks.encoding(batch.rows)
    context = networks.context_encoder(encoded[:4], batch.visible)
    expected = []
    for place, horizon in ((1, 5.0), (2, 30.0)):
        target = networks.target_encoder.patch_embeddings(encoded[4 * place : 4 * place + 4], known)
        predicted = networks.predictor.predict_patches(context, None, torch.full((4,), horizon))
        expected.append(smooth_l1(predicted.detach().numpy(), target.detach().numpy()))
    assert np.max(expected) > 0.5, "the linear part of smooth L1 is there too"
    found = prediction_loss(networks, forward_pass(networks, batch)).item()
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-4)


def test_prediction_of_rows_without_order_counts_the_groups_hidden_from_them(networks, games):
    visible = torch.tensor([[True, False, True], [False, False, True], [True, True, True], [True, True, False]])
    asked = ~visible | visible.all(1, keepdim=True)  # of a row that hides nothing, all
    batch = batch_of(games, later=(), visible=visible)
    encoded = networks.encoding(batch.rows)
    target = networks.target_encoder.patch_embeddings(encoded).detach().numpy()
    context = networks.context_encoder(encoded, visible)
    predicted = networks.predictor.predict_patches(context, asked).detach().numpy()
    each = smooth_l1(predicted, target).mean(2)
    expected = np.mean([row[which].mean() for row, which in zip(each, asked.numpy(), strict=True)])
    np.testing.assert_allclose(prediction_loss(networks, forward_pass(networks, batch)).item(), expected, rtol=1e-4)


def test_patches_that_nobody_asked_for_count_nothing():
    predicted, target = torch.randn(10, 5, 6, dtype=torch.double), torch.zeros(10, 5, 6, dtype=torch.double)
    asked = torch.zeros(10, 5, dtype=torch.bool)
    asked[:, 2] = True
    expected = patch_loss(predicted[:, 2:3], target[:, 2:3])
    torch.testing.assert_close(patch_loss(predicted, target, asked), expected)


@KNOWN
def test_the_anchor_is_half_the_squared_distance_to_the_columns_by_a_map_a_horizon(networks, games, known):
    out, heads = forward_pass(networks, batch_of(games, known=known)), networks.column_heads
    frames, weights, expected = networks.encoding(out.batch.rows).numpy(), counted(networks, known), 0.0
    for i, ahead in enumerate([0] * 4 + [5] * 4 + [30] * 4):
        distance = columns_seen_from(heads, ahead, out.context[i % 4]) - frames[i, : heads.columns]
        frame_weight = CURRENT_FRAME_WEIGHT if ahead == 0 else 1
        expected += frame_weight * (weights[i % 4] * distance**2 / 2).mean() / 12
    np.testing.assert_allclose(anchor_loss(networks, out).item(), expected, rtol=1e-4)


@KNOWN
def test_foresight_compares_what_two_moments_predict_of_a_third(networks, games, known):
    out, heads = forward_pass(networks, batch_of(games, horizon=(10.0, 20.0), known=known)), networks.column_heads
    assert heads.horizons == (0, 1, 5, 10, 18, 20, 21, 30, 60)
    encoded = networks.encoding(out.batch.rows)
    weights, expected = counted(networks, known), 0.0
    # The frame 10 on can look 10 and 20 further; that 20 on only 1 and 10, since nothing here looks 40 ahead.
    for place, further, straight in ((1, 10, 20), (1, 20, 30), (2, 1, 21), (2, 10, 30)):
        later = networks.target_encoder(encoded[4 * place : 4 * place + 4], known)
        for i in range(4):
            here = columns_seen_from(heads, straight, out.context[i])
            distance = here - columns_seen_from(heads, further, later[i])
            expected += (weights[i] * distance**2 / 2).mean() / 8
    np.testing.assert_allclose(foresight_loss(networks, out).item(), expected, rtol=1e-4)


def test_foresight_moves_what_is_predicted_from_here_alone(networks, games):
    out = forward_pass(networks, batch_of(games, later=(30,), horizon=(30.0,)))
    foresight_loss(networks, out).backward()
    moved = [head.weight.grad is not None and bool(head.weight.grad.any()) for head in networks.column_heads.heads]
    assert moved == [ahead == 60 for ahead in networks.column_heads.horizons]
    assert networks.context_encoder.position.grad.abs().sum() > 0
    assert networks.target_encoder.position.grad is None


@KNOWN
def test_direction_is_half_the_squared_distance_to_the_standardised_directions(networks, games, known):
    out, heads = forward_pass(networks, batch_of(games, known=known)), networks.column_heads
    frames, weights, expected = networks.encoding(out.batch.rows), counted(networks, known), 0.0
    for i, ahead in enumerate([5] * 4 + [30] * 4):
        place, now, later = heads.ahead.index(ahead), frames[i % 4], frames[4 + i]
        share, scale = heads.direction_share[place].numpy(), heads.direction_scale[place].numpy()
        goal = (direction(now[None], later[None], heads.columns)[0].numpy() - share) * scale
        distance = linear(heads.directions[place], out.context[i % 4]) - goal
        expected += (np.tile(weights[i % 4], 2) * (scale > 0) * distance**2).sum() / 2 / heads.columns / 8
    assert expected > 0
    np.testing.assert_allclose(direction_loss(networks, out).item(), expected, rtol=1e-4)


@KNOWN
def test_a_composite_is_asked_for_its_own_columns_that_its_side_can_know(networks, games, known):
    out, heads = forward_pass(networks, batch_of(games, known=known)), networks.column_heads
    encoded, shown = networks.encoding(out.batch.composites), None if known is None else known[:1]
    embedding = networks.context_encoder(encoded, shown)[0]
    distance = columns_seen_from(heads, 0, embedding) - encoded[0, : heads.columns].numpy()
    expected = CURRENT_FRAME_WEIGHT * (counted(networks, known)[0] * distance**2 / 2).mean()
    np.testing.assert_allclose(composite_loss(networks, out).item(), expected, rtol=1e-4)


@pytest.mark.parametrize("term", TERMS)
def test_what_a_side_cannot_know_reaches_no_term(networks, games, term):
    known = torch.tensor([[True, True, False]]).expand(4, 3)
    batch = batch_of(games, known=known, visible=known)
    changed = batch.rows.clone(), batch.composites.clone()
    for rows in changed:
        rows[:, 6:] += 3
    other = batch._replace(rows=changed[0], composites=changed[1])
    first, second = (term(networks, forward_pass(networks, each)) for each in (batch, other))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("term", TERMS[:1] + TERMS[2:4])
def test_several_later_frames_of_a_row_count_alike(networks, games, term):
    one = batch_of(games, later=(6,), horizon=(5.0,), known=SOME_KNOWN)
    other = batch_of(games, later=(30,), horizon=(20.0,), known=SOME_KNOWN)
    both = batch_of(games, later=(6, 30), horizon=(5.0, 20.0), known=SOME_KNOWN)
    first, second, together = (term(networks, forward_pass(networks, batch)) for batch in (one, other, both))
    assert not torch.isclose(first, second)
    torch.testing.assert_close(together, (first + second) / 2)


@pytest.mark.parametrize("term", TERMS)
def test_the_loss_of_a_batch_is_the_mean_of_its_shares(networks, games, term):
    whole = batch_of(games, known=SOME_KNOWN)
    whole = whole._replace(composites=games[4:6], composites_known=SOME_KNOWN[:2])
    shares = [
        Batch(
            rows=whole.rows[[*rows, *(4 + i for i in rows), *(8 + i for i in rows)]],
            horizon=whole.horizon[[*rows, *(4 + i for i in rows)]],
            visible=whole.visible[rows],
            known=SOME_KNOWN[rows],
            composites=whole.composites[i : i + 1],
            composites_known=SOME_KNOWN[i : i + 1],
        )
        for i, rows in enumerate(([0, 1], [2, 3]))
    ]
    expected, *parts = (term(networks, forward_pass(networks, batch)) for batch in (whole, *shares))
    torch.testing.assert_close(torch.stack(parts).mean(), expected)


@pytest.mark.parametrize("term", [foresight_loss, direction_loss])
def test_rows_without_order_have_nothing_to_look_ahead_to(networks, games, term):
    assert term(networks, forward_pass(networks, batch_of(games, later=()))).item() == 0
