"""Checks the player's own inputs of the frames that follow, and puts them behind the rows that they are sent with."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jepa_client.rows import FLOAT32_LE, Rows, unmasked

# Arrays, or lists in which a number or a whole input may be None.
Inputs = ArrayLike | Sequence[Any]
# The query parameters that say how a body is to be read.
OF_ACTIONS = ("actions", "candidates")


class Sent(NamedTuple):
    """A body, the parameters that say what is in it, and the shape of the rows that are answered."""

    content: bytes
    params: dict[str, str]
    shape: tuple[int, ...]


def to_inputs(actions: Inputs, rows: Rows, frames: int | None = None) -> Rows:
    """[n, A] or [N, n, A] of real numbers, None or NaN where unknown → float32 [1, n, A] or [N, n, A], one list of
    inputs for each row or candidates for one; with `frames` filled up with NaN to so many."""
    array = _array(actions)
    count = 1 if rows.ndim == 1 else len(rows)
    shape = array.shape
    if array.ndim == 2 and count == 1:
        # Without a dimension of candidates there are none: the answer has the rank of the row.
        array = array[None]
    if array.ndim != 3 or not array.size:
        right = "[n, A] or, for N candidates, [N, n, A]" if count == 1 else f"[{count}, n, A]"
        raise ValueError(f"actions has shape {shape}; send {right}, an input of A numbers for each of n frames")
    if count > 1 and len(array) != count:
        raise ValueError(
            f"actions has shape {shape} beside {count} rows; send [{count}, n, A], or one row for candidates"
        )
    if frames is not None:
        if array.shape[1] > frames:
            raise ValueError(f"actions has {array.shape[1]} inputs; this stream was opened for actions={frames}")
        array = np.pad(array, ((0, 0), (0, frames - array.shape[1]), (0, 0)), constant_values=np.nan)
    return array if len(shape) == 3 or rows.ndim == 2 else array[0]


def beside(rows: Rows, inputs: Rows | None) -> Sent:
    """Rows [D] or [B, D], with `to_inputs` of them behind each row, or behind the only one."""
    if inputs is None:
        return Sent(rows.tobytes(), {}, rows.shape)
    frames = {"actions": str(inputs.shape[-2])}
    if inputs.ndim == 2:
        return Sent(rows.tobytes() + inputs.tobytes(), frames, rows.shape)
    if rows.ndim == 1 or len(rows) != len(inputs):
        params = frames | {"candidates": str(len(inputs))}
        return Sent(rows.tobytes() + inputs.tobytes(), params, (len(inputs), rows.shape[-1]))
    body = np.concatenate([rows, inputs.reshape(len(rows), -1)], axis=1)
    return Sent(body.tobytes(), frames, rows.shape)


def _array(actions: Inputs) -> Rows:
    try:
        array = np.asarray(unmasked(_without_none(actions)))
    except ValueError as error:
        raise ValueError(f"actions is no array ({error}); all inputs must have the same length") from None
    if array.dtype == object and all(each is None for each in array.flat):
        raise ValueError("actions holds nothing that is known; leave it out")
    if array.dtype == object and array.ndim > 1:
        # Some numbers are None.
        numbers = np.asarray([np.nan if each is None else each for each in array.flat])
        array = numbers.reshape(array.shape) if numbers.ndim == 1 else array
    if array.dtype.kind not in "fiub":
        raise TypeError(f"actions is of {array.dtype}; an input is real numbers, and None or NaN where it is not known")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, FLOAT32_LE)


def _without_none(actions: Inputs) -> Inputs:
    """With NaN in place of whole inputs that are None."""
    levels = _levels(actions)
    if isinstance(actions, np.ndarray) or levels not in (2, 3):
        return actions
    lists: list[Any] = [actions] if levels == 2 else [*actions]  # type: ignore[misc]
    known: Any = next((each for each in chain(*lists) if each is not None), [])
    unknown = [np.nan] * len(known)
    filled = [[unknown if each is None else each for each in inputs] for inputs in lists]
    return filled[0] if levels == 2 else filled


def _levels(part: Any) -> int:
    """How deep lists go, by what is first known in them."""
    if part is None or isinstance(part, str):
        return 0
    if not isinstance(part, Sequence):
        return np.ndim(part)
    return 1 + _levels(next((each for each in part if each is not None), None))
