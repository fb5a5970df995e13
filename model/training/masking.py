"""Which groups a row's context may see: exact counts, drawn without rejection, so no small row can loop for ever."""

import torch
from torch import Tensor


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
