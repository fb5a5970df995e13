from dataclasses import replace

import torch

from model.training.batches import Batch
from model.training.objective import composite_loss, later_frame_loss, masked_groups_loss, prediction_loss
from model.training.recipe import Recipe

Z = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).double()


def test_prediction_loss_counts_only_the_patches_asked_for():
    predicted, target = Z.view(10, 5, 6), torch.zeros(10, 5, 6).double()
    asked = torch.zeros(10, 5, dtype=torch.bool)
    asked[:, 2] = True
    expected = prediction_loss(predicted[:, 2:3], target[:, 2:3])
    torch.testing.assert_close(prediction_loss(predicted, target, asked), expected)


def test_the_anchor_adds_to_the_loss_and_not_to_the_prediction(jepa_and_rows):
    networks, rows = jepa_and_rows
    context = networks.context_encoder(rows[:8])
    horizon = torch.full((8,), 10.0)
    frames = torch.cat([rows[:8], rows[6:14]])
    recipe = Recipe(anchor=0.0, foresight=0.0, direction=0.0)
    plain = later_frame_loss(networks, context, frames, horizon, None, recipe)
    anchored = later_frame_loss(networks, context, frames, horizon, None, replace(recipe, anchor=2.0))
    torch.testing.assert_close(anchored[1], plain[1])
    now = networks.anchor.loss(context, rows[:8], torch.zeros(8), None)
    later = networks.anchor.loss(context, rows[6:14], horizon, None)
    torch.testing.assert_close(anchored[0], plain[0] + now + later)


def test_several_later_frames_of_a_row_count_alike(jepa_and_rows):
    networks, rows = jepa_and_rows
    context, known = networks.context_encoder(rows[:8]), torch.tensor([[True, True, False]] * 3 + [[True] * 3] * 5)
    first, second, both = torch.full((8,), 5.0), torch.full((8,), 30.0), torch.tensor([5.0] * 8 + [30.0] * 8)
    recipe = Recipe(anchor=0.0)  # which counts the frame itself, too
    one = later_frame_loss(networks, context, torch.cat([rows[:8], rows[6:14]]), first, known, recipe)
    other = later_frame_loss(networks, context, torch.cat([rows[:8], rows[30:38]]), second, known, recipe)
    together = later_frame_loss(networks, context, torch.cat([rows[:8], rows[6:14], rows[30:38]]), both, known, recipe)
    torch.testing.assert_close(together[0], (one[0] + other[0]) / 2)


def test_what_a_side_cannot_know_reaches_no_target(jepa_and_rows):
    networks, rows = jepa_and_rows
    known = torch.tensor([[True, True, False]]).expand(8, 3)
    changed = rows[:8].clone()
    changed[:, [i for i, column in enumerate(networks.encoding.columns) if column >= 6]] = 0.25
    context, horizon = networks.context_encoder(rows[:8]), torch.full((8,), 10.0)
    first = later_frame_loss(networks, context, rows[:8].repeat(2, 1), horizon, known, Recipe(anchor=1.0))
    second = later_frame_loss(networks, context, changed.repeat(2, 1), horizon, known, Recipe(anchor=1.0))
    torch.testing.assert_close(first[2][:, :2], second[2][:, :2])
    torch.testing.assert_close(first[0], second[0])


def test_masked_groups_are_predicted_only_where_hidden(jepa_and_rows):
    networks, rows = jepa_and_rows
    visible = torch.tensor([[True, False, True]] * 4 + [[True, True, True]] * 4)
    context = networks.context_encoder(rows[:8], visible)
    loss, predicted, target = masked_groups_loss(networks, context, rows[:8], visible, None, Recipe(anchor=0.0))
    asked = torch.tensor([[False, True, False]] * 4 + [[True, True, True]] * 4)
    torch.testing.assert_close(loss, prediction_loss(predicted, target, asked))


def test_the_embedding_of_a_composite_is_asked_for_its_own_columns_that_its_side_can_know(jepa_and_rows):
    networks, _ = jepa_and_rows
    composites = torch.randn(2, networks.anchor.columns)
    known = torch.tensor([[True, True, True]] * 4 + [[True, True, False]] * 4)  # of the rows 0 and 4
    batch = Batch(torch.empty(8, 0), torch.empty(0), known, known, composites, known[::4])
    encoded = networks.encoding(composites)
    inputs = known[::4].float() @ networks.context_encoder.group_inputs
    context = networks.context_encoder(encoded, known[::4])
    expected = 3 * networks.anchor.loss(context, encoded, torch.zeros(2), inputs)
    torch.testing.assert_close(composite_loss(networks, batch, Recipe(composite=3.0)), expected)
    unknown = batch._replace(composites=composites.clone())
    unknown.composites[1, networks.config.groups[2].start :] += 1
    torch.testing.assert_close(composite_loss(networks, unknown, Recipe(composite=3.0)), expected)
