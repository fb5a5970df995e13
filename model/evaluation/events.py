"""What heads are asked: events as formulas over columns, and where those are written down."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.data.frames import Frames
from model.data.roles import matching
from model.evaluation.formulas import Formula, of_column, parse

MAX_EVENTS_FILE_BYTES = 2**20
# As bundle.json has it: heads are named in lists with commas, and before the = of a class.
MAX_NAME_CHARS = 64


@dataclass(frozen=True)
class Event:
    """A question by name. `classes` name the values 0, 1, … of the formula, where they have names."""

    name: str
    formula: Formula
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME_CHARS or any(sign in ",=" or sign.isspace() for sign in self.name):
            raise ValueError(
                f"'{self.name:.80}' cannot name a head; use 1 to {MAX_NAME_CHARS} characters without spaces, commas "
                "and =, and say --label 'name = formula' for a column of another name"
            )
        if len({*self.classes}) < len(self.classes):
            raise ValueError(f"the classes of '{self.name}' repeat a name; each needs one of its own")


def of_line(line: str) -> Event:
    """The event of `name = formula`."""
    name, sign, formula = line.partition("=")
    if not sign or formula.startswith("="):
        raise ValueError(f"--label is '{line:.200}'; write it as 'name = formula', such as 'high = abs(own_y) > 2'")
    return Event(name.strip(), parse(formula))


def of_columns(frames: Frames, patterns: Sequence[str]) -> Iterator[Event]:
    """An event for each column whose name matches one of the patterns; ValueError for a pattern that none does."""
    names = [column.name for column in frames.roles] or [*frames.schema.names]
    for pattern in patterns:
        if not matching(names, [pattern]):
            raise ValueError(f"no column matches --labels '{pattern}'; the columns are {names[-8:]} …")
    for name in matching(names, patterns):
        yield Event(name, of_column(name))


def of_file(path: Path) -> Iterator[Event]:
    """The events of a TOML file: `name = "formula"`, or a table `[name]` with `formula` and the names of `classes`."""
    if path.stat().st_size > MAX_EVENTS_FILE_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; a file of events may have {MAX_EVENTS_FILE_BYTES}")
    try:
        told = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as TOML ({error})") from None
    if not told:
        raise ValueError(f'{path} names no head; write lines such as high = "abs(own_y) > 2"')
    for name, entry in told.items():
        yield _of_entry(path, name, entry)


def _of_entry(path: Path, name: str, entry: Any) -> Event:
    table: Mapping[str, Any] = entry if isinstance(entry, dict) else {"formula": entry}
    match table:
        case {"formula": str() as formula, **rest} if {*rest} <= {"classes"}:
            classes = rest.get("classes", [])
            if isinstance(classes, list) and all(isinstance(each, str) for each in classes):
                return Event(name, parse(formula), tuple(classes))
    raise ValueError(
        f'{path}: {name} is {entry!s:.80}; write {name} = "formula", or a table [{name}] with formula = "…" and, '
        'if you like, classes = ["…", "…"]'
    )
