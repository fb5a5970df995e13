"""What a training step reads, drawn and gathered on the device that computes. Dims: B rows, K later frames of each,
C columns, G groups, H horizons, S symmetries, F frames of which inputs are taken, A numbers of an input."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bundle.columns import RowSource
from bundle.schema import group_of_columns
from model.data.frames import Frames
from model.data.matrix import Matrix, halved
from model.data.ranges import CHUNK_ROWS, Ranges, Rows
from model.data.symmetry import Symmetry
from model.data.timeline import Timeline
from model.training.masking import ActionMaskSampler, MaskSampler

# One row of this many in a batch is learned from as a composite, too.
COMPOSITE_EVERY = 4
# Horizons drawn for each row of a batch, or all where there are fewer.
LATER_FRAMES = 2
# Of the free memory of a GPU, rows may take this share; what is more stays in the host's, and batches are sent.
MAX_DEVICE_SHARE = 0.5


class Batch(NamedTuple):
    """Raw rows and what may be seen of them; K is 0 where rows have no order."""

    rows: Tensor  # [B + K·B, C]: the rows now, then the first later frame of each, then the second
    horizon: Tensor  # [K·B] frames ahead
    visible: Tensor  # [B, G] bool: what the context sees
    known: Tensor | None  # [B, G] bool: what can be known at all as a row is seen (None: everything)
    composites: Tensor  # [B / 4, C]: every fourth row, with about half of its groups taken from another row
    composites_known: Tensor | None  # [B / 4, G]
    later_known: Tensor | None = None  # [K·B, G] bool: what can be known of the later frames (None: as of those now)
    # [K·B, F, A] the own inputs that lead to the frames that follow, NaN where hidden or not known (None: all are).
    actions: Tensor | None = None


class Batches:
    """Draws batches from frames; the rows stay in their file, or in memory as float16 where that loses nothing."""

    def __init__(
        self,
        frames: Frames,
        horizons: Sequence[int],
        hide_share: tuple[float, float],
        symmetries: Sequence[Symmetry],
        device: torch.device,
        max_actions: int = 0,
    ) -> None:
        """`max_actions` are the frames whose inputs a batch has, where the frames have inputs; 0: none."""
        self.device = device
        self.values = compact(frames.features)  # [rows, C]
        if fits(self.values, device):
            self.values = self.values.to(device)
        self.horizons = np.array(horizons)
        # None where rows have no order.
        self.timeline = None if frames.frame is None else Timeline(frames.episode, frames.frame)
        groups = frames.schema.groups
        self.mask = MaskSampler(len(groups), hide_share)
        self.group = torch.tensor(group_of_columns(groups), device=device)
        # [rows, G] what is missing from the data itself, which no symmetry could move with the numbers.
        self.absent = None if frames.absent is None else torch.from_numpy(frames.absent)
        symmetries = symmetries if self.absent is None else ()
        self.symmetries = symmetries
        hidden = torch.stack([symmetry.hidden for symmetry in symmetries]).to(device) if symmetries else None  # [S, G]
        self.hidden = hidden if hidden is not None and hidden.any() else None
        self.inputs = None
        if max_actions and self.timeline is not None and frames.actions is not None:
            self.inputs = Inputs(frames, self.timeline, max_actions, symmetries)

    @property
    def ordered(self) -> bool:
        return self.timeline is not None

    def with_later_rows(self, rows: Ranges) -> Ranges:
        """Those of the rows that have a later row at every horizon."""
        return rows if self.timeline is None else self.timeline.with_later_rows(rows, self.horizons.tolist())

    def later(self, rows: Rows, horizon: int | Rows) -> Rows:
        """The row `horizon` frames (a number, or [n]) after each of the rows [n], −1 where there is none."""
        return rows if self.timeline is None else self.timeline.ahead(rows, horizon)

    def draw(self, rows: Ranges, count: int, generator: torch.Generator, *, rank: int = 0, ranks: int = 1) -> Batch:
        """`count` of the rows, with replacement; several ranks draw the same batch and take a share each, of a multiple
        of COMPOSITE_EVERY rows."""
        device = self.device
        share = slice(count * rank // ranks, count * (rank + 1) // ranks)

        def mine(drawn: Tensor) -> Tensor:
            return drawn[share].to(device)

        def some() -> Rows:
            return rows[torch.randint(len(rows), (count,), generator=generator)[share].numpy()]

        now = some()  # [B]
        turned = mine(torch.rand(count, len(self.symmetries), generator=generator) < 0.5)
        visible, known = mine(self.mask(count, generator)), None
        if self.hidden is not None:
            known = ~(turned[:, :, None] & self.hidden).any(1)
            visible = visible & known
        other = some()
        kept = mine(torch.rand(count, self.mask.groups, generator=generator) < 0.5)
        fourth = slice(None, None, COMPOSITE_EVERY)
        own, others = self.seen(now[fourth], turned[fourth]), self.seen(other[fourth], turned[fourth])
        composites = torch.where(kept[fourth][:, self.group], own, others)
        composites_known = None if known is None else known[fourth]
        if self.absent is not None:
            lacks, other_lacks = (self.absent[torch.from_numpy(those)].to(device) for those in (now, other))
            known = ~lacks
            composites_known = ~torch.where(kept, lacks, other_lacks)[fourth]
            # What is hidden by chance is shown where nothing else is there to see.
            visible = torch.where((visible & known).any(1, keepdim=True), visible & known, known)
        rest = visible, known, composites, composites_known
        if not self.ordered:
            return Batch(self.seen(now, turned), torch.zeros(0, device=device), *rest)
        order = torch.rand(count, len(self.horizons), generator=generator).argsort(1)[:, :LATER_FRAMES]
        horizon = self.horizons[order[share].T.numpy()]  # [K, B]
        taken = np.concatenate([now, self.later(np.tile(now, len(horizon)), horizon.ravel())])  # [B + K·B]
        actions = None
        if self.inputs is not None:
            asked = torch.from_numpy(self.horizons)[order]  # [count, K]
            told = self.inputs.mask(asked.flatten(), generator)  # [count · K, F, A]
            told = told.view(*asked.shape, *told.shape[1:])[share]  # [B, K, F, A]
            given = self.inputs.of(now, turned.to("cpu"))[:, None]  # [B, 1, F, A]
            actions = torch.where(told, given, torch.nan).transpose(0, 1).flatten(0, 1).to(device)
        turned = turned.repeat(1 + len(horizon), 1)
        ahead = torch.from_numpy(horizon.ravel()).to(device, torch.float32)
        return Batch(self.seen(taken, turned), ahead, *rest, self.known(taken[len(now) :]), actions)

    def known(self, rows: Rows) -> Tensor | None:
        """[n, G] bool: which groups of the rows [n] the data has (None: all of them)."""
        return None if self.absent is None else ~self.absent[torch.from_numpy(rows)].to(self.device)

    def as_seen(self, rows: Rows) -> Tensor:
        """Raw features [n, C] of the rows [n], NaN where the data lacks the group."""
        known = self.known(rows)
        return self.seen(rows) if known is None else self.seen(rows).where(known[:, self.group], torch.nan)

    def seen(self, rows: Rows, turned: Tensor | None = None) -> Tensor:
        """Raw features [n, C] of the rows [n], by each symmetry where `turned` [n, S]."""
        features = self.values.index_select(0, torch.from_numpy(rows).to(self.values.device)).to(self.device).float()
        if turned is not None:
            for symmetry, applies in zip(self.symmetries, turned.T, strict=True):
                features = torch.where(applies[:, None], symmetry.apply(features), features)
        return features


class Inputs:
    """The player's own inputs in the frames that follow a row."""

    def __init__(self, frames: Frames, timeline: Timeline, max_actions: int, symmetries: Sequence[Symmetry]) -> None:
        if frames.actions is None:
            raise ValueError("the frames have no actions")
        self.values = frames.actions  # [rows, A]
        self.timeline = timeline
        self.mask = ActionMaskSampler(max_actions, len(frames.action_names))
        self.symmetries = [each.of_actions(frames.action_names, frames.schema) for each in symmetries]
        ahead = np.arange(1, max_actions + 1)
        # The input that leads to a frame stands in its own row, or in the one before.
        offsets = {"after": ahead, "before": ahead - timeline.pace}
        recorded = np.array(frames.actions_recorded)
        # Which of the A numbers stand how far ahead of a row.
        self.offsets = [(np.flatnonzero(recorded == kind), offsets[kind]) for kind in np.unique(recorded).tolist()]

    def of(self, rows: Rows, turned: Tensor | None = None) -> Tensor:
        """[n, F, A] of the rows [n], by each symmetry where `turned` [n, S]; NaN where an input is not known."""
        found = np.full((len(rows), self.mask.frames, self.mask.actions), np.nan, np.float32)
        for columns, offset in self.offsets:
            later = self.timeline.ahead(np.repeat(rows, len(offset)), np.tile(offset, len(rows)))
            values = self.values[later][:, columns]
            values[later < 0] = np.nan
            found[:, :, columns] = values.reshape(len(rows), len(offset), -1)
        actions = torch.from_numpy(np.where(np.isfinite(found), found, np.float32(np.nan)))
        if turned is not None:
            for (source, sign), applies in zip(self.symmetries, turned.T, strict=True):
                actions = torch.where(applies[:, None, None], actions.index_select(2, source) * sign, actions)
        return actions


def compact(features: RowSource) -> Tensor:
    """The features as float16 if each of them is a float16 number, else as they are; those in a file stay there."""
    if isinstance(features, Matrix):
        return features.tensor()
    half = torch.empty(features.shape, dtype=torch.float16)
    for start in range(0, len(features), CHUNK_ROWS):
        part = halved(features[start : start + CHUNK_ROWS])
        if part is None:
            return torch.from_numpy(features[:])
        half[start : start + CHUNK_ROWS] = torch.from_numpy(part)
    return half


def fits(values: Tensor, device: torch.device) -> bool:
    """Whether the values may lie in the memory of the device for the length of a run."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return values.nbytes <= MAX_DEVICE_SHARE * free
