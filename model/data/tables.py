"""What is in a file of a recording, as a table; ValueError that names the file for damaged and odd ones."""

import codecs
import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.data import hdf5, minari
from model.data.damage import reading, words_of
from model.data.files import kind_of
from model.data.lazy import LazyTable
from model.data.matrix import MAX_IN_MEMORY_BYTES
from model.data.roles import EPISODE_NAMES, FRAME_NAMES, LABEL_NAMES, matching

# CSV is read in blocks, whose first decides the type of a column: a later fraction would break a column of integers.
MAX_CSV_BLOCK_BYTES = 1 << 28
# The beginning of a text file, which shows how it is written.
MAX_START_BYTES = 1 << 16
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_table(path: Path, base: Path | None = None) -> pa.Table:
    """The columns of a file, and those that the names of its folders below `base` hold (`episode=3/part.parquet`);
    ValueError if the file is damaged or none."""
    kind = kind_of(path) or "Parquet"
    if kind == "NumPy":
        table = table_of(_frames_among(read_arrays(path), path), path.name)
    else:
        with reading(path, kind):
            table = READERS[kind](path)
            names = table.column_names
        _check_names(names, path)
    return finished(table, path, base)


def finished(table: pa.Table, path: Path, base: Path | None) -> pa.Table:
    """What was read of a file, with the columns that the names of its folders hold, as plain columns."""
    for name, value in (_in_folders(path, base) | minari.of_folder(path)).items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array([value] * len(table)))
    return minari.completed(plain(table), path)


def read_metadata(path: Path) -> dict[bytes, bytes]:
    """What a Parquet file says besides its columns."""
    if kind_of(path) not in (None, "Parquet"):
        return {}
    with reading(path, "Parquet"):
        return dict(pq.read_schema(path).metadata or {})


def are_large(paths: Sequence[Path], in_memory_bytes: int) -> bool:
    """Whether these are Parquet files whose columns take more than so many bytes."""
    if any((kind_of(path) or "Parquet") != "Parquet" or minari.is_game(path) for path in paths):
        return False
    total = 0
    for path in paths:
        with reading(path, "Parquet"):
            metadata = pq.ParquetFile(path).metadata
        # The sizes that the file gives are of numbers that are packed more tightly than in memory.
        groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
        total += sum(4 * group.column(i).num_values for group in groups for i in range(group.num_columns))
    return total > in_memory_bytes


def open_tables(paths: Sequence[Path], finish: Callable[[pa.Table, Path], pa.Table], names: list[str]) -> LazyTable:
    """Parquet files as one table of which only parts are in memory; ValueError as by `join`."""
    heads = []
    for path in paths:
        with reading(path, "Parquet"):
            file = pq.ParquetFile(path)
            _check_names(file.schema_arrow.names, path)
            head = pa.Table.from_batches(itertools.islice(file.iter_batches(1), 1), file.schema_arrow)
        heads.append(finish(head, path))
    return LazyTable(paths, join(heads, names).schema, finish)


def join(tables: list[pa.Table], names: list[str]) -> pa.Table:
    """One table of the rows of all, which are called `names`; columns are alike by name and of the widest type;
    ValueError if they are not."""
    for name, table in zip(names, tables, strict=True):
        if odd := {*table.column_names} ^ {*tables[0].column_names}:
            raise ValueError(
                f"{name} has other columns than {names[0]} ({', '.join(sorted(odd)[:5])}); files read together must be "
                "alike"
            )
        if not len(table):
            raise ValueError(f"{name} has no rows; record some, or leave the file out")
    metadata = tables[0].schema.metadata
    try:
        return pa.concat_tables(tables, promote_options="permissive").replace_schema_metadata(metadata)
    except pa.ArrowException as error:
        for name, table in zip(names, tables, strict=True):
            for field in tables[0].schema:
                if not _go_together(other := table.schema.field(field.name).type, field.type):
                    reason = f"column '{field.name}' is {other} in {name} and {field.type} in {names[0]}"
                    raise ValueError(f"{reason}; files read together must be alike") from None
        raise ValueError(f"the files cannot be read together ({words_of(error)}); read them one by one") from None


def plain(table: pa.Table) -> pa.Table:
    """The table with what its columns mean in place of how they are stored: text for dictionaries and for views of it,
    numbers for decimals, a column for each part of a struct, such as observation.position."""
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    for i, field in enumerate(table.schema):
        column, kind = table.column(i), field.type
        if isinstance(kind, pa.BaseExtensionType):
            column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
            kind = kind.storage_type
        if pa.types.is_dictionary(kind):
            column = pc.cast(column, kind.value_type)
            kind = kind.value_type
        if pa.types.is_decimal(kind):
            column = pc.cast(column, pa.float64())
        elif pa.types.is_string_view(kind):
            column = pc.cast(column, pa.string())
        elif pa.types.is_binary_view(kind):
            column = pc.cast(column, pa.binary())
        if column.type != field.type:
            table = table.set_column(i, field.name, column)
    return table


