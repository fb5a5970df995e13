"""What the networks may know of a row: groups of the context, in exact counts that are drawn without rejection, so that
no small row can loop for ever; and inputs of the player's own in the frames that follow."""

import torch
from torch import Tensor

# Of the frames, or of the numbers of an input, where some of them are hidden.
HIDDEN_SHARE = 0.3


class MaskSampler:
    """Hides, in every row, a number of groups drawn from `hide_share` of them; at least one stays visible."""

    def __init__(self, groups: int, hide_share: tuple[float, float]) -> None:
        low, high = hide_share
        if groups < 1:
            raise ValueError(f"groups is {groups}; there must be at least 1")
        if not 0 <= low <= high < 1:
            raise ValueError(f"hide_share is {hide_share}; it must be (low, high) with 0 <= low <= high < 1")
        self.groups = groups
        self.min_hidden = min(round(low * groups), groups - 1)
        self.max_hidden = min(round(high * groups), groups - 1)

    def __call__(self, rows: int, generator: torch.Generator) -> Tensor:
        """visible [rows, groups] bool; each row hides its own uniformly drawn count in [min_hidden, max_hidden]."""
        count = torch.randint(self.min_hidden, self.max_hidden + 1, (rows, 1), generator=generator)
        rank = torch.rand(rows, self.groups, generator=generator).argsort(1).argsort(1)
        return rank >= count


class ActionMaskSampler:
    """Hides the player's own inputs, so that the predictor answers whichever of them a bot can give.

    Half of the rows know none, which is what most ask. Half of the others know all, and the rest only the first of
    them, as a bot does whose delay is shorter than the horizon. Of a quarter, some frames are hidden, and of a quarter,
    some numbers of all inputs.
    """

    def __init__(self, frames: int, actions: int) -> None:
        self.frames, self.actions = frames, actions

    def __call__(self, horizon: Tensor, generator: torch.Generator) -> Tensor:
        """horizon [n] in frames ahead → known [n, F, A] bool; the i-th input leads to the frame i frames ahead."""
        rows, frames, actions = len(horizon), self.frames, self.actions

        def drawn(*shape: int) -> Tensor:
            return torch.rand(rows, *shape, generator=generator)

        none, whole, some_frames, some_numbers = (drawn(1, 1) for _ in range(4))
        reach = horizon.clamp(max=frames)[:, None]  # [n, 1]
        # From one frame to all but one, where there are two.
        count = 1 + (drawn(1) * (reach - 1)).floor()
        first = torch.arange(frames) < count  # [n, F]
        known = ((whole < 0.5) | first[:, :, None]) & (none >= 0.5)  # [n, F, 1]
        known = known & ((some_frames >= 0.25) | (drawn(frames, 1) >= HIDDEN_SHARE))
        return known & ((some_numbers >= 0.25) | (drawn(1, actions) >= HIDDEN_SHARE))
