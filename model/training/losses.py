"""The terms that a training step minimises, each a function of the networks and what they made of a batch.

Each is a mean over rows, so that the loss of a batch is the mean of its shares' losses. Dims as in `forward_pass`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.networks.column_heads import ColumnHeads, direction
from model.networks.jepa import JEPA
from model.training.forward_pass import ForwardPass, hidden_patches, known_columns, predict

# A frame's own columns count this much more than a later frame's: small and rare details are lost otherwise, and most
# of the error of a later frame is what nobody could have known.
CURRENT_FRAME_WEIGHT = 4.0


def prediction_loss(jepa: JEPA, out: ForwardPass) -> Tensor:
    """How far the predictor is from the target encoder's representation: smooth L1 (beta 1), mean over dims, over the
    patches asked for of each row, and over rows. This is the JEPA."""
    return patch_loss(predict(jepa, out), out.target, hidden_patches(jepa, out))


def anchor_loss(jepa: JEPA, out: ForwardPass) -> Tensor:
    """How far the columns predicted from the context's embedding are from those of the frame itself and of later ones.

    The target encoder learns, and alone its targets drift towards what is slow and easy to predict; columns never move.
    """
    return columns_loss(jepa.column_heads, out.context, out.frames, out.horizon, out.known)


def foresight_loss(jepa: JEPA, out: ForwardPass) -> Tensor:
    """How far the columns predicted from here are from those predicted for the same moment from the target embedding of
    a later frame; half the squared distance, mean over rows and columns.

    What came is one of many things that could have come. A prediction from nearer by is closer to their mean (temporal
    differences, Sutton 1988). It is a target here: only the prediction from here learns.
    """
    heads, B = jepa.column_heads, out.rows
    context, horizon = out.context[B:], out.horizon[B:]
    known = None if out.known is None else out.known[B:]
    total = context.new_zeros(())
    place = {ahead: i for i, ahead in enumerate(heads.horizons)}
    for ahead in heads.ahead:
        rows = (horizon == ahead).nonzero()[:, 0]
        for further in heads.ahead:
            if ahead + further not in place:
                continue
            with torch.no_grad():
                goal = heads.heads[place[further]](out.target_embedding[rows])
            predicted = heads.heads[place[ahead + further]](context[rows])
            total = total + _distance(predicted, goal, known, rows)
    return total / max(1, len(context) * heads.columns)


def direction_loss(jepa: JEPA, out: ForwardPass) -> Tensor:
    """How far it is predicted which columns rise and which fall, each standardised by how often it does; half the
    squared distances, mean over rows and columns.

    How far a column moves is mostly a matter of a few large moves; that it moves, and where to, shows earlier.
    """
    heads, B = jepa.column_heads, out.rows
    later, context, horizon = out.frames[B:], out.context[B:], out.horizon[B:]
    now = out.frames[:B].repeat(len(later) // B, 1)
    known = None
    if out.known is not None:
        # Where it moves to takes both ends to tell.
        both = out.known[B:] * out.known[:B].repeat(len(later) // B, 1)
        known = both[:, : heads.columns].repeat(1, 2)
    total, taken = context.new_zeros(()), direction(now, later, heads.columns)
    for place, ahead in enumerate(heads.ahead):
        rows, scale = (horizon == ahead).nonzero()[:, 0], heads.direction_scale[place]
        goal = (taken[rows] - heads.direction_share[place]) * scale
        predicted = heads.directions[place](context[rows]) * (scale > 0)
        total = total + _distance(predicted, goal, known, rows)
    return total / max(1, len(context) * heads.columns)


def composite_loss(jepa: JEPA, out: ForwardPass) -> Tensor:
    """How far the columns predicted from the embedding of a composite row are from the row's own.

    What is the same throughout a game, such as its stage, can be predicted from anything peculiar to that game. With
    few games that is learned, and misleads in the next. In a composite only its own columns say it (the mixing of
    examples is that of CutMix, Yun et al. 2019).
    """
    known = out.batch.composites_known
    composites = jepa.encoding(out.batch.composites)
    context = jepa.context_encoder(composites, known)
    same_frame = composites.new_zeros(len(composites))
    return columns_loss(jepa.column_heads, context, composites, same_frame, known_columns(jepa, known))


def patch_loss(predicted: Tensor, target: Tensor, asked: Tensor | None = None) -> Tensor:
    """Smooth L1 between patch embeddings [T, N, D], of those `asked` for [T, N] (None: all)."""
    if asked is None:
        return F.smooth_l1_loss(predicted, target)
    each = F.smooth_l1_loss(predicted, target, reduction="none").mean(2)  # [T, N]
    return ((each * asked).sum(1) / asked.sum(1).clamp_min(1)).mean()


def columns_loss(heads: ColumnHeads, context: Tensor, frames: Tensor, horizon: Tensor, known: Tensor | None) -> Tensor:
    """context [n, D], frames [n, M] `horizon` [n] frames ahead, known [n, M] as 0 and 1 → scalar: half the squared
    distance of the predicted columns to those of the frames, mean over rows and columns; CURRENT_FRAME_WEIGHT times
    that where the frame is the context's own."""
    total, frames = context.new_zeros(()), frames[:, : heads.columns]
    for ahead, head in zip(heads.horizons, heads.heads, strict=True):
        rows = (horizon == ahead).nonzero()[:, 0]
        distance = _distance(head(context[rows]), frames[rows], known, rows)
        total = total + (distance if ahead else CURRENT_FRAME_WEIGHT * distance)
    return total / (len(context) * heads.columns)


def _distance(predicted: Tensor, goal: Tensor, known: Tensor | None, rows: Tensor) -> Tensor:
    """Half the squared distance, summed over rows and the columns that can be known."""
    squares = F.mse_loss(predicted.float(), goal.float(), reduction="none") / 2
    return (squares if known is None else squares * known[rows, : goal.shape[1]]).sum()
