"""What is wrong with text where numbers should be, in words."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# A number, written out.
NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
# A number as people write it, with marks in it that no program takes for a part of it.
AMOUNT = re.compile(r"\s*[+\-\u2212]?\d[\d.,'\u2019\xa0\u202f ]*([eE][+-]?\d+)?\s*")


def odd_text(name: str, column: pa.ChunkedArray) -> str:
    """What it is in a column of text that is no number, in words."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return ""
    is_number_or_nothing = pc.fill_null(pc.match_substring_regex(column, rf"^\s*{NUMBER}\s*$"), True).to_numpy()
    texts = np.flatnonzero(~is_number_or_nothing)
    if not len(texts):
        return (
            f"; '{name}' holds numbers written as text: save them as numbers" if column.null_count < len(column) else ""
        )
    first = column[int(texts[0])].as_py()
    return (
        f"; '{name}' holds {first!r:.80} in row {texts[0]}{_mend(name, first, texts, len(column) - column.null_count)}"
    )


def _mend(name: str, first: str, texts: NDArray[np.int64], count: int) -> str:
    """How a column of `count` texts comes to hold numbers, of which those in the rows `texts` are none."""
    if first.strip() == name:
        return ", which is its name: take lines away that name the columns once more"
    if len(name.split()) == len(first.split()) > 1:
        return ": blanks stand between what seem to be several columns; put commas there"
    if AMOUNT.fullmatch(first):
        return ": write numbers as in -1234.5, with nothing between thousands"
    if first.lstrip().startswith("["):
        return ": save each number of a list as a column of its own, or all of them as Parquet"
    if len(texts) == count:
        return ""
    units = "take the row away if it holds units, or " if texts[0] == texts[-1] == 0 else ""
    return f", and other rows numbers: {units}write nothing where a number is missing"
