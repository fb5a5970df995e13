"""How a run learns: the network's size and the options of training, and the presets to choose from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bundle.schema import Schema
from model.networks.config import Config, Patch


@dataclass(frozen=True)
class Recipe:
    """Options of one training run. Shares are of 1, horizons are frames ahead (ignored where rows have no order)."""

    embed_dim: int = 256
    predictor_embed_dim: int = 128
    encoder_depth: int = 3
    predictor_depth: int = 2
    num_heads: int = 8
    # "row": the flat model, one token with groups that can be hidden; "groups": one token a group.
    tokens: str = "row"
    horizons: tuple[int, ...] = (1, 5, 10, 20, 30, 60)
    steps: int = 4000
    batch_size: int = 1024
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    momentum: float = 0.998
    hide_share: tuple[float, float] = (0.0, 0.3)
    # Of the context encoder. With few games, longer runs learn them by heart without it.
    dropout: float = 0.1
    # Whether to learn each game from both players' sides and in the mirror, where the layout says how.
    symmetries: bool = True
    # Weights of the terms of the loss, each a function in `losses`; 0 leaves one out.
    prediction: float = 1.0
    anchor: float = 20.0
    foresight: float = 20.0
    direction: float = 10.0
    composite: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.batch_size < 2:
            raise ValueError("batch_size is 1; the variance of an embedding needs at least 2 rows")
        if self.tokens not in ("row", "groups"):
            raise ValueError(f"tokens is {self.tokens!r}; it must be 'row' or 'groups'")

    def config(self, schema: Schema, *, ordered: bool) -> Config:
        """The networks for rows of this schema; rows without order are only ever masked, never looked ahead in."""
        return Config(
            schema.input_dim,
            embed_dim=self.embed_dim,
            predictor_embed_dim=self.predictor_embed_dim,
            encoder_depth=self.encoder_depth,
            predictor_depth=self.predictor_depth,
            num_heads=self.num_heads,
            dropout=self.dropout,
            patches=(Patch("row", schema.groups),)
            if self.tokens == "row"
            else tuple(Patch(group.name, (group,)) for group in schema.groups),
            horizons=self.horizons if ordered else (0,),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe that `as_dict` described, lists read as tuples as JSON has none."""
        read: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**read)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


PRESETS = {
    "quick": Recipe(steps=400, encoder_depth=2, dropout=0.0),
    "default": Recipe(),
}
