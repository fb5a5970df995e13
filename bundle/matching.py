"""Finds the columns of a model among those of a recording: by their names, in whatever order they stand."""

import difflib
from collections.abc import Sequence

from bundle.schema import unnamed_columns

# Names in a message; the rest are only counted.
MAX_NAMED = 5


def unnamed(names: Sequence[str]) -> bool:
    """Whether these are the names of columns that came without: f000, f001, …"""
    return [*names] == unnamed_columns(len(names))


def by_position(wanted: Sequence[str], given: Sequence[str]) -> str | None:
    """Why the columns `given` can only be taken in their order, as a sentence, or None if both sides have names;
    ValueError if their number is not the model's."""
    nameless = [side for side, names in (("the data", given), ("the model", wanted)) if unnamed(names)]
    if not nameless:
        return None
    if len(given) != len(wanted):
        raise ValueError(
            f"the data has {len(given)} feature columns, the model takes {len(wanted)}, and {' and '.join(nameless)} "
            f"{'have' if len(nameless) > 1 else 'has'} no names to match them by; pick the columns with --features"
        )
    return f"columns are taken by their position, since {' and '.join(nameless)} name{'s' * (len(nameless) == 1)} none"


def matched(wanted: Sequence[str], picked: list[str], given: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns of a model among those `given`, and what must be said of it; `picked` are its features."""
    if remark := by_position(wanted, picked):
        return picked, [remark]
    check_names(wanted, given)
    rest = surplus(wanted, picked)
    return [*wanted], [] if rest is None else [rest]


def check_names(wanted: Sequence[str], given: Sequence[str]) -> None:
    """ValueError that names the nearest column for each of those `wanted` that is not among the `given`."""
    missing = [name for name in wanted if name not in {*given}]
    if not missing:
        return
    # A column that the model takes under its own name is not the one that is looked for.
    free = [name for name in given if name not in {*wanted}] or given
    some = ", ".join(f"'{name}' (the nearest is '{nearest(name, free)}')" for name in missing[:MAX_NAMED])
    raise ValueError(
        f"the data lacks {len(missing)} of the {len(wanted)} columns of the model: {some}"
        f"{', …' if len(missing) > MAX_NAMED else ''}; rename or add them"
    )


def surplus(wanted: Sequence[str], features: Sequence[str]) -> str | None:
    """A sentence that says which features of the data the model does not take, or None."""
    rest = [name for name in features if name not in {*wanted}]
    if not rest:
        return None
    some = ", ".join(rest[:MAX_NAMED]) + (", …" if len(rest) > MAX_NAMED else "")
    return f"{len(rest)} columns that the model was not trained on are left out ({some})"


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The most similar of the names; one that differs in its capitals alone is nearest."""
    if same := [each for each in names if each.casefold() == name.casefold()]:
        return same[0]
    found = difflib.get_close_matches(name, names, 1, 0.0)
    return found[0] if found else None
