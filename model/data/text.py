"""Reads CSV and its relatives, however a spreadsheet or a program wrote them."""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from model.data.columns import is_number
from model.data.damage import check_no_pointer
from model.data.odd_text import NUMBER
from model.data.preamble import Preamble, preamble
from model.data.remarks import ABOVE, with_remark
from model.data.roles import EPISODE_NAMES, plain_name

# CSV is read in blocks, whose first decides the type of a column: a later fraction would break a column of integers.
MAX_BLOCK_BYTES = 1 << 28
# The beginning of a file, which shows how it is written.
MAX_START_BYTES = 1 << 16
# Up to here float64 holds every whole number.
MAX_EXACT = 1 << 53
# How Python and pandas write that there is nothing; Arrow knows how others do.
NOTHING = ("None", "<NA>")
FRACTION_WITH_COMMA = r"^\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*$"
# One whose comma cannot stand between thousands, as it may in text that no semicolon shows to be European.
NO_THOUSANDS = r"^\s*[+-]?(\d*,(\d|\d\d|\d{4,})|(0?|0\d+|\d{4,}),\d+)([eE][+-]?\d+)?\s*$"


def read(path: Path, episode: str | None = None) -> pa.Table:
    """The columns of a text file, of which `episode` tells games apart (None: one that is named so); ValueError if its
    first line, which must name them, holds numbers. Comments above that line are passed over."""
    with pa.input_stream(path, compression="detect") as file:
        start = file.read(MAX_START_BYTES)
    check_no_pointer(start, path)
    is_wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in start and (not is_wide or start.startswith(codecs.BOM_UTF32_LE)):
        raise ValueError(
            f"{path} holds zero bytes, so it is no text in UTF-8, nor in UTF-16 that begins with its mark, but perhaps "
            "a spreadsheet (.xlsx) or an archive; save it as CSV in UTF-8"
        )
    encoding = "utf-16" if is_wide else "utf-8"
    head = preamble(start.decode(encoding, errors="replace"), "\t" if ".tsv" in path.name.lower() else None)
    ids = [name for name in head.names if plain_name(name) in EPISODE_NAMES or name.strip() == episode]
    table = _read(path, encoding, head, ".", ids)
    others = [name for name in table.column_names if name not in ids]
    # Where something else stands between the numbers, a comma may stand within them.
    pattern = {",": None, ";": FRACTION_WITH_COMMA}.get(head.delimiter, NO_THOUSANDS)
    if pattern is not None and any(_has(table[name], pattern) for name in others):
        other = _read(path, encoding, head, ",", ids)
        # Where points stand within other numbers, which is meant is not known; the text of one kind is refused later.
        if not any(is_number(table[name].type) and not is_number(other[name].type) for name in others):
            table = other
    for i, name in enumerate(table.column_names):
        if name in ids:
            table = table.set_column(i, name, _of_ids(table.column(i)))
    names = [name.strip() for name in table.column_names]
    if _are_numbers(names):
        raise ValueError(
            f"{path} begins with numbers ({', '.join(names[:5])}), so its first row would be taken for the names of "
            "the columns; put a line of names above it"
        )
    return with_remark(table.rename_columns(names), ABOVE, head.passed_over)


def _read(path: Path, encoding: str, head: Preamble, decimal_point: str, texts: Sequence[str]) -> pa.Table:
    return csv.read_csv(
        path,
        read_options=csv.ReadOptions(
            block_size=MAX_BLOCK_BYTES,
            encoding=encoding,
            skip_rows=head.lines + head.in_comment,
            column_names=head.names if head.in_comment else None,
        ),
        parse_options=csv.ParseOptions(delimiter=head.delimiter),
        # An empty cell is nothing in a column of text, too: it is no game's name.
        convert_options=csv.ConvertOptions(
            decimal_point=decimal_point,
            strings_can_be_null=True,
            null_values=[*csv.ConvertOptions().null_values, *NOTHING],
            column_types=dict.fromkeys(texts, pa.string()),
        ),
    )


def _of_ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """What tells games apart, as numbers where those do as well as the text: 007 and 7 are two games, and so are ids
    with more digits than a number has."""
    column = pc.utf8_trim_whitespace(column)
    texts = pc.unique(column).drop_null()
    for kind in (pa.int64(), pa.float64()):
        try:
            numbers = pc.cast(texts, kind)
            if len(pc.unique(numbers)) == len(texts) and (kind == pa.int64() or _are_exact(numbers)):
                return pc.cast(column, kind)
        except pa.ArrowException:
            continue
    return column


def _are_exact(numbers: pa.Array) -> bool:
    """Whether float64 holds every digit of the numbers."""
    return bool((abs(numbers.to_numpy(zero_copy_only=False)) < MAX_EXACT).all())


def _has(column: pa.ChunkedArray, pattern: str) -> bool:
    return pa.types.is_string(column.type) and bool(
        pc.any(pc.match_substring_regex(column, pattern), min_count=0).as_py()
    )


def _are_numbers(names: list[str]) -> bool:
    """Whether these are a row of numbers, beside which text may stand, rather than names such as 0, 1, 2."""
    found = [name for name in names if re.fullmatch(NUMBER, name)]
    if len(found) == len(names):
        return {*names} != {*map(str, range(len(names)))}
    return 2 * len(found) > len(names) and any(not name.isdecimal() for name in found)
