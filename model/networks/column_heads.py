"""What anchors the embedding: columns, which never move as the target encoder's representation does. Dims: B batch,
M inputs, D embed."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.config import Config

# So much more than a later frame's do a frame's own columns count: they are told in detail or not at all, and what is
# foreseen is mostly what cannot be known.
NOW = 4.0
LEAST_CHANGE = 1e-3  # of a column's std; rounding is no change
RAREST = 0.02  # std of rising or falling below which it is left out: less than one row in 2,500 does
LEAST_STD = 0.05  # so much at least is it taken for, so that rare ones do not outweigh all others


class Anchor(nn.Module):
    """What is foreseen of a frame's standardised columns, by one linear map a horizon from the context's embedding.

    The target encoder learns, and its targets drift towards what is slow and easy to predict; the columns never move,
    and each counts alike, however rarely it changes. Linear, so that a linear policy can read off the embedding what
    is foreseen; of the frame itself too, so that it can read off what is there now.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.horizons, self.columns = tuple(sorted({0, *config.horizons})), config.input_dim
        self.heads = nn.ModuleList(nn.Linear(config.embed_dim, config.input_dim) for _ in self.horizons)
        self.ahead = self.horizons[1:]
        self.directions = nn.ModuleList(nn.Linear(config.embed_dim, 2 * config.input_dim) for _ in self.ahead)
        # How often each column rises and falls, and 1 over the std of that, 0 for what all but never happens.
        self.direction_share: Tensor  # [horizons ahead, 2M]
        self.direction_scale: Tensor
        for name in ("share", "scale"):
            self.register_buffer(f"direction_{name}", torch.zeros(len(self.ahead), 2 * config.input_dim))
        place = {ahead: i for i, ahead in enumerate(self.horizons)}
        # (a later frame, which map looks on from there, which map looks from here at the same moment)
        self.detours = [
            (ahead, place[on], place[ahead + on]) for ahead in self.ahead for on in self.ahead if ahead + on in place
        ]

    def loss(self, context: Tensor, frames: Tensor, horizon: Tensor, known: Tensor | None) -> Tensor:
        """context [B, D], frames [B, M] `horizon` [B] frames ahead, known [B, M] as 0 and 1 → scalar: how far what is
        foreseen is from what came, mean over rows and columns of half the squared distance, NOW times that for the
        frame itself."""
        total, frames = context.new_zeros(()), frames[:, : self.columns]
        for ahead, head in zip(self.horizons, self.heads, strict=True):
            rows = (horizon == ahead).nonzero()[:, 0]
            distance = self._distance(head(context[rows]), frames[rows], known, rows)
            total = total + (distance if ahead else NOW * distance)
        return total / (len(context) * self.columns)

    def foresight_loss(self, context: Tensor, later: Tensor, horizon: Tensor, known: Tensor | None) -> Tensor:
        """context [B, D] and the target encoder's embedding `later` [B, D], `horizon` [B] frames on → scalar: how far
        what is foreseen from here is from what is foreseen from there, where both look at the same moment; as `loss`.

        What came is one of many things that could have come. What is foreseen from nearer by is closer to their mean
        (temporal differences, Sutton 1988), and is a part of the target encoder's representation.
        """
        total = context.new_zeros(())
        for ahead, on, straight in self.detours:
            rows = (horizon == ahead).nonzero()[:, 0]
            with torch.no_grad():
                goal = self.heads[on](later[rows])
            total = total + self._distance(self.heads[straight](context[rows]), goal, known, rows)
        return total / (len(context) * self.columns)

    def measure_directions(self, ahead: int, changes: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Learns how often each column rises and falls from frames [n, M] and those `ahead` of them [n, M]."""
        share = torch.cat([direction(now, later, self.columns) for now, later in changes]).mean(0)
        std = (share * (1 - share)).sqrt()
        place = self.ahead.index(ahead)
        self.direction_share[place] = share
        self.direction_scale[place] = torch.where(std > RAREST, 1 / std.clamp_min(LEAST_STD), 0)

    def direction_loss(
        self, context: Tensor, now: Tensor, later: Tensor, horizon: Tensor, known: Tensor | None
    ) -> Tensor:
        """context [B, D] of the frames `now` [B, M], those `horizon` [B] frames on → scalar: how far it is foreseen
        which columns rise and which fall, each standardised; mean over rows and columns of half the squared distances.

        How far a column moves is mostly a matter of a few large moves; that it moves, and where to, is known before.
        """
        total, taken = context.new_zeros(()), direction(now, later, self.columns)
        known = None if known is None else known[:, : self.columns].repeat(1, 2)
        for place, ahead in enumerate(self.ahead):
            rows, scale = (horizon == ahead).nonzero()[:, 0], self.direction_scale[place]
            goal = (taken[rows] - self.direction_share[place]) * scale
            foreseen = self.directions[place](context[rows]) * (scale > 0)
            total = total + self._distance(foreseen, goal, known, rows)
        return total / (len(context) * self.columns)

    def _distance(self, foreseen: Tensor, goal: Tensor, known: Tensor | None, rows: Tensor) -> Tensor:
        """Sum over rows and columns."""
        squares = F.mse_loss(foreseen.float(), goal.float(), reduction="none") / 2
        return (squares if known is None else squares * known[rows, : goal.shape[1]]).sum()


def direction(now: Tensor, later: Tensor, columns: int) -> Tensor:
    """Encoded rows [n, M] each → [n, 2 · columns] as 0 and 1: which columns rise, then which fall."""
    change = later[:, :columns] - now[:, :columns]
    return torch.cat([change > LEAST_CHANGE, change < -LEAST_CHANGE], dim=1).float()
