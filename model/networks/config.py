"""One frozen configuration of the two networks: every option, its default and its check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypedDict

from bundle.schema import Group, check_groups, equal_groups

GroupLike = Group | tuple[str, int, int]
PatchesLike = int | Sequence[GroupLike] | Mapping[str, Sequence[GroupLike]]

DEFAULT_PATCHES = 8


class Patch(NamedTuple):
    """One token of the encoder: the groups of columns that are projected to it together."""

    name: str
    groups: tuple[Group, ...]


class Options(TypedDict, total=False):
    """The options that `build` and its sisters share; `Config` holds their defaults."""

    embed_dim: int
    predictor_embed_dim: int
    encoder_depth: int
    predictor_depth: int
    num_heads: int
    mlp_ratio: float
    dropout: float
    patches: PatchesLike | None
    horizons: Sequence[int]
    actions: int
    max_actions: int


@dataclass(frozen=True)
class Config:
    """Options of the context encoder and the predictor, checked; a bad one is a ValueError that names it.

    `patches` cuts a row into tokens: a number gives that many equal consecutive chunks (1: the flat single-token
    model; None: 8, or one a column where there are fewer); a sequence of `(name, start, stop)` one token a named
    group; a mapping `{token: groups}` one token for several groups, each of which can still be hidden alone.
    `horizons` are the frames ahead that the predictor can be asked for; 0 is the same frame. `actions` are the numbers
    of an input of the player's own, of which the predictor takes one for each of up to `max_actions` frames; 0: none.
    """

    input_dim: int
    embed_dim: int = 256
    predictor_embed_dim: int = 128
    encoder_depth: int = 6
    predictor_depth: int = 4
    num_heads: int = 8
    mlp_ratio: float = 4.0
    dropout: float = 0.1
    # Any PatchesLike may be given; __post_init__ cuts it into patches.
    patches: tuple[Patch, ...] = None  # type: ignore[assignment]
    horizons: tuple[int, ...] = (0,)
    actions: int = 0
    max_actions: int = 24

    def __post_init__(self) -> None:
        for name in (
            "input_dim",
            "embed_dim",
            "predictor_embed_dim",
            "encoder_depth",
            "predictor_depth",
            "num_heads",
            "actions",
            "max_actions",
        ):
            value, least = getattr(self, name), 0 if name == "actions" else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}")
        for name in ("embed_dim", "predictor_embed_dim"):
            width = getattr(self, name)
            if width % self.num_heads:
                near = max(width // self.num_heads, 1) * self.num_heads
                raise ValueError(
                    f"{name} is {width}, which num_heads {self.num_heads} does not divide; {near} would do, "
                    f"or a num_heads that divides {width}"
                )
        if not self.mlp_ratio > 0:
            raise ValueError(f"mlp_ratio is {self.mlp_ratio!r}; it must be above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}; it must be in [0, 1)")
        object.__setattr__(self, "patches", _patches(self.patches, self.input_dim))
        object.__setattr__(self, "horizons", _horizons(self.horizons))

    @classmethod
    def of(cls, input_dim: int | None, options: Mapping[str, Any]) -> "Config":
        """A config from keyword options; a missing `input_dim`, which has no default, is the first error named."""
        if input_dim is None:
            raise ValueError("input_dim is missing; give the number of columns of a row, e.g. input_dim=287")
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise ValueError(f"{unknown[0]} is no option; the options are {', '.join(sorted(known))}")
        return cls(input_dim, **options)

    @property
    def groups(self) -> tuple[Group, ...]:
        """All groups in the order of their columns."""
        return tuple(sorted((g for patch in self.patches for g in patch.groups), key=lambda group: group.start))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, from which `from_dict` makes an equal config."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        patches = {patch.name: [list(group) for group in patch.groups] for patch in self.patches}
        return values | {"patches": patches, "horizons": list(self.horizons)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        return cls(**values)


def _patches(patches: PatchesLike | tuple[Patch, ...] | None, input_dim: int) -> tuple[Patch, ...]:
    if patches is None:
        patches = min(DEFAULT_PATCHES, input_dim)
    if isinstance(patches, int):
        if not 1 <= patches <= input_dim:
            raise ValueError(f"patches is {patches}; a row of {input_dim} columns is cut into 1 to {input_dim}")
        cut = tuple(Patch(group.name, (group,)) for group in equal_groups(input_dim, patches))
    elif isinstance(patches, Mapping):
        cut = tuple(Patch(name, tuple(Group(*group) for group in groups)) for name, groups in patches.items())
    else:
        cut = tuple(item if isinstance(item, Patch) else Patch(item[0], (Group(*item),)) for item in patches)
    if empty := [patch.name for patch in cut if not patch.groups]:
        raise ValueError(f"patches has {empty[0]!r} without a group; every patch needs one")
    if len({patch.name for patch in cut}) != len(cut):
        raise ValueError(f"patches {[patch.name for patch in cut]} repeat a name; every patch needs its own")
    check_groups(sorted((g for patch in cut for g in patch.groups), key=lambda group: group.start), input_dim)
    return cut


def _horizons(horizons: Sequence[int]) -> tuple[int, ...]:
    kept = tuple(int(horizon) for horizon in horizons)
    if not kept or min(kept) < 0 or list(kept) != sorted(set(kept)):
        raise ValueError(f"horizons is {list(horizons)}; give frames ahead, each once, rising, from 0, e.g. [6, 30]")
    return kept
