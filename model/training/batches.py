"""What a training step reads, drawn and gathered on the device that computes. Dims: B rows, K later frames of each,
C columns, G groups, H horizons, S symmetries."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.schema import group_of_columns
from model.data.frames import Frames
from model.data.splits import rows_ahead
from model.data.symmetry import Symmetry
from model.training.masking import MaskSampler

# One row of this many in a batch is learned from as a composite, too.
COMPOSITE_EVERY = 4
# Horizons drawn for each row of a batch, or all where there are fewer.
LATER_FRAMES = 2
CHUNK_ROWS = 65_536


class Batch(NamedTuple):
    """Raw rows and what may be seen of them; K is 0 where rows have no order."""

    rows: Tensor  # [B + K·B, C]: the rows now, then the first later frame of each, then the second
    horizon: Tensor  # [K·B] frames ahead
    visible: Tensor  # [B, G] bool: what the context sees
    known: Tensor | None  # [B, G] bool: what can be known at all as a row is seen (None: everything)
    composites: Tensor  # [B / 4, C]: every fourth row, with about half of its groups taken from another row
    composites_known: Tensor | None  # [B / 4, G]
    later_known: Tensor | None = None  # [K·B, G] bool: what can be known of the later frames (None: as of those now)


class Batches:
    """Draws batches from frames; the rows stay in memory as float16 where that loses nothing."""

    def __init__(
        self,
        frames: Frames,
        horizons: Sequence[int],
        hide_share: tuple[float, float],
        symmetries: Sequence[Symmetry],
        device: torch.device,
    ) -> None:
        self.ordered = frames.frame is not None
        self.values = compact(frames.features).to(device)  # [rows, C]
        self.horizons = torch.tensor(horizons, dtype=torch.float32, device=device)
        ahead = [torch.from_numpy(rows_ahead(frames, horizon)) for horizon in horizons]
        self.ahead = torch.stack(ahead).to(device)  # [H, rows], −1 where there is none
        groups = frames.schema.groups
        self.mask = MaskSampler(len(groups), hide_share)
        self.group = torch.tensor(group_of_columns(groups), device=device)
        # [rows, G] what is missing from the data itself, which no symmetry could move with the numbers.
        self.absent = None if frames.absent is None else torch.from_numpy(frames.absent).to(device)
        symmetries = symmetries if self.absent is None else ()
        self.symmetries = symmetries
        hidden = torch.stack([symmetry.hidden for symmetry in symmetries]).to(device) if symmetries else None  # [S, G]
        self.hidden = hidden if hidden is not None and hidden.any() else None

    def with_later_rows(self, rows: NDArray[np.int64]) -> Tensor:
        """Those of the rows that have a later row at every horizon."""
        chosen = torch.from_numpy(rows).to(self.ahead.device)
        return chosen[(self.ahead[:, chosen] >= 0).all(0)]

    def draw(self, rows: Tensor, count: int, generator: torch.Generator, *, rank: int = 0, ranks: int = 1) -> Batch:
        """`count` of the rows, with replacement; several ranks draw the same batch and take a share each, of a multiple
        of COMPOSITE_EVERY rows."""
        device = self.values.device
        share = slice(count * rank // ranks, count * (rank + 1) // ranks)

        def mine(drawn: Tensor) -> Tensor:
            return drawn[share].to(device)

        now = rows[mine(torch.randint(len(rows), (count,), generator=generator))]  # [B]
        turned = mine(torch.rand(count, len(self.symmetries), generator=generator) < 0.5)
        visible, known = mine(self.mask(count, generator)), None
        if self.hidden is not None:
            known = ~(turned[:, :, None] & self.hidden).any(1)
            visible = visible & known
        other = rows[mine(torch.randint(len(rows), (count,), generator=generator))]
        kept = mine(torch.rand(count, self.mask.groups, generator=generator) < 0.5)
        fourth = slice(None, None, COMPOSITE_EVERY)
        own, others = self.seen(now[fourth], turned[fourth]), self.seen(other[fourth], turned[fourth])
        composites = torch.where(kept[fourth][:, self.group], own, others)
        composites_known = None if known is None else known[fourth]
        if self.absent is not None:
            known = ~self.absent[now]
            composites_known = ~torch.where(kept, self.absent[now], self.absent[other])[fourth]
            # What is hidden by chance is shown where nothing else is there to see.
            visible = torch.where((visible & known).any(1, keepdim=True), visible & known, known)
        rest = visible, known, composites, composites_known
        if not self.ordered:
            return Batch(self.seen(now, turned), self.horizons[:0], *rest)
        order = torch.rand(count, len(self.horizons), generator=generator).argsort(1)
        choice = mine(order[:, :LATER_FRAMES]).T  # [K, B]
        taken = torch.cat([now[None], self.ahead[choice, now]])  # [1 + K, B]
        turned = turned.repeat(len(taken), 1)
        later_known = None if self.absent is None else ~self.absent[taken[1:].flatten()]
        return Batch(self.seen(taken.flatten(), turned), self.horizons[choice].flatten(), *rest, later_known)

    def seen(self, rows: Tensor, turned: Tensor | None = None) -> Tensor:
        """Raw features [n, C] of the rows [n], by each symmetry where `turned` [n, S]."""
        features = self.values.index_select(0, rows).float()
        if turned is not None:
            for symmetry, applies in zip(self.symmetries, turned.T, strict=True):
                features = torch.where(applies[:, None], symmetry.apply(features), features)
        return features


def compact(features: NDArray[np.float32]) -> Tensor:
    """The features as float16 if every one of them is a float16 number, else as they are."""
    whole = torch.from_numpy(features)
    half = torch.empty(whole.shape, dtype=torch.float16)
    for kept, part in zip(torch.split(half, CHUNK_ROWS), torch.split(whole, CHUNK_ROWS), strict=True):
        kept.copy_(part)
        if not torch.equal(kept.float(), part):
            return whole
    return half


def evenly(rows: Tensor, count: int) -> Tensor:
    """`count` of the rows at even distances, or all."""
    return rows[torch.linspace(0, len(rows) - 1, min(count, len(rows)), dtype=torch.float64).long().to(rows.device)]
