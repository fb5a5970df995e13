import numpy as np
import torch

from model.networks.column_heads import NOW, direction


def seen_by(anchor, ahead, embedding):
    """What the map of that horizon makes of an embedding [D], in NumPy."""
    head = anchor.heads[anchor.horizons.index(ahead)]
    return head.weight.detach().numpy() @ embedding.detach().numpy() + head.bias.detach().numpy()


def test_the_anchor_is_half_the_squared_distance_to_the_standardised_columns_by_a_map_a_horizon(jepa_and_rows):
    networks, rows = jepa_and_rows
    anchor, context, later = networks.anchor, networks.context_encoder(rows[:8]), rows[6:14]
    horizon = torch.tensor([5.0, 30, 0, 20, 20, 0, 1, 5])
    expected = 0.0
    for row, frames in enumerate(horizon.int().tolist()):
        distance = seen_by(anchor, frames, context[row]) - later[row, : anchor.columns].numpy()
        expected += (NOW if frames == 0 else 1) * (distance**2 / 2).mean() / 8
    np.testing.assert_allclose(anchor.loss(context, later, horizon, None).item(), expected, rtol=1e-4)


def test_foresight_compares_what_two_moments_foresee_of_a_third(jepa_and_rows):
    networks, rows = jepa_and_rows
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


def test_foresight_moves_what_is_foreseen_from_here_alone(jepa_and_rows):
    networks, rows = jepa_and_rows
    context, later = networks.context_encoder(rows[:8]), networks.target_encoder(rows[30:38]).requires_grad_()
    networks.anchor.foresight_loss(context, later, torch.full((8,), 30.0), None).backward()
    assert later.grad is None
    moved = [head.weight.grad is not None and bool(head.weight.grad.any()) for head in networks.anchor.heads]
    assert moved == [ahead == 60 for ahead in networks.anchor.horizons]
    assert networks.context_encoder.position.grad.abs().sum() > 0


def test_direction_is_what_rises_and_what_falls_by_more_than_rounding():
    now, later = torch.zeros(2, 4), torch.tensor([[0.5, -0.5, 1e-6, 9.0], [0.0, 2.0, -1e-6, 9.0]])
    assert direction(now, later, 3).tolist() == [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0]]


def test_directions_are_standardised_by_how_often_they_are_taken(jepa_and_rows):
    networks, rows = jepa_and_rows
    anchor = networks.anchor
    anchor.measure_directions(20, ((part[:-20], part[20:]) for part in (rows[:70], rows[90:160])))
    taken = np.concatenate([direction(part[:-20], part[20:], anchor.columns) for part in (rows[:70], rows[90:160])])
    place = anchor.horizons.index(20) - 1
    np.testing.assert_allclose(anchor.direction_share[place], taken.mean(0), rtol=1e-5)
    never = taken.std(0) < 0.02
    assert 0 < never.sum() < len(never)
    scale = np.where(never, 0, 1 / np.maximum(taken.std(0), 0.05))
    np.testing.assert_allclose(anchor.direction_scale[place], scale, rtol=1e-3)
    assert not anchor.direction_scale[place + 1].any(), "only the horizon that was measured"


def test_the_direction_loss_is_half_the_squared_distance_to_the_standardised_directions(jepa_and_rows):
    networks, rows = jepa_and_rows
    anchor, context, now, later = networks.anchor, networks.context_encoder(rows[:4]), rows[:4], rows[30:34]
    for ahead in (5, 60):
        anchor.measure_directions(ahead, [(rows[:-60], rows[ahead : len(rows) - 60 + ahead])])
    horizon = torch.tensor([5.0, 60, 60, 5])
    known = torch.ones(4, len(networks.encoding.columns))
    known[1, 2] = 0.0
    expected = 0.0
    for row, ahead in enumerate(horizon.int().tolist()):
        place = anchor.horizons.index(ahead) - 1
        head, scale = anchor.directions[place], anchor.direction_scale[place].numpy()
        goal = (direction(now, later, anchor.columns)[row] - anchor.direction_share[place]).numpy() * scale
        foreseen = head.weight.detach().numpy() @ context[row].detach().numpy() + head.bias.detach().numpy()
        counted = np.tile(known[row, : anchor.columns], 2) * (scale > 0)
        expected += (counted * (foreseen - goal) ** 2).sum() / 2 / anchor.columns / 4
    assert expected > 0
    np.testing.assert_allclose(anchor.direction_loss(context, now, later, horizon, known).item(), expected, rtol=1e-4)
