"""Symmetries of a game, such as swapping the players or mirroring the stage, which turn one recording into several."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bundle.schema import Schema, group_of_columns

# What a description of a symmetry may have.
PARTS = ("pairs", "negate", "exchange", "hide")


@dataclass(frozen=True)
class Symmetry:
    """A transformation of rows under which a game remains a valid game. Shapes: C columns, G groups.

    Column i takes its number from column `source[i]`, times `sign[i]`. In the columns of `exchange` (column, a, b), the
    values a and b are swapped instead. Groups in `hidden` cannot be derived from the original row and must be hidden.
    """

    source: Tensor  # [C]
    sign: Tensor  # [C] 1 or −1
    exchange: tuple[tuple[int, float, float], ...]
    hidden: Tensor  # [G] bool

    @classmethod
    def of(cls, schema: Schema, description: Mapping[str, Any]) -> "Symmetry":
        """From `{"pairs": [[prefix, prefix]], "negate": [pattern], "exchange": [[pattern, a, b]], "hide": [group]}`."""
        position = {name: i for i, name in enumerate(schema.names)}
        if odd := [part for part in description if part not in PARTS]:
            raise ValueError(f"'{odd[0]}' is no part of a symmetry; the parts are {', '.join(PARTS)}")
        source = np.arange(len(schema.names))
        for one, other in description.get("pairs", []):
            for name, i in position.items():
                if not name.startswith((one, other)):
                    continue
                twin = other + name.removeprefix(one) if name.startswith(one) else one + name.removeprefix(other)
                if twin not in position:
                    raise ValueError(f"column '{name}' has no twin '{twin}'; leave it out or add the twin")
                source[i] = position[twin]
        sign = np.ones(len(schema.names), np.float32)
        for pattern in description.get("negate", []):
            sign[[i for name, i in position.items() if fnmatch.fnmatchcase(name, pattern)]] = -1
        groups = [group.name for group in schema.groups]
        if unknown := set(description.get("hide", [])) - set(groups):
            raise ValueError(f"there is no group {sorted(unknown)} to hide; the groups are {groups}")
        return cls(
            torch.from_numpy(source),
            torch.from_numpy(sign),
            tuple(
                (i, float(a), float(b))
                for pattern, a, b in description.get("exchange", [])
                for name, i in position.items()
                if fnmatch.fnmatchcase(name, pattern)
            ),
            torch.tensor([group in description.get("hide", []) for group in groups]),
        )

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        tensors = {name: getattr(self, name).tolist() for name in ("source", "sign", "hidden")}
        return {**tensors, "exchange": [*self.exchange]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Symmetry":
        """The symmetry that `as_dict` described."""
        return cls(
            torch.tensor(values["source"], dtype=torch.long),
            torch.tensor(values["sign"], dtype=torch.float32),
            tuple((int(column), float(a), float(b)) for column, a, b in values["exchange"]),
            torch.tensor(values["hidden"], dtype=torch.bool),
        )

    def of_actions(self, names: Sequence[str], schema: Schema) -> tuple[Tensor, Tensor]:
        """`source` [A] and `sign` [A] of inputs with these names. The sign is NaN where the input of the
        transformed row is not known: it is no column of the schema, comes of none of the others, or is hidden."""
        position, group = {name: i for i, name in enumerate(schema.names)}, group_of_columns(schema.groups)
        place = {position[name]: i for i, name in enumerate(names) if name in position}
        exchanged = {column for column, *_ in self.exchange}
        source, sign = torch.arange(len(names)), torch.full((len(names),), torch.nan)
        for column, i in place.items():
            came = int(self.source[column])
            if came in place and column not in exchanged and not self.hidden[group[column]]:
                source[i], sign[i] = place[came], self.sign[column]
        return source, sign

    def apply(self, rows: Tensor) -> Tensor:
        """Transforms rows [n, C] → [n, C]; the groups in `hidden` still hold numbers, which the caller must hide."""
        seen = rows.index_select(1, self.source.to(rows.device)) * self.sign.to(rows.device)
        for column, a, b in self.exchange:
            was = rows[:, column]
            seen[:, column] = torch.where(was == a, b, torch.where(was == b, a, was))
        return seen


def symmetries(schema: Schema, about: Mapping[str, Any]) -> tuple[Symmetry, ...]:
    """The symmetries that `about` (such as a schema.json) describes: `sides` swaps players, `mirror` flips stages."""
    found = []
    for kind in ("sides", "mirror"):
        try:
            found += [Symmetry.of(schema, about[kind])] if kind in about else []
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{kind} is {about[kind]!r:.80}, which describes no symmetry ({error})") from None
        except ValueError as error:
            raise ValueError(f"{kind}: {error}") from None
    return tuple(found)
