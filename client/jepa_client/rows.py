"""Checks rows and converts them to float32 before sending, and restores their rank on return."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ma
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.float32]
FLOAT32_LE = np.dtype("<f4")


def to_rows(field: str, values: ArrayLike) -> Rows:
    """One row [D] or many [B, D] of real numbers → little-endian float32, row-major. NaN and infinity pass, since the
    service can name their column in its error."""
    try:
        array = np.asarray(unmasked(values))
    except ValueError as error:
        raise ValueError(f"{field} is no array ({error}); all rows must have the same length") from None
    if array.ndim not in (1, 2):
        mend = ".reshape(1)" if array.ndim == 0 else ".reshape(-1, array.shape[-1])"
        raise ValueError(f"{field} has shape {array.shape}; send one row [D] or rows [B, D], such as array{mend}")
    if not array.size:
        raise ValueError(f"{field} is empty, its shape is {array.shape}; send at least one row")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{field} is of {array.dtype}; a row is real numbers: convert it with .astype(np.float32)")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, FLOAT32_LE)


def unmasked(values: Any) -> Any:
    """With NaN for the numbers that a masked array of NumPy hides, in whose place anything may stand."""
    if not isinstance(values, ma.MaskedArray) or not ma.is_masked(values) or values.dtype.kind not in "biuf":
        return values
    return ma.filled(values.astype(np.promote_types(values.dtype, np.float32)), np.nan)


def side_by_side(**fields: Rows) -> Rows:
    """[B, D] and [B, D] → [B, 2 D], or [D] and [D] → [2 D]."""
    check_alike(**fields)
    return np.concatenate([*fields.values()], axis=-1)


def check_alike(**fields: Rows) -> None:
    if len({rows.shape for rows in fields.values()}) > 1:
        shapes = " and ".join(f"{name} has shape {rows.shape}" for name, rows in fields.items())
        raise ValueError(f"{shapes}; each row of one belongs to a row of the other, so send them alike")


def from_bytes(content: bytes, sent: Sequence[int]) -> Rows:
    """The response to rows of shape `sent`, with the same rank: [E] or [B, E]."""
    # A copy, since an array over bytes is read-only.
    return ranked(np.frombuffer(content, FLOAT32_LE).astype(np.float32), sent)


def ranked(floats: Rows, sent: Sequence[int]) -> Rows:
    """All numbers of a response to rows of shape `sent`, with the same rank."""
    if len(sent) == 1:
        return floats
    if len(floats) % sent[0]:
        # Bytes carry no shape, so the service may have split them into rows of the model's width instead.
        raise ValueError(
            f"{sent[0]} rows of {sent[1]} numbers were sent, and the service read them as another number of rows; "
            "each row must have the model's input_dim numbers, so is the array transposed?"
        )
    return floats.reshape(sent[0], -1)