def table_of(arrays: Mapping[str, Any], source: str) -> pa.Table:
    """The arrays as columns, those of more than one dimension as columns of lists; ValueError if they are not alike."""
    columns: dict[str, pa.Array] = {}
    rows = None
    for name, given in arrays.items():
        array = given if isinstance(given, np.ndarray) else np.asarray(given)
        if array.ndim == 0:
            raise ValueError(f"{name} of {source} is a single value; give one a row")
        rows = len(array) if rows is None else rows
        if len(array) != rows:
            raise ValueError(f"{name} of {source} has {len(array)} rows; {next(iter(arrays))} has {rows}")
        columns[name] = _column(name, array, source)
    return pa.table(columns)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name, or that of an .npy file as 'features'; ValueError if it is damaged."""
    # Opened here, since NumPy leaves a damaged archive open.
    with path.open("rb") as file:
        try:
            if path.suffix == ".npy" and path.stat().st_size > MAX_IN_MEMORY_BYTES:
                return {"features": np.load(path, mmap_mode="c", allow_pickle=False)}
            loaded = np.load(file, allow_pickle=False)
            return {"features": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        except Exception as error:
            # What NumPy raises for a damaged file depends on the place of the damage: ValueError, OSError, EOFError,
            # BadZipFile, zlib.error, tokenize.TokenError, MemoryError and others.
            raise ValueError(
                f"{path} cannot be read as {path.suffix} ({words_of(error)}); it is damaged or holds objects: save "
                "plain arrays again with np.save or np.savez"
            ) from None


def _read_parquet(path: Path) -> pa.Table:
    file = pq.ParquetFile(path)
    _check_names(file.schema_arrow.names, path)
    return file.read()


def _read_arrow(path: Path) -> pa.Table:
    with path.open("rb") as file:
        magic = file.read(6)
    if magic == b"ARROW1":
        table = ds.dataset(path, format="ipc").to_table()
    elif magic.startswith(b"FEA1"):
        table = feather.read_table(path)
    else:
        # As a stream, which is how the datasets of Hugging Face are stored.
        with pa.input_stream(path) as stream:
            table = ipc.open_stream(stream).read_all()
    # Numbers of a damaged file would lead Arrow to other places in memory.
    table.validate(full=True)
    return table


def _read_csv(path: Path) -> pa.Table:
    with pa.input_stream(path, compression="detect") as file:
        start = file.read(MAX_START_BYTES)
    encoding = "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    header, _, rest = start.decode(encoding, errors="replace").partition("\n")
    delimiter = (
        "\t" if ".tsv" in path.name.lower() else next((each for each in (",", ";", "\t") if each in header), ",")
    )
    table = csv.read_csv(
        path,
        read_options=csv.ReadOptions(block_size=MAX_CSV_BLOCK_BYTES, encoding=encoding),
        parse_options=csv.ParseOptions(delimiter=delimiter),
        convert_options=csv.ConvertOptions(
            # Where ; stands between the numbers, a comma may stand within them.
            decimal_point="," if delimiter == ";" and re.search(r"\d,\d", rest) else ".",
            # An empty cell is nothing in a column of text, too: it is no game's name.
            strings_can_be_null=True,
        ),
    )
    names = [name.strip() for name in table.column_names]
    if all(NUMBER.fullmatch(name) for name in names) and {*names} != {*map(str, range(len(names)))}:
        raise ValueError(
            f"{path} begins with numbers ({', '.join(names[:5])}), so its first row would be taken for the names of "
            "the columns; put a line of names above it"
        )
    return table.rename_columns(names)


READERS = {"Parquet": _read_parquet, "CSV": _read_csv, "Arrow": _read_arrow, "HDF5": hdf5.read}


def _check_names(names: list[str], path: Path) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path} has the column '{twice[0]}' more than once; every column needs a name of its own")


def _in_folders(path: Path, base: Path | None) -> dict[str, Any]:
    if base is None or not path.is_relative_to(base):
        return {}
    parts = [part.partition("=") for part in path.relative_to(base).parts[:-1] if "=" in part]
    return {name: int(value) if value.lstrip("-").isdecimal() else value for name, _, value in parts}


def _frames_among(arrays: dict[str, NDArray[Any]], path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file that are columns of its frames."""
    if "features" not in arrays:
        raise ValueError(
            f"{path.name} has no array 'features' (it has {sorted(arrays)}); save the rows under that name"
        )
    if (kind := arrays["features"].dtype).kind not in "biuf":
        raise ValueError(f"{path.name} has features of {kind}; they must be real numbers")
    shape = arrays["features"].shape
    if len(shape) != 2:
        raise ValueError(f"{path.name} has features of shape {shape}; they must be [rows, columns]")
    if not arrays["features"].size:
        raise ValueError(f"{path.name} has features of shape {shape}; record at least one row of one column")
    found = {}
    for name, array in arrays.items():
        if array.shape[:1] == shape[:1]:
            found[name] = array
        # An archive may hold other things than frames, but not under these names.
        elif matching([name], (*EPISODE_NAMES, *FRAME_NAMES, "split", *LABEL_NAMES)):
            raise ValueError(
                f"{path.name} has {name} of shape {array.shape}; it must be one number a row, [{shape[0]}]"
            )
    return found


def _column(name: str, array: NDArray[Any], source: str) -> pa.Array:
    try:
        # As the machine stores numbers.
        if array.dtype.kind in "iuf":
            array = array.astype(array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.float64, copy=False)
        if array.ndim > 1:
            width = int(np.prod(array.shape[1:]))
            return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(array).ravel()), width)
        return pa.array(array.tolist() if array.dtype.kind in "US" else array)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ValueError(f"{name} of {source} is no column of numbers or text ({words_of(error)})") from None


def _go_together(one: pa.DataType, other: pa.DataType) -> bool:
    def family(kind: pa.DataType) -> str:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return "text"
        return "list" if pa.types.is_nested(kind) else "other"

    return family(one) == family(other)
