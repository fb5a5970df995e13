"""Raw features to network inputs: standardised with stored statistics, clipped, dead columns silenced."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CLIP = 5.0
DEAD_STD = 1e-4


class Normalise(nn.Module):
    """(x − mean) / std, clipped to ±5; a column that never changed in training gives 0 whatever it holds."""

    def __init__(self, mean: NDArray[np.floating], std: NDArray[np.floating]) -> None:
        super().__init__()
        alive = std > DEAD_STD
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer(
            "scale", torch.tensor(np.where(alive, 1 / np.where(alive, std, 1), 0), dtype=torch.float32)
        )

    def forward(self, features: Tensor) -> Tensor:
        """features [B, C] raw → [B, C]."""
        return ((features - self.mean) * self.scale).clamp(-CLIP, CLIP)
