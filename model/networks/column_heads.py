"""Linear maps from an embedding to a frame's columns. Dims: n rows, M columns of a frame, as they are encoded."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from model.networks.config import Config

# Of a column's standard deviation. A smaller change is rounding.
MIN_CHANGE = 1e-3
# A rise or fall whose standard deviation is smaller is left out: it happens in fewer than one row in 2,500.
MIN_DIRECTION_STD = 0.02
# A standard deviation to divide by is never taken for less, so that rare rises do not outweigh all others.
MIN_DIVISOR = 0.05


class ColumnHeads(nn.Module):
    """One linear map a horizon to the standardised columns, with one for the frame itself; and one a horizon to which
    columns will have risen and which will have fallen.

    They are linear so that a linear policy can read the same off the embedding.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.horizons, self.columns = tuple(sorted({0, *config.horizons})), config.input_dim
        self.heads = nn.ModuleList(nn.Linear(config.embed_dim, config.input_dim) for _ in self.horizons)
        self.ahead = self.horizons[1:]
        self.directions = nn.ModuleList(nn.Linear(config.embed_dim, 2 * config.input_dim) for _ in self.ahead)
        # How often each column rises and falls, and 1 over the standard deviation of that; 0 for what hardly happens.
        self.direction_share: Tensor  # [horizons ahead, 2M]
        self.direction_scale: Tensor  # [horizons ahead, 2M]
        for name in ("share", "scale"):
            self.register_buffer(f"direction_{name}", torch.zeros(len(self.ahead), 2 * config.input_dim))

    def measure_directions(self, ahead: int, changes: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Stores how often each column rises and falls between frames [n, M] and those `ahead` of them [n, M], where
        neither is NaN."""
        parts = []
        for now, later in changes:
            unknown = (now + later)[:, : self.columns].isnan().repeat(1, 2)
            parts.append(direction(now, later, self.columns).masked_fill(unknown, torch.nan))
        share = torch.cat(parts).nanmean(0).nan_to_num(0.0)
        std = (share * (1 - share)).sqrt()
        place = self.ahead.index(ahead)
        self.direction_share[place] = share
        self.direction_scale[place] = torch.where(std > MIN_DIRECTION_STD, 1 / std.clamp_min(MIN_DIVISOR), 0)


def direction(now: Tensor, later: Tensor, columns: int) -> Tensor:
    """Encoded rows [n, M] each → [n, 2 · columns] as 0 and 1: which columns rise, then which fall."""
    change = later[:, :columns] - now[:, :columns]
    return torch.cat([change > MIN_CHANGE, change < -MIN_CHANGE], dim=1).float()
