"""What is said of the columns beside them: in a schema.json, in the metadata of a Parquet file, in a known layout."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from bundle.schema import read_description
from model.data.files import DESCRIPTION, Found, found_files
from model.data.tables import read_metadata

# What a schema.json may say.
KEYS = (
    "names", "groups", "classes", "sides", "mirror", "features", "exclude", "labels", "actions", "actions_recorded",
    "episode", "frame", "missing",
)  # fmt: skip


def description(found: Found) -> dict[str, Any]:
    """The description of the columns in the schema.json beside the data, or in a folder above it that was named;
    ValueError if there are several that differ."""
    read: dict[Path, dict[str, Any]] = {}
    for folder in dict.fromkeys(path.parent for path in found.paths):
        path = next((each for each in _places(folder, found.base) if each.is_file()), None)
        if path is not None and path not in read:
            read[path] = read_description(path)
    first = next(iter(read), None)
    if odd := [path for path in read if first is not None and read[path] != read[first]]:
        raise ValueError(f"{first} and {odd[0]} say different things of files that are read together; keep one of them")
    return {} if first is None else read[first]


def unknown_keys(told: Mapping[str, Any]) -> list[str]:
    """What a schema.json says under a name that is not read, in a sentence: a misspelt one would be lost in silence."""
    odd = [key for key in told if key not in KEYS]
    if not odd:
        return []
    said = f"{DESCRIPTION} says something under '{odd[0]}', which is not read"
    return [f"{said}; it may say {', '.join(KEYS[:-1])} and {KEYS[-1]}"]


def _places(folder: Path, base: Path) -> Iterator[Path]:
    """Where a schema.json may lie, from the folder of a file up to the base."""
    top = os.path.abspath(base)
    for each in (folder, *folder.absolute().parents):
        yield each / DESCRIPTION
        if os.path.abspath(each) == top or not folder.absolute().is_relative_to(top):
            return


def layout(metadata: Mapping[bytes, bytes], path: Path | str) -> dict[str, Any]:
    """The groups that the metadata of a Parquet file holds, and what is known of its layout; empty without groups."""
    if b"groups" not in metadata:
        return {}
    return _layout_of(metadata) | {"groups": _in_metadata(metadata, b"groups", path)}


def class_names(source: str | Path | Sequence[str | Path]) -> dict[str, list[str]]:
    """The names of each label's classes 0, 1, …, where the data's schema.json (`classes`) or its layout gives them."""
    found = found_files(source)
    path = found.paths[0]
    named = _classes(description(found).get("classes", {}))
    metadata = read_metadata(path)
    keys = _layout_of(metadata).get("classes", {})
    return named | _classes(
        {label: _in_metadata(metadata, key.encode(), path) for label, key in keys.items() if key.encode() in metadata}
    )


def _classes(named: Any) -> dict[str, list[str]]:
    match named:
        case dict() if all(isinstance(names, list) for names in named.values()):
            return {label: [str(name) for name in names] for label, names in named.items()}
    raise ValueError(f"classes is {named!r:.80}; it must give each label a list of the names of its classes")


def _layout_of(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The description of the layout that the metadata of a Parquet file names, if it ships with this package."""
    name = metadata.get(b"layout", b"").decode(errors="replace")
    for shipped in files("model.data.layouts").iterdir():
        # Compared with what is there, so that no name leads to another folder.
        if shipped.name == f"{name}.json":
            description: dict[str, Any] = json.loads(shipped.read_text())
            return description
    return {}


def _in_metadata(metadata: Mapping[bytes, bytes], key: bytes, path: Path | str) -> Any:
    try:
        return json.loads(metadata[key])
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} has {key.decode()} in its metadata that are no JSON ({error}); write it again"
        ) from None
