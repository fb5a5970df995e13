"""What the networks make of a batch. Dims: B batch, K later frames of each row, G groups, N patches, D embed, M encoded
columns; T = K·B later frames, or the B frames themselves where rows have no order."""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.networks.jepa import JEPA
from model.training.batches import Batch


@dataclass(frozen=True)
class ForwardPass:
    """Embeddings and their targets, for the terms of the loss to compare."""

    batch: Batch
    frames: Tensor  # [B + K·B, M]: the frames now, then the first later frame of each, then the second
    horizon: Tensor  # [B + K·B]: how many frames ahead each of them is, 0 for the first B
    context: Tensor  # [B + K·B, D]: the embedding of the frame now, repeated for each later frame of it
    known: Tensor | None  # [B + K·B, M] as 0 and 1: which columns can be known at all (None: all)
    target: Tensor  # [T, N, D]: the target encoder's representation, without gradient
    target_embedding: Tensor  # [T, D]

    @property
    def rows(self) -> int:
        """B; from there on the frames are later ones."""
        return len(self.batch.visible)


def forward_pass(jepa: JEPA, batch: Batch) -> ForwardPass:
    """Encodes a batch: the context sees the groups that are `visible`, the target encoder all that are `known`."""
    rows = len(batch.visible)
    frames = jepa.encoding(batch.rows)
    context = jepa.context_encoder(frames[:rows], batch.visible)
    times = len(frames) // rows  # 1 + K
    known = None if batch.known is None else batch.known.repeat(times, 1)  # [B + K·B, G]
    if batch.known is not None and batch.later_known is not None:
        known = torch.cat([batch.known, batch.later_known])
    compared = slice(rows if times > 1 else 0, None)
    with torch.no_grad():
        target_known = None if known is None else known[compared]
        target = jepa.target_encoder.patch_embeddings(frames[compared], target_known).float()
        target_embedding = jepa.target_encoder.pool(target, target_known)
    return ForwardPass(
        batch=batch,
        frames=frames,
        horizon=torch.cat([batch.horizon.new_zeros(rows), batch.horizon]),
        context=context.repeat(times, 1),
        known=known_columns(jepa, known),
        target=target,
        target_embedding=target_embedding,
    )


def hidden_patches(jepa: JEPA, out: ForwardPass) -> Tensor | None:
    """Which patches [B, N] the predictor is asked for (None: all): those hidden from the context where the same frame
    is predicted; all of a later frame."""
    if len(out.frames) > out.rows or out.target.shape[1] == 1:
        return None
    hidden = ~jepa.context_encoder.visible_patches(out.batch.visible)
    # A row that hides nothing asks for all, so that no row of the attention mask is empty.
    return hidden | ~hidden.any(1, keepdim=True)


def predict(jepa: JEPA, out: ForwardPass) -> Tensor:
    """The predictor's answer to `target` [T, N, D]; those of patches that it is not asked for mean nothing."""
    if len(out.frames) == out.rows:
        return jepa.predictor.predict_patches(out.context, hidden_patches(jepa, out)).float()
    context, horizon, actions = out.context[out.rows :], out.horizon[out.rows :], out.batch.actions
    if actions is None:
        return jepa.predictor.predict_patches(context, None, horizon).float()
    # Half of the rows are told nothing, and are spared the token of it.
    told = ~actions.isnan().flatten(1).all(1)  # [T]
    parts = [
        jepa.predictor.predict_patches(context[told], None, horizon[told], actions[told]),
        jepa.predictor.predict_patches(context[~told], None, horizon[~told]),
    ]
    order = torch.cat([told.nonzero(), (~told).nonzero()])[:, 0].argsort()
    return torch.cat(parts)[order].float()


def known_columns(jepa: JEPA, known: Tensor | None) -> Tensor | None:
    """Which groups are known [n, G] bool → which columns [n, M] as 0 and 1."""
    return None if known is None else known.float() @ jepa.context_encoder.group_inputs
