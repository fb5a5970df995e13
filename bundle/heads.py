"""`heads.npz`: linear heads on the embedding, which answer named questions about a frame and about later ones.

An output is `u = scale · (e · W + b) + shift`, and of that the sigmoid of `u + bend · log(1 + exp(u + knee))` (binary
heads), the softmax over the outputs of its head (classes) or itself, in the label's unit (numbers). At horizon 0, now,
e is the embedding; at later horizons it is what the predictor expects. Each horizon has a scale, a shift, a bend and a
knee of its own for each output.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Limits, parse_arrays, write_arrays
from bundle.folders import BundleError

Array = NDArray[np.float32]
Kind = Literal["binary", "classes", "number"]

# Of the archive, and of all that it unpacks to.
MAX_HEADS_BYTES = 2**27


@dataclass(frozen=True)
class Head:
    """One question, and the names of its outputs in answers: its own, or `head=class` for each class."""

    name: str
    kind: Kind
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Heads:
    """All heads of a bundle, or some of them; O counts the outputs of all, and H the horizons of the manifest."""

    heads: tuple[Head, ...]
    weights: Array  # [embed_dim, O]
    biases: Array  # [O]
    calibration: Array  # [1 + H, O, 4]: scale, shift, bend and knee; first of horizon 0, then of each horizon

    @property
    def outputs(self) -> list[str]:
        """[O] names, in the order of the columns of `values`."""
        return [output for head in self.heads for output in head.outputs]

    def select(self, names: Sequence[str]) -> "Heads":
        """The heads of these names, in this order; KeyError for a name that is none."""
        columns, start = {}, 0
        for head in self.heads:
            columns[head.name] = head, range(start, start := start + len(head.outputs))
        chosen = [columns[name] for name in names]
        kept = np.array([column for _, span in chosen for column in span], np.intp)
        return Heads(
            tuple(head for head, _ in chosen),
            np.ascontiguousarray(self.weights[:, kept]),
            self.biases[kept],
            self.calibration[:, kept],
        )

    def raw(self, embeddings: Array) -> Array:
        """[B, embed_dim] → [B, O] before calibration: log-odds, and numbers in their unit."""
        scores: Array = embeddings @ self.weights
        scores += self.biases
        return scores

    def values(self, embeddings: Array, horizon_index: int | NDArray[np.intp]) -> Array:
        """[B, embed_dim] → [B, O]: probabilities, and numbers in their unit; `horizon_index` is 0 for embeddings, else
        one more than the place of the horizon in the manifest, for all rows or for each ([B])."""
        return self.from_raw(self.raw(embeddings), horizon_index)

    def from_raw(self, scores: Array, horizon_index: int | NDArray[np.intp]) -> Array:
        """As `values`, of what `raw` gave, [B, O]."""
        values: Array = scores * self._scales[horizon_index]  # [O] or [B, O]
        values += self._shifts[horizon_index]
        for kind, columns, firsts, head_of in self._runs:
            part = values[:, columns]
            if kind == "binary":
                if self._is_bent:
                    knees = self._knees[horizon_index][..., columns]
                    part += self._bends[horizon_index][..., columns] * np.logaddexp(np.float32(0), part + knees)
                # The sigmoid, in a form that no large number makes overflow.
                part *= 0.5
                np.tanh(part, out=part)
                part *= 0.5
                part += 0.5
            elif kind == "classes":
                part -= np.maximum.reduceat(part, firsts, axis=1)[:, head_of]
                np.exp(part, out=part)
                part /= np.add.reduceat(part, firsts, axis=1)[:, head_of]
        return values

    @cached_property
    def _scales(self) -> Array:
        return np.ascontiguousarray(self.calibration[..., 0])

    @cached_property
    def _shifts(self) -> Array:
        return np.ascontiguousarray(self.calibration[..., 1])

    @cached_property
    def _bends(self) -> Array:
        return np.ascontiguousarray(self.calibration[..., 2])

    @cached_property
    def _knees(self) -> Array:
        return np.ascontiguousarray(self.calibration[..., 3])

    @cached_property
    def _is_bent(self) -> bool:
        return bool(self._bends.any())

    @cached_property
    def _runs(self) -> list[tuple[Kind, slice, NDArray[np.intp], NDArray[np.intp]]]:
        """What is computed together, neighbours of one kind: the kind, the columns and, counted within these, the first
        column of each head [heads] and the head of each column [columns]."""
        runs, start = [], 0
        for kind, neighbours in groupby(self.heads, key=lambda head: head.kind):
            widths = [len(head.outputs) for head in neighbours]
            stop = start + sum(widths)
            firsts = np.cumsum([0, *widths[:-1]])
            runs.append((kind, slice(start, stop), firsts, np.repeat(np.arange(len(widths)), widths)))
            start = stop
        return runs

    def write(self, path: Path) -> None:
        """Writes `heads.npz`; which head an output belongs to is said in bundle.json."""
        write_arrays(path, {"weights": self.weights, "biases": self.biases, "calibration": self.calibration})


def parse_heads(content: bytes, path: Path, heads: Sequence[Head], embed_dim: int, horizons: int) -> Heads:
    """Reads the archive for those heads of the manifest; BundleError where an array is missing, has another shape or
    holds what is no number, and ValueError where the content is no archive of arrays."""
    count = sum(len(head.outputs) for head in heads)
    shapes = {"weights": (embed_dim, count), "biases": (count,), "calibration": (1 + horizons, count, 4)}
    arrays = parse_arrays(content, path, shapes, Limits("heads", count, MAX_HEADS_BYTES))
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise BundleError(f"{path}: {name} holds NaN or an infinite number; run jepa heads again")
    return Heads(tuple(heads), **arrays)
