"""What a forecast reads out of a run: the values of heads at one horizon, and how novel a frame is.

A run of the target encoder (now) or of the predictor (later) holds the rows of many callers. Those that ask for the
same heads at the same horizon share one matrix product, and whoever asks for embeddings pays for none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.errors import InvalidInput, did_you_mean, listed
from app.inference.jobs import Timing
from app.rows import Array
from bundle.heads import Heads
from bundle.manifest import Manifest
from bundle.novelty import Judged, Novelty

# The horizon of the frame itself.
NOW = 0
# Selections of heads that are kept, each with a copy of its weights. A bot asks for the same ones with every frame.
MAX_SELECTIONS = 16


class Forecast(NamedTuple):
    """Values [B, O] of the `outputs`: probabilities, and numbers in their unit. `novelty` [B] is the percentile of each
    frame among held-out ones (0–100), None where it was not asked for."""

    outputs: Sequence[str]
    values: Array
    novelty: Array | None
    timing: Timing

    def flat(self) -> Array:
        """[B, O], or [B, O + 1] with the novelty behind the values."""
        return self.values if self.novelty is None else np.column_stack([self.values, self.novelty])


@dataclass(frozen=True, eq=False)
class Reading:
    """Some heads at one horizon, and how novel embeddings of present frames are; either may be left out. Callers who
    ask for the same have the same object, so that one call reads the rows of all."""

    heads: Heads | None
    horizon_index: int
    novelty: Novelty | None
    outputs: Sequence[str] = ()

    def __call__(self, embeddings: Array) -> Array:
        """[B, embed_dim] → [B, O], and a column for the novelty."""
        parts = []
        if self.heads is not None:
            parts.append(self.heads.values(embeddings, self.horizon_index))
        if self.novelty is not None:
            parts.append(self.novelty.percentiles(embeddings)[:, None])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def forecast(self, read: Array, timing: Timing) -> Forecast:
        """Of what a call answered."""
        if self.novelty is None:
            return Forecast(self.outputs, read, None, timing)
        return Forecast(self.outputs, np.ascontiguousarray(read[:, :-1]), read[:, -1].copy(), timing)


class Forecasts:
    """The heads and the measure of novelty of one model, either of which it may lack."""

    def __init__(self, manifest: Manifest, heads: Heads | None, novelty: Novelty | None) -> None:
        self._manifest, self._heads, self._novelty = manifest, heads, novelty
        self._novelty_alone = Reading(None, 0, novelty)
        # By the names of heads, None for all; the horizon; and whether the novelty is read as well.
        self._readings: dict[tuple[tuple[str, ...] | None, int, bool], Reading] = {}

    def reading(self, names: Sequence[str] | None, horizon: int, *, novelty: bool = False) -> Reading:
        """Of the heads of these names, all without names, at a horizon that the model knows; InvalidInput."""
        key = None if names is None else tuple(names), horizon, novelty
        if (reading := self._readings.get(key)) is None:
            heads = self._selected(names)
            index = 0 if horizon == NOW else 1 + self._manifest.horizons.index(horizon)
            reading = Reading(heads, index, self._known_novelty() if novelty else None, heads.outputs)
            if len(self._readings) >= MAX_SELECTIONS:
                self._readings.clear()
            self._readings[key] = reading
        return reading

    def reading_of_novelty(self) -> Reading:
        """Of the novelty alone; InvalidInput."""
        self._known_novelty()
        return self._novelty_alone

    def judge(self, percentiles: Array, rows: Array) -> Judged:
        """Of frames whose embeddings have these percentiles [B]: their rows are [B, input_dim]."""
        return self._known_novelty().judge(percentiles, rows)

    def _selected(self, names: Sequence[str] | None) -> Heads:
        model = self._manifest.name
        if self._heads is None:
            raise InvalidInput(((), f"model '{model}' has no heads to forecast with; `jepa heads` makes them"))
        if names is None:
            return self._heads
        if not names:
            raise InvalidInput((("heads",), "heads is empty; name at least one head, or leave it out for all"))
        known = [head.name for head in self._heads.heads]
        for i, name in enumerate(names):
            if name not in known:
                hint = did_you_mean(name, known)
                raise InvalidInput((("heads", i), f"heads[{i}] is no head of this model; {hint}it has {listed(known)}"))
            if name in names[:i]:
                raise InvalidInput((("heads", i), f"heads[{i}] is '{name}' once more; name each head once"))
        return self._heads.select(names)

    def _known_novelty(self) -> Novelty:
        if self._novelty is None:
            raise InvalidInput(
                (
                    ("novelty",),
                    f"model '{self._manifest.name}' cannot tell how novel a frame is; `jepa heads` adds that",
                )
            )
        return self._novelty


def known_horizon(manifest: Manifest, horizon: float, *, can_be_now: bool = False) -> int:
    """The horizon, if it is one of the model's, or NOW where that can be asked for; InvalidInput names the nearest."""
    horizons = [NOW] * can_be_now + manifest.horizons
    if horizon not in horizons:
        known = ", ".join(f"{each} (now)" if each == NOW and can_be_now else f"{each}" for each in horizons)
        nearest = min(horizons, key=lambda each: abs(each - horizon))
        about = f"horizon {horizon:g} is none that model '{manifest.name}' was trained for: {known}"
        raise InvalidInput((("horizon",), f"{about}; the nearest is {nearest}"))
    return int(horizon)
