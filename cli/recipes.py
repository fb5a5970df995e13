"""The recipe that a command line asks for: a preset, changed by a file, by options and by `--set`."""

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cli.files import check_file
from model.training.recipe import FIELDS, Recipe, check_field, checked, of_preset

MAX_CONFIG_BYTES = 1 << 20


class Setting(NamedTuple):
    """A value for a field, and where it was given."""

    field: str
    value: Any
    origin: str


def of_file(path: Path) -> list[Setting]:
    """The fields that a TOML file gives."""
    check_file(path)
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; a recipe has at most {MAX_CONFIG_BYTES:,}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no TOML ({error}); write lines such as learning_rate = 1e-3, or begin with what "
            "`jepa train --show-config` prints"
        ) from None
    return [_checked(Setting(name, value, str(path))) for name, value in values.items()]


def of_assignment(text: str) -> Setting:
    """The field that a `--set name=value` gives."""
    name, sign, value = (part.strip() for part in text.partition("="))
    if not (name and sign and value):
        raise ValueError(f"--set is '{text}'; write name=value, such as --set learning_rate=1e-3")
    return _checked(Setting(name, _value(name, value), "--set"))


def of_options(**values: Any) -> list[Setting]:
    """The fields that options of their own give, those that are not None."""
    return [
        _checked(Setting(name, value, f"--{'horizon' if name == 'horizons' else name}"))
        for name, value in values.items()
        if value is not None
    ]


def changes(in_file: Iterable[Setting], on_line: Sequence[Setting]) -> dict[str, Setting]:
    """One setting a field: what the command line says comes before the file, and must not say two things."""
    found: dict[str, Setting] = {}
    for setting in on_line:
        before = found.setdefault(setting.field, setting)
        if before.value != setting.value:
            raise ValueError(
                f"{setting.field} is given twice, as {before.value} by {before.origin} and as {setting.value} by "
                f"{setting.origin}; give it once"
            )
    return {setting.field: setting for setting in in_file} | found


def recipe_of(preset: str, given: dict[str, Setting]) -> Recipe:
    """The preset with these changes."""
    return of_preset(preset).changed({name: setting.value for name, setting in given.items()})


def shown(preset: str, given: dict[str, Setting]) -> str:
    """The whole recipe as TOML, with where each value comes from."""
    origins = {name: given[name].origin if name in given else f"preset {preset}" for name in FIELDS}
    return f"# A recipe for jepa train --config\n{recipe_of(preset, given).as_toml(origins)}"


def _checked(setting: Setting) -> Setting:
    try:
        check_field(setting.field)
        return setting._replace(value=checked(setting.field, setting.value))
    except ValueError as error:
        raise ValueError(f"{setting.origin}: {error}") from None


def _value(name: str, text: str) -> Any:
    """What TOML makes of the text; words need no quotes there, and lists no brackets."""
    listed = name in FIELDS and isinstance(FIELDS[name].default, tuple) and not text.startswith("[")
    try:
        read = tomllib.loads(f"value = [{text}]" if listed else f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return read["value"] if len(read) == 1 else text
