"""What a file holds besides the table that is read of it: kept in the metadata of the table until the user is told."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

# A line above the names of the columns.
ABOVE = b"above the names"
# Arrays that are no columns.
BESIDE = b"beside the columns"
# Arrays that a sentence names.
MAX_NAMED = 5


def with_remark(table: pa.Table, key: bytes, remark: str) -> pa.Table:
    """The table, of which is kept what is said of its file (nothing where the remark is empty)."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), key: remark}) if remark else table


def with_arrays_beside(table: pa.Table, shapes: Mapping[str, Sequence[int]]) -> pa.Table:
    """The table, of which is kept which arrays of these shapes its file holds besides."""
    named = [f"'{name}' [{', '.join(map(str, shape))}]" for name, shape in [*shapes.items()][:MAX_NAMED]]
    more = f" and {len(shapes) - MAX_NAMED} more" if len(shapes) > MAX_NAMED else ""
    return with_remark(table, BESIDE, ", ".join(named) + more)


def remarks_of(table: pa.Table) -> dict[bytes, str]:
    """What is kept of the file of the table."""
    metadata = table.schema.metadata or {}
    return {key: metadata[key].decode() for key in (ABOVE, BESIDE) if key in metadata}


def sentences(found: Mapping[Path, Mapping[bytes, str]]) -> list[str]:
    """What is said of the files by their paths, one sentence of each kind for all of them."""
    said = []
    for key in (ABOVE, BESIDE):
        files = [path for path in found if key in found[path]]
        if not files:
            continue
        remark, rest = found[files[0]][key], len(files) - 1
        others = "" if not rest else ", as does another file" if rest == 1 else f", as do {rest} other files"
        if key == ABOVE:
            remark = f"begins with '{remark.strip():.60}'{others}: lines above the names of columns are not read"
        else:
            remark = f"also holds {remark}{others}: only arrays with an entry for each row are read"
        said.append(f"{files[0].name} {remark}")
    return said
