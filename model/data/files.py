"""The files of a data set: which ones a name means, and what is in each, damaged ones being refused in a sentence."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.data.roles import EPISODE_NAMES, FRAME_NAMES, LABEL_NAMES, matching

# Suffixes of files by their kind. In a folder, files of the first kind that is there are read, and arrays are often
# what a program made of the tables beside them.
KINDS: dict[str, tuple[str, ...]] = {
    "Parquet": (".parquet", ".pq"),
    "CSV": (".csv", ".csv.gz", ".csv.bz2", ".csv.zst", ".tsv", ".tsv.gz"),
    "Arrow": (".arrow", ".feather", ".ipc"),
    "NumPy": (".npy", ".npz"),
}
# CSV is read in blocks, whose first decides the type of a column: a later fraction would break a column of integers.
MAX_CSV_BLOCK_BYTES = 1 << 28


def kind_of(path: Path) -> str | None:
    """The kind of file that the name says, or None."""
    name = path.name.lower()
    return next((kind for kind, suffixes in KINDS.items() if name.endswith(suffixes)), None)


def data_files(source: str | Path) -> list[Path]:
    """The files that a path, a folder or a pattern means, without hidden and unfinished ones; ValueError for pipes and
    devices."""
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = _in_folder(path)
    elif path.exists():
        found = [path]
    else:
        pattern = str(path.relative_to(path.anchor))
        found = sorted(each for each in Path(path.anchor or ".").glob(pattern) if _is_finished(each.name))
    if not found:
        raise FileNotFoundError(f"{source}: no such file, no Parquet file in it, and no match for it as a pattern")
    for each in found:
        # A pipe may never end, and no Parquet file can be read from one.
        if not (each.is_file() or each.is_dir()):
            raise ValueError(f"{each} is no regular file but a pipe or a device; save what it holds to a file first")
    return [file for each in found for file in (_in_folder(each) if each.is_dir() else [each])] or found


def read_table(path: Path, base: Path | None = None) -> pa.Table:
    """The columns of a file, and those that the names of its folders below `base` hold (`episode=3/part.parquet`);
    ValueError if the file is damaged or none."""
    kind = kind_of(path) or "Parquet"
    if kind == "NumPy":
        return _table_of(read_arrays(path), path)
    with _reading(path, kind):
        if kind == "CSV":
            table = _read_csv(path)
        elif kind == "Arrow":
            table = ds.dataset(path, format="ipc").to_table()
        else:
            file = pq.ParquetFile(path)
            _check_names(file.schema_arrow.names, path)
            table = file.read()
    _check_names(table.column_names, path)
    for name, value in _in_folders(path, base).items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array([value] * len(table)))
    return table


def read_metadata(path: Path) -> dict[bytes, bytes]:
    """What a Parquet file says besides its columns."""
    if kind_of(path) not in (None, "Parquet"):
        return {}
    with _reading(path, "Parquet"):
        return dict(pq.read_schema(path).metadata or {})


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Raises pyarrow's errors as a ValueError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} cannot be read as {kind} ({reason}); it is damaged or something else: copy or record it again, "
            "as Parquet, CSV, .npy or .npz"
        ) from None


def join(tables: list[pa.Table], paths: list[Path]) -> pa.Table:
    """One table of the rows of all; columns are alike by name and of the widest type; ValueError if they are not."""
    for path, table in zip(paths, tables, strict=True):
        if odd := {*table.column_names} ^ {*tables[0].column_names}:
            raise ValueError(
                f"{path.name} has other columns than {paths[0].name} ({', '.join(sorted(odd)[:5])}); files read "
                "together must be alike"
            )
        if not len(table):
            raise ValueError(f"{path} has no rows; record some, or leave the file out")
    metadata = tables[0].schema.metadata
    plain = [_decoded(table) for table in tables]
    try:
        return pa.concat_tables(plain, promote_options="permissive").replace_schema_metadata(metadata)
    except pa.ArrowException as error:
        for path, table in zip(paths, plain, strict=True):
            for field in plain[0].schema:
                if _is_text(other := table.schema.field(field.name).type) != _is_text(field.type):
                    reason = f"column '{field.name}' is {other} in {path.name} and {field.type} in {paths[0].name}"
                    raise ValueError(f"{reason}; files read together must be alike") from None
        raise ValueError(f"the files cannot be read together ({error})") from None


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name, or that of an .npy file as 'features'; ValueError if it is damaged."""
    # Opened here, since NumPy leaves a damaged archive open.
    with path.open("rb") as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            return {"features": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        except Exception as error:
            # What NumPy raises for a damaged file depends on the place of the damage: ValueError, OSError, EOFError,
            # BadZipFile, zlib.error, tokenize.TokenError, MemoryError and others.
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"{path} cannot be read as {path.suffix} ({reason}); it is damaged or holds objects: save plain arrays "
                "again with np.save or np.savez"
            ) from None


