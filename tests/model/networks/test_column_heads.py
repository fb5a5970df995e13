import numpy as np
import torch

from model.networks.column_heads import direction


def test_direction_is_what_rises_and_what_falls_by_more_than_rounding():
    now, later = torch.zeros(2, 4), torch.tensor([[0.5, -0.5, 1e-6, 9.0], [0.0, 2.0, -1e-6, 9.0]])
    assert direction(now, later, 3).tolist() == [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0]]


def test_directions_are_standardised_by_how_often_they_are_taken(jepa_and_rows):
    networks, rows = jepa_and_rows
    heads = networks.column_heads
    heads.measure_directions(20, ((part[:-20], part[20:]) for part in (rows[:70], rows[90:160])))
    taken = np.concatenate([direction(part[:-20], part[20:], heads.columns) for part in (rows[:70], rows[90:160])])
    place = heads.horizons.index(20) - 1
    np.testing.assert_allclose(heads.direction_share[place], taken.mean(0), rtol=1e-5)
    never = taken.std(0) < 0.02
    assert 0 < never.sum() < len(never)
    scale = np.where(never, 0, 1 / np.maximum(taken.std(0), 0.05))
    np.testing.assert_allclose(heads.direction_scale[place], scale, rtol=1e-3)
    assert not heads.direction_scale[place + 1].any(), "only the horizon that was measured"
