"""What is said of the columns beside them: in a schema.json, in the metadata of a Parquet file, in a known layout."""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from bundle.schema import read_description
from model.data.files import DESCRIPTION, data_files
from model.data.tables import read_metadata


def description(folder: Path) -> dict[str, Any]:
    """The description of the columns in the schema.json beside the data, if there is one."""
    path = folder / DESCRIPTION
    return read_description(path) if path.is_file() else {}


def layout(metadata: Mapping[bytes, bytes], path: Path | str) -> dict[str, Any]:
    """The groups that the metadata of a Parquet file holds, and what is known of its layout; empty without groups."""
    if b"groups" not in metadata:
        return {}
    return _layout_of(metadata) | {"groups": _in_metadata(metadata, b"groups", path)}


def class_names(source: str | Path) -> dict[str, list[str]]:
    """The names of each label's classes 0, 1, …, where the data's schema.json (`classes`) or its layout gives them."""
    path = data_files(source)[0]
    named = _classes(description(path.parent).get("classes", {}))
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
