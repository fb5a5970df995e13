"""Dropout (Srivastava et al. 2014) whose draws belong to a row's place in the whole batch: they are the same however
the batch is shared among threads and processes, and after a run is resumed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# A draw is one byte, which takes a tenth of the time of a float.
LEVELS = 256


@dataclass(frozen=True)
class Draws:
    """What one of `ranks` equal shares of a batch draws from."""

    generator: torch.Generator
    rank: int
    ranks: int

    def kept(self, x: Tensor, dropped: int) -> Tensor:
        """Bools like x, whose first dim is the rows of this share; `dropped` of 256 are False."""
        count = x.numel() * self.ranks
        words = torch.empty(-(-count // 8), dtype=torch.int64, device=x.device)
        drawn = words.random_(-(2**63), None, generator=self.generator).view(torch.uint8)[:count]
        return drawn.view(self.ranks, *x.shape)[self.rank] >= dropped


_draws: ContextVar[Draws | None] = ContextVar("draws", default=None)


@contextmanager
def draws(seed: int, rank: int, ranks: int, device: torch.device) -> Iterator[None]:
    """Within it, in this thread, dropout draws as this share of the batch of that seed."""
    token = _draws.set(Draws(torch.Generator(device).manual_seed(seed), rank, ranks))
    try:
        yield
    finally:
        _draws.reset(token)


class Dropout(nn.Module):
    """`nn.Dropout`, which it is outside of `draws`; within, the share is rounded to a 256th."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """x [B, …], of which `share` become 0 in training, and the others larger."""
        if not self.training or not self.share:
            return x
        drawn = _draws.get()
        if drawn is None:
            return F.dropout(x, self.share)
        dropped = round(self.share * LEVELS)
        return x * (drawn.kept(x, dropped).to(x.dtype) * (LEVELS / (LEVELS - dropped)))
