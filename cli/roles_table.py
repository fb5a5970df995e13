"""What a user is told of a recording: what each of its columns is for and why, and what may be wrong with it."""

import itertools
from collections.abc import Iterator

from bundle.schema import group_of_columns
from cli.failures import shown
from model.data.checks import counting_columns, repeated_games
from model.data.frames import Frames
from model.data.roles import Column
from model.data.splits import split_notes, split_warnings

# Characters of a name or a type that the table shows.
MAX_WIDTH = 48
HEAD = ("column", "type", "role", "group", "why")


def roles_table(frames: Frames) -> Iterator[str]:
    """Lines of text; columns that stand side by side and are alike share one."""
    groups = [frames.schema.groups[i].name for i in group_of_columns(frames.schema.groups)]
    group = iter(groups)
    cells = [
        (
            _short(column.name),
            _short(column.type),
            _role(column),
            _short(next(group, "")) if column.role == "feature" else "",
            shown(column.why),
        )
        for column in frames.roles
    ]
    rows = [HEAD, *(_joined([*run]) for _, run in itertools.groupby(cells, lambda cell: cell[1:]))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def remarks(frames: Frames) -> Iterator[tuple[str, str]]:
    """'note' or 'warning', and the sentence."""
    for note in (*frames.notes, *split_notes(frames)):
        yield "note", shown(note)
    for warning in (*split_warnings(frames), *repeated_games(frames), *counting_columns(frames)):
        yield "warning", shown(warning)


def summary(frames: Frames) -> str:
    """How many rows, games and columns there are."""
    games = "rows of no game" if frames.independent else f"rows of {len(set(frames.episode.tolist())):,} episodes"
    return f"{len(frames):,} {games}, {len(frames.schema.names)} columns in {len(frames.schema.groups)} groups"


def _role(column: Column) -> str:
    return "feature, action" if column.role == "feature" and column.recorded else column.role


def _short(text: str) -> str:
    text = shown(text)
    return text if len(text) <= MAX_WIDTH else f"{text[:MAX_WIDTH]}…"


def _joined(run: list[tuple[str, str, str, str, str]]) -> tuple[str, str, str, str, str]:
    name = run[0][0] if len(run) == 1 else f"{run[0][0]} … {run[-1][0]} ({len(run)})"
    return (name, *run[0][1:])
