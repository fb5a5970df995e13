"""How a run learns: the network's size and the options of training, each checked, and the presets to choose from."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, TypeVar

from bundle.schema import Schema
from model.networks.config import Config, Patch

Value = TypeVar("Value")

# A bundle lists its horizons, and a batch may hold a row of each.
MAX_HORIZONS = 100
TOKENS = ("row", "groups")


def _option(default: Value, help: str, low: float = 0, high: float = 1) -> Value:
    """A field of `Recipe`; its numbers lie between `low` and `high`, both included."""
    option: Any = field(default=default, metadata={"help": help, "low": low, "high": high})
    return option  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Recipe:
    """Options of one training run. Shares are of 1, horizons are frames ahead (ignored where rows have no order).

    ValueError for one of the wrong type or out of its range, which says what would be right.
    """

    embed_dim: int = _option(256, "Numbers of an embedding", 1, 65_536)
    predictor_embed_dim: int = _option(128, "Width of the predictor", 1, 65_536)
    encoder_depth: int = _option(3, "Blocks of the encoder", 1, 100)
    predictor_depth: int = _option(2, "Blocks of the predictor", 1, 100)
    num_heads: int = _option(8, "Heads of attention; they divide both widths", 1, 1024)
    tokens: str = _option("row", "row: one token a row, whose groups can be hidden; groups: one token a group")
    horizons: tuple[int, ...] = _option((1, 5, 10, 18, 20, 21, 30, 60), "Frames ahead to predict", 1, 1_000_000)
    max_actions: int = _option(24, "Frames whose own inputs the predictor takes, where data has them; 0: none", 0, 1000)
    steps: int = _option(4000, "Training steps", 1, 1_000_000_000)
    batch_size: int = _option(1024, "Rows of a step", 2, 1_048_576)
    learning_rate: float = _option(2e-3, "Its peak", 1e-9, 10)
    weight_decay: float = _option(0.05, "Of AdamW, for matrices", 0, 10)
    warmup_steps: int = _option(100, "Steps until the learning rate is at its peak", 0, 1_000_000_000)
    momentum: float = _option(0.998, "Of the moving average that is the target encoder")
    hide_share: tuple[float, float] = _option((0.0, 0.3), "Least and largest share of groups hidden in a row", 0, 0.99)
    # With few games, longer runs learn them by heart without it.
    dropout: float = _option(0.1, "Share of the context encoder's activations that is dropped", 0, 0.99)
    symmetries: bool = _option(True, "Learn from both players' sides and the mirror, where the layout says how")
    # Weights of the terms of the loss, each a function in `losses`.
    prediction: float = _option(1.0, "Weight of predicted representations; 0 leaves a term out", 0, 1_000_000)
    anchor: float = _option(20.0, "Weight of predicted columns", 0, 1_000_000)
    foresight: float = _option(20.0, "Weight of what can be predicted from a prediction", 0, 1_000_000)
    direction: float = _option(10.0, "Weight of which columns rise and fall", 0, 1_000_000)
    composite: float = _option(1.0, "Weight of rows put together of two", 0, 1_000_000)
    patience: int = _option(0, "Stop after so many of fifty reports without a better one; 0: never", 0, 1_000_000)
    seed: int = _option(0, "Equal seeds and data give equal weights", 0, 2**32 - 1)

    def __post_init__(self) -> None:
        for name in FIELDS:
            object.__setattr__(self, name, checked(name, getattr(self, name)))
        if not any((self.prediction, self.anchor, self.foresight, self.direction, self.composite)):
            raise ValueError(
                "prediction, anchor, foresight, direction and composite are 0: every term of the loss has weight 0; "
                "give one of them more"
            )
        # Which widths go together is known there.
        Config(
            1,
            embed_dim=self.embed_dim,
            predictor_embed_dim=self.predictor_embed_dim,
            num_heads=self.num_heads,
        )

    def config(self, schema: Schema, *, ordered: bool, actions: int = 0) -> Config:
        """The networks for rows of this schema, with inputs of so many numbers; rows without order are only ever
        masked, never looked ahead in."""
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
            actions=actions if ordered and self.max_actions else 0,
            max_actions=self.max_actions or Config.max_actions,
        )

    def changed(self, values: Mapping[str, Any]) -> "Recipe":
        """This recipe with other values of some fields; ValueError names what is no field, and the nearest one."""
        for name in values:
            check_field(name)
        return replace(self, **values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe that `as_dict` described, also where JSON has made lists of its tuples."""
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_toml(self, origins: Mapping[str, str] | None = None) -> str:
        """A file for `jepa train --config`; `origins` say of a field where its value comes from."""
        lines = []
        for name, about in FIELDS.items():
            said = about.metadata["help"] + (f" [{origins[name]}]" if origins else "")
            lines.append(f"{name} = {json.dumps(getattr(self, name))}  # {said}")
        return "\n".join(lines) + "\n"


FIELDS = {each.name: each for each in fields(Recipe)}


def check_field(name: str) -> None:
    """Raises ValueError unless a recipe has a field of that name."""
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(FIELDS)}"
        raise ValueError(f"{name} is no field of a recipe; {hint}")


def checked(name: str, value: Any) -> Any:
    """The value of a field in the field's own type; ValueError says what came and what is right."""
    about = FIELDS[name]
    low, high, usual = about.metadata["low"], about.metadata["high"], about.default
    found, right = value, ""
    if isinstance(usual, bool):
        fits, right = isinstance(value, bool), "true or false"
    elif isinstance(usual, str):
        fits, right = value in TOKENS, " or ".join(map(repr, TOKENS))
    elif isinstance(usual, tuple):
        kind = type(usual[0])
        items = value if isinstance(value, list | tuple) else (value,)
        found = tuple(_number(item, kind, low, high) for item in items)
        if name == "hide_share":
            right = f"two numbers from {low:g} to {high:g}, such as [0.0, 0.3]"
            fits = len(found) == 2 and None not in found and found[0] <= found[1]
        else:
            right = f"up to {MAX_HORIZONS} whole numbers of frames from {low:g} to {high:,}, such as [1, 5, 30]"
            fits = 1 <= len(found) <= MAX_HORIZONS and None not in found
            found = tuple(sorted(set(found))) if fits else found
    else:
        found = _number(value, type(usual), low, high)
        number = "a whole number" if isinstance(usual, int) else "a number"
        fits, right = found is not None, f"{number} from {low:,} to {high:,}"
    if not fits:
        raise ValueError(f"{name} is {[*value] if isinstance(value, tuple) else value!r}; it must be {right}")
    return found


def _number(value: Any, kind: type, low: float, high: float) -> Any:
    """The value as a number of that kind, None where it is none between `low` and `high`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        return None
    whole = isinstance(value, Integral) or float(value).is_integer()
    return None if kind is int and not whole else kind(value)


PRESETS = {
    "quick": Recipe(steps=400, encoder_depth=2, dropout=0.0),
    "default": Recipe(),
}


def of_preset(name: str) -> Recipe:
    """The recipe of that name; ValueError lists the names there are."""
    if name not in PRESETS:
        raise ValueError(f"preset is '{name}'; it must be one of {', '.join(PRESETS)}")
    return PRESETS[name]