def _in_folder(folder: Path) -> list[Path]:
    # LeRobot keeps the frames apart from tables about them.
    if (folder / "meta" / "info.json").is_file() and (folder / "data").is_dir():
        folder = folder / "data"
    for found in (folder.iterdir(), folder.rglob("*")):
        paths = [path for path in found if all(map(_is_finished, path.relative_to(folder).parts)) and not path.is_dir()]
        for kind in KINDS:
            if chosen := sorted(path for path in paths if kind_of(path) == kind):
                return chosen
    return []


def _is_finished(name: str) -> bool:
    """Whether a name is not that of a hidden file, nor of one that is still being written."""
    return not (name.startswith((".", "_")) or ".partial." in name or name.endswith((".partial", ".tmp", ".part")))


def _in_folders(path: Path, base: Path | None) -> dict[str, Any]:
    if base is None or not path.is_relative_to(base):
        return {}
    parts = [part.partition("=") for part in path.relative_to(base).parts[:-1] if "=" in part]
    return {name: int(value) if value.lstrip("-").isdecimal() else value for name, _, value in parts}


def _read_csv(path: Path) -> pa.Table:
    tabs = ".tsv" in path.suffixes
    return csv.read_csv(
        path,
        read_options=csv.ReadOptions(block_size=MAX_CSV_BLOCK_BYTES),
        parse_options=csv.ParseOptions(delimiter="\t" if tabs else ","),
    )


def _check_names(names: list[str], path: Path) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path} has the column '{twice[0]}' more than once; every column needs a name of its own")


def _decoded(table: pa.Table) -> pa.Table:
    """The table with text in place of dictionaries, whose types differ from file to file."""
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, pc.cast(table[field.name], field.type.value_type))
    return table


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _table_of(arrays: dict[str, NDArray[Any]], path: Path) -> pa.Table:
    """The arrays as columns, that of the features as one column of lists."""
    if "features" not in arrays:
        raise ValueError(
            f"{path.name} has no array 'features' (it has {sorted(arrays)}); save the rows under that name"
        )
    if (kind := arrays["features"].dtype).kind not in "biuf":
        raise ValueError(f"{path.name} has features of {kind}; they must be real numbers")
    values = np.ascontiguousarray(arrays.pop("features"), np.float32)
    if values.ndim != 2:
        raise ValueError(f"{path.name} has features of shape {values.shape}; they must be [rows, columns]")
    if not values.size:
        raise ValueError(f"{path.name} has features of shape {values.shape}; record at least one row of one column")
    columns = {"features": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])}
    for name, array in arrays.items():
        if array.shape == (len(values),):
            columns[name] = pa.array(array.tolist() if array.dtype.kind in "US" else array)
        # An archive may hold other things than frames, but not under these names.
        elif matching([name], (*EPISODE_NAMES, *FRAME_NAMES, "split", *LABEL_NAMES)):
            raise ValueError(
                f"{path.name} has {name} of shape {array.shape}; it must be one number a row, [{len(values)}]"
            )
    return pa.table(columns)
