"""What stands above the data of a text file: lines of comments, and the line that names the columns."""

import re
from csv import reader
from typing import NamedTuple

from model.data.odd_text import NUMBER

# In the order in which they are taken where several would do.
DELIMITERS = (",", ";", "\t", "|")
COMMENT = re.compile(r"\s*(#|//|%|;)")
# How spreadsheets are told what stands between the cells.
SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
NUMBER_OF_ANY_COUNTRY = re.compile(rf"\s*({NUMBER}|[+-]?\d*,\d+)\s*")
# NumPy writes names so: `# x,z`.
MARK_BEFORE_NAMES = re.compile(r"\s*(#|//|%|;)\s+(?=\S)")


class Preamble(NamedTuple):
    names: list[str]
    delimiter: str
    # Whether that line is a comment, which holds more than the names.
    in_comment: bool
    # How many lines stand above it, and one of them that is not empty.
    lines: int
    passed_over: str


def preamble(start: str, delimiter: str | None = None) -> Preamble:
    """What the beginning of a file says, of which `delimiter` may be known.

    Lines that begin as comments are passed over where a line of names follows them. Where numbers follow, the last one
    names the columns, if it has as many cells.
    """
    lines = re.split("\r\n|\n|\r", start.removeprefix("\ufeff"))
    filled = [(i, line) for i, line in enumerate(lines) if line.strip()] or [(0, "")]
    above: list[str] = []
    if separator := SEPARATOR.fullmatch(filled[0][1]):
        delimiter = separator[1]
        above.append(filled.pop(0)[1])
    first = next((i for i, (_, line) in enumerate(filled) if not COMMENT.match(line)), 0)
    # A first column without a name begins with the delimiter.
    if delimiter in (None, ";") and ";" in filled[first][1]:
        first = next((i for i, (_, line) in enumerate(filled[:first]) if line.lstrip().startswith(";")), first)
    if first and _are_names(filled[first - 1][1], filled[first][1], delimiter):
        first -= 1
    above += [line for _, line in filled[:first]]
    at, line = filled[first]
    names = MARK_BEFORE_NAMES.sub("", line)
    delimiter = delimiter or _delimiter(names, filled[first + 1][1] if first + 1 < len(filled) else "")
    return Preamble(_cells(names, delimiter), delimiter, names != line, at if above else 0, above[0] if above else "")


def _are_names(comment: str, after: str, delimiter: str | None) -> bool:
    """Whether a comment names the numbers in the line after it."""
    comment = MARK_BEFORE_NAMES.sub("", comment)
    delimiter = delimiter or _delimiter(comment, after)
    names, cells = _cells(comment, delimiter), _cells(after, delimiter)
    numbers = [cell for cell in cells if NUMBER_OF_ANY_COUNTRY.fullmatch(cell)]
    return len(names) == len(cells) and bool(numbers) and cells != [*map(str, range(len(cells)))]


def _delimiter(names: str, after: str) -> str:
    """What stands between the names, and between as many cells of the line after them."""
    # A name in quotation marks may hold anything.
    signs = re.sub('"[^"]*"', "", names)
    counts = {each: len(_cells(names, each)) for each in DELIMITERS}
    fitting = [each for each in DELIMITERS if 1 < counts[each] == len(_cells(after, each))]
    if fitting or any(each in signs for each in DELIMITERS):
        return max(fitting or DELIMITERS, key=counts.__getitem__)
    # Names may hold blanks, unless as many numbers follow.
    numbers = after.split(" ")
    apart = len(numbers) > 1 and len(numbers) == len(_cells(names, " "))
    return " " if apart and all(map(NUMBER_OF_ANY_COUNTRY.fullmatch, numbers)) else ","


def _cells(line: str, delimiter: str) -> list[str]:
    return next(reader([line], delimiter=delimiter), [])
