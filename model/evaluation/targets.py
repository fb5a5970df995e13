"""What heads learn: the kind of each by its labels' values, and what each row's answer is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.heads import Head
from model.evaluation.events import Event
from model.evaluation.label_columns import Columns, Values

# More whole numbers than these are no classes but a number.
MAX_CLASSES = 64
# Of each value of a binary head, and of each class; a class with fewer is left out.
MIN_LABELLED_ROWS = 20


@dataclass(frozen=True)
class Target:
    """A head and what it learns: 0 or 1 (binary), the place among its outputs (classes), or the number."""

    head: Head
    event: Event
    values: NDArray[np.float32]  # [rows], NaN where a row has no label
    # In words, what was left out.
    note: str = ""

    def at(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[n] of rows [n], NaN for row −1, which is none."""
        return np.where(rows < 0, np.float32(np.nan), self.values[rows])


def target(event: Event, columns: Columns, train: NDArray[np.int64]) -> Target:
    """What the labels of the training rows make of an event; ValueError if nothing can be learned from them."""
    values, known = columns.compute(event.formula)
    learned = values[train][known[train]]
    if not len(learned):
        raise ValueError(f"'{event.name}' has no label in any training row")
    kept, counts = np.unique(learned, return_counts=True)
    if len(kept) < 2:
        raise ValueError(f"'{event.name}' is {kept[0]} in every training row; a head needs two values at least")
    if not event.classes and _is_number(kept):
        head = Head(event.name, "number", (event.name,))
        return Target(head, event, np.where(known, values, np.nan).astype(np.float32))
    common = kept[counts >= MIN_LABELLED_ROWS]
    if len(common) < 2:
        raise ValueError(
            f"'{event.name}' has fewer than two values with {MIN_LABELLED_ROWS} training rows each; label more rows"
        )
    if len(common) > MAX_CLASSES:
        raise ValueError(f"'{event.name}' has {len(common)} classes; a head may have {MAX_CLASSES}")
    known &= np.isin(values, common)
    rare = len(kept) - len(common)
    note = f"{rare} of {len(kept)} classes, with fewer than {MIN_LABELLED_ROWS} training rows, left out" if rare else ""
    if not event.classes and kept.dtype.kind == "f" and common.tolist() == [0, 1]:
        head = Head(event.name, "binary", (event.name,))
    else:
        head = Head(event.name, "classes", tuple(f"{event.name}={name}" for name in _class_names(event, common)))
    return Target(head, event, _codes(values, known, common), note)


def like_head(event: Event, head: Head, columns: Columns) -> Target:
    """The answers of an event for a head that there is already; ValueError where they are of another kind."""
    values, known = columns.compute(event.formula)
    if head.kind == "number":
        return Target(head, event, np.where(known, values, np.nan).astype(np.float32))
    if head.kind == "binary":
        return Target(head, event, _codes(values, known & np.isin(values, (0, 1)), np.array([0, 1])))
    found = np.unique(values[known])
    names = _class_names(event, found)
    codes = np.full(len(values), np.nan, np.float32)
    for value, name in zip(found, names, strict=True):
        if (output := f"{head.name}={name}") in head.outputs:
            codes[known & (values == value)] = head.outputs.index(output)
    return Target(head, event, codes)


def _is_number(values: Values) -> bool:
    """Whether values, each once, are no classes."""
    if values.dtype.kind == "U":
        return False
    return len(values) > MAX_CLASSES or bool((values != np.trunc(values)).any())


def _codes(values: Values, known: NDArray[np.bool_], kept: Values) -> NDArray[np.float32]:
    """[rows] the place of each value among those that are kept, ascending; NaN for others."""
    return np.where(known, np.searchsorted(kept, values), np.nan).astype(np.float32)


def _class_names(event: Event, values: Values) -> Sequence[str]:
    if not event.classes:
        return [value if isinstance(value, str) else str(int(value)) for value in values.tolist()]
    count = len(event.classes)
    if not np.isin(values, np.arange(count)).all():
        raise ValueError(
            f"'{event.name}' names {count} classes, so its formula must give whole numbers from 0 to {count - 1}; it "
            f"gives {', '.join(map(str, values[:5]))}{' …' if len(values) > 5 else ''}"
        )
    return [event.classes[int(value)] for value in values]
