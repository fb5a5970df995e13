"""What a training step minimises. Dims: B batch, K later frames of each row, N patches, D embed."""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.jepa import JEPA
from model.recipe import Recipe


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
    [B + K·B, M], which are `horizon` [K·B] frames on: the representation of every patch; the target encoder sees all
    groups `known` [B, G] of a row."""
    rows, times = len(context), len(horizon) // len(context)
    everywhere = context.repeat(1 + times, 1)
    known = None if known is None else known.repeat(1 + times, 1)
    with torch.no_grad():
        later_known = None if known is None else known[rows:]
        target = jepa.target_encoder.patch_embeddings(frames[rows:], later_known).float()  # [K·B, N, D]
    predicted = jepa.predictor.predict_patches(everywhere[rows:], None, horizon).float()
    loss = prediction_loss(predicted, target)
    ahead = torch.cat([horizon.new_zeros(rows), horizon])
    loss = recipe.prediction * loss + recipe.anchor * _anchor_loss(jepa, everywhere, frames, ahead, known)
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
    loss = recipe.prediction * loss + recipe.anchor * _anchor_loss(jepa, context, row, same_frame, known)
    return loss, predicted, target


def _anchor_loss(jepa: JEPA, context: Tensor, frames: Tensor, horizon: Tensor, known: Tensor | None) -> Tensor:
    known_inputs = None if known is None else known.float() @ jepa.context_encoder.group_inputs  # [B, M]
    return jepa.anchor.loss(context, frames, horizon, known_inputs)
