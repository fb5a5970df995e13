"""What a training step minimises. Dims: B batch, K later frames of each row, N patches, D embed."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.jepa import JEPA
from model.training.batches import Batch
from model.training.recipe import Recipe


def prediction_loss(predicted: Tensor, target: Tensor, asked: Tensor | None = None) -> Tensor:
    """Smooth L1 (beta 1) between patch embeddings [B, N, D], mean over rows of those asked for,
    `asked` [B, N] (None: all)."""
    if asked is None:
        return F.smooth_l1_loss(predicted, target)
    each = F.smooth_l1_loss(predicted, target, reduction="none").mean(2)  # [B, N]
    return ((each * asked).sum(1) / asked.sum(1).clamp_min(1)).mean()


def later_frame_loss(
    jepa: JEPA, context: Tensor, frames: Tensor, horizon: Tensor, known: Tensor | None, recipe: Recipe
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, predicted, target) of predicting from the context embeddings [B, D] the K later ones of the encoded frames
    [B + K·B, M], which are `horizon` [K·B] frames on: the representation of every patch, what can be foreseen from
    it, and which columns rise and fall; the target encoder sees all groups `known` [B, G] of a row."""
    rows, times = len(context), len(horizon) // len(context)
    everywhere = context.repeat(1 + times, 1)
    known = None if known is None else known.repeat(1 + times, 1)
    inputs = _known_inputs(jepa, known)
    with torch.no_grad():
        later_known = None if known is None else known[rows:]
        target = jepa.target_encoder.patch_embeddings(frames[rows:], later_known).float()  # [K·B, N, D]
        later = jepa.target_encoder.pool(target, later_known)  # [K·B, D]
    predicted = jepa.predictor.predict_patches(everywhere[rows:], None, horizon).float()
    loss = recipe.prediction * prediction_loss(predicted, target)
    ahead = torch.cat([horizon.new_zeros(rows), horizon])
    loss = loss + recipe.anchor * jepa.anchor.loss(everywhere, frames, ahead, inputs)
    later_inputs = None if inputs is None else inputs[rows:]
    loss = loss + recipe.foresight * jepa.anchor.foresight_loss(everywhere[rows:], later, horizon, later_inputs)
    now = frames[:rows, : jepa.anchor.columns].repeat(times, 1)
    loss = loss + recipe.direction * jepa.anchor.direction_loss(
        everywhere[rows:], now, frames[rows:], horizon, later_inputs
    )
    return loss, predicted, target


def masked_groups_loss(
    jepa: JEPA, context: Tensor, row: Tensor, visible: Tensor, known: Tensor | None, recipe: Recipe
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, predicted, target) of predicting the patches of the same encoded rows [B, M] that `visible` [B, G] hides;
    a model of one patch predicts the whole row's representation from what is left of it."""
    with torch.no_grad():
        target = jepa.target_encoder.patch_embeddings(row, known).float()
    asked = None
    if target.shape[1] > 1:
        asked = ~jepa.context_encoder.visible_patches(visible)  # [B, N]
        # A row that hides nothing asks for all, so that no row of the attention mask is empty.
        asked = asked | ~asked.any(1, keepdim=True)
    predicted = jepa.predictor.predict_patches(context, asked).float()
    loss = prediction_loss(predicted, target, asked)
    same_frame = row.new_zeros(len(row))
    anchored = jepa.anchor.loss(context, row, same_frame, _known_inputs(jepa, known))
    return recipe.prediction * loss + recipe.anchor * anchored, predicted, target


def composite_loss(jepa: JEPA, batch: Batch, recipe: Recipe) -> Tensor:
    """What the embedding of a composite row tells of the row's own columns.

    What is the same throughout a game, its stage for one, can be told from anything that is peculiar to that game, and
    with few games is, which is of no use in the next. In a composite only its own columns tell of it (the mixing of
    examples is that of CutMix, Yun et al. 2019).
    """
    composites, known = jepa.encoding(batch.composites), batch.composites_known
    context = jepa.context_encoder(composites, known)
    now = composites.new_zeros(len(composites))
    return recipe.composite * jepa.anchor.loss(context, composites, now, _known_inputs(jepa, known))


class Objective(nn.Module):
    """Batch → (loss, predicted, target, context embedding). The loss must be a mean over rows: that of a batch is the
    mean of its shares' losses."""

    def __init__(self, jepa: JEPA, recipe: Recipe) -> None:
        super().__init__()
        self.jepa = jepa
        self.recipe = recipe

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = len(batch.visible)
        encoded = self.jepa.encoding(batch.rows)  # [B + K·B, M]
        context = self.jepa.context_encoder(encoded[:rows], batch.visible)
        if len(batch.horizon):
            made = later_frame_loss(self.jepa, context, encoded, batch.horizon, batch.known, self.recipe)
        else:
            made = masked_groups_loss(self.jepa, context, encoded, batch.visible, batch.known, self.recipe)
        loss, predicted, target = made
        return loss + composite_loss(self.jepa, batch, self.recipe), predicted, target, context


def _known_inputs(jepa: JEPA, known: Tensor | None) -> Tensor | None:
    """[B, G] bool → [B, M] as 0 and 1."""
    return None if known is None else known.float() @ jepa.context_encoder.group_inputs
