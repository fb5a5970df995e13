"""The player's own inputs of the frames that follow, as one token of the predictor.

Shapes: B batch, F frames (max_actions), A numbers of an input, K values of classes, P predictor_embed_dim.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.columns import DEAD_STD
from model.networks.encoding import CLIP

# A number that takes only so many whole values, and more than two, stands for classes, as an id does.
MAX_CLASSES = 64
# Of the MLP that makes a token of inputs, in widths of the predictor.
MLP_WIDTHS = 2


class ActionEncoding(nn.Module):
    """Maps raw inputs [B, F, A], 0 where they are unknown, to numbers [B, F, A + K]: standardised ones, which are 0 for
    classes, then the one-hots of classes."""

    def __init__(self, arrays: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, values in arrays.items():
            self.register_buffer(name, values)
        self.mean: Tensor  # [A]
        # 0 silences an input: a class, or one that was constant in training.
        self.scale: Tensor  # [A]
        self.low: Tensor  # [A] the least value in training
        self.high: Tensor  # [A]
        self.class_column: Tensor  # [K] which of the A numbers it is a value of
        self.class_value: Tensor  # [K]

    @classmethod
    def plain(cls, actions: int) -> "ActionEncoding":
        """Of inputs that are standardised already."""
        none, one = torch.zeros(actions), torch.ones(actions)
        return cls._of(none, one, -CLIP * one, CLIP * one, [])

    @classmethod
    def fit(cls, actions: NDArray[np.float32]) -> "ActionEncoding":
        """Of inputs [n, A], NaN where one is unknown."""
        found: list[tuple[float, float, float, float]] = []
        classes: list[tuple[int, float]] = []
        for column, values in enumerate(actions.T):
            known = values[np.isfinite(values)].astype(np.float64)
            if not len(known):
                known = np.zeros(1)
            mean, std, kinds = float(known.mean()), float(known.std()), np.unique(known)
            is_class = 2 < len(kinds) <= MAX_CLASSES and bool((kinds == np.trunc(kinds)).all())
            if is_class:
                classes += [(column, float(value)) for value in kinds]
            is_number = std > DEAD_STD and not is_class
            found.append((mean if is_number else 0.0, 1 / std if is_number else 0.0, kinds[0], kinds[-1]))
        mean, scale, low, high = torch.tensor(found, dtype=torch.float32).T
        return cls._of(mean, scale, low, high, classes)

    @classmethod
    def _of(
        cls, mean: Tensor, scale: Tensor, low: Tensor, high: Tensor, classes: Sequence[tuple[int, float]]
    ) -> "ActionEncoding":
        return cls(
            {
                "mean": mean.clone(),
                "scale": scale.clone(),
                "low": low.clone(),
                "high": high.clone(),
                "class_column": torch.tensor([column for column, _ in classes], dtype=torch.long),
                "class_value": torch.tensor([value for _, value in classes], dtype=torch.float32),
            }
        )

    @property
    def width(self) -> int:
        return len(self.mean) + len(self.class_column)

    def draw(self, rows: int, frames: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Made-up inputs [rows, frames, A] like those of training: numbers normal around their mean, classes even."""
        low, high = (value.numpy(force=True).astype(np.float64) for value in (self.low, self.high))
        scale = self.scale.numpy(force=True).astype(np.float64)
        drawn = rng.normal(size=(rows, frames, len(low))) / np.where(scale > 0, scale, np.inf)
        drawn = (self.mean.numpy(force=True) + drawn).clip(low, high)
        for column in range(len(low)):
            if values := self.values(column):
                drawn[:, :, column] = rng.choice(values, (rows, frames))
        return drawn.astype(np.float32)

    def values(self, column: int) -> list[float]:
        """The classes of one of the A numbers; empty where it is a number."""
        return [float(value) for value in self.class_value[self.class_column == column]]

    def forward(self, actions: Tensor) -> Tensor:
        """actions [B, F, A] raw → [B, F, A + K]."""
        # Halves, since the difference of two numbers may be larger than float32 holds.
        numbers = ((actions / 2 - self.mean / 2) * (2 * self.scale)).clamp(-CLIP, CLIP)  # [B, F, A]
        if not len(self.class_column):
            return numbers
        classes = actions.index_select(2, self.class_column) == self.class_value  # [B, F, K]
        return torch.cat([numbers, classes.to(numbers.dtype)], dim=2)


class ActionToken(nn.Module):
    """Maps inputs [B, F, A], NaN where a number is unknown, to a token [B, P] by an MLP over all of them at once, and
    says which rows have one.

    The i-th input leads to the frame i frames after the context. One that leads beyond the horizon cannot matter to the
    frame that is asked about, and counts as unknown.
    """

    def __init__(self, encoding: ActionEncoding, frames: int, width: int) -> None:
        super().__init__()
        self.encoding = encoding
        self.frame: Tensor  # [F, 1]
        self.register_buffer("frame", torch.arange(1.0, frames + 1)[:, None], persistent=False)
        inputs = frames * (encoding.width + len(encoding.mean))
        self.mlp = nn.Sequential(nn.Linear(inputs, MLP_WIDTHS * width), nn.GELU(), nn.Linear(MLP_WIDTHS * width, width))

    def forward(self, actions: Tensor, horizon: Tensor) -> tuple[Tensor, Tensor]:
        """actions [B, F, A], horizon [B] → tokens [B, P], and [B] bool whether any number of the row is known."""
        known = ~actions.isnan() & (self.frame <= horizon[:, None, None])  # [B, F, A]
        seen = torch.where(known, actions, 0.0)
        flags = known.to(seen.dtype)
        numbers = self.encoding(seen)  # [B, F, A + K]
        # Of an unknown number nothing is left but its flag.
        shown = flags if numbers.shape[2] == flags.shape[2] else self._of_inputs(flags)
        inputs = torch.cat([numbers * shown, flags], dim=2).flatten(1)  # [B, F · (A + K + A)]
        return self.mlp(inputs), known.flatten(1).any(1)

    def _of_inputs(self, flags: Tensor) -> Tensor:
        """flags [B, F, A] → [B, F, A + K]."""
        return torch.cat([flags, flags.index_select(2, self.encoding.class_column)], dim=2)
