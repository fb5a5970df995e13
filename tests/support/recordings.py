"""Writes one table in every form in which recordings are stored."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.feather as feather
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

Write = Callable[[pa.Table, Path], None]


def _text(delimiter: str, compression: str | None) -> Write:
    def write(table: pa.Table, path: Path) -> None:
        with pa.output_stream(path, compression=compression) as stream:
            csv.write_csv(table, stream, csv.WriteOptions(delimiter=delimiter))

    return write


def _stream(table: pa.Table, path: Path) -> None:
    with ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table, max_chunksize=3)


def _hdf5(table: pa.Table, path: Path) -> None:
    import h5py

    with h5py.File(path, "w", track_order=True) as file:
        for name in table.column_names:
            column = table[name].combine_chunks()
            if pa.types.is_string(column.type):
                file[name] = column.to_pylist()
            else:
                file.create_dataset(name, data=np.asarray(column.to_pylist()), compression="gzip")


# By the ending of the name; what stands before the first dot only tells the ways to write one kind apart.
FORMS: dict[str, Write] = {
    "plain.parquet": lambda table, path: pq.write_table(table, path, compression="none"),
    "packed.parquet": lambda table, path: pq.write_table(table, path, compression="zstd", row_group_size=3),
    "file.arrow": lambda table, path: feather.write_feather(table, path, compression="uncompressed"),
    "stream.arrow": _stream,
    "packed.feather": lambda table, path: feather.write_feather(table, path, compression="lz4"),
    **{
        f"text{suffix}{packed}": _text("\t" if suffix == ".tsv" else ",", compression)
        for suffix in (".csv", ".tsv")
        for packed, compression in (("", None), (".gz", "gzip"), (".bz2", "bz2"), (".zst", "zstd"))
    },
}
if find_spec("h5py") is not None:
    FORMS["tree.h5"] = _hdf5
# These have no lists.
FLAT = tuple(form for form in FORMS if ".csv" in form or ".tsv" in form)


def damages(good: bytes, step: int = 1) -> Iterator[bytes]:
    """The file cut off, with a byte flipped, and with something else in its beginning, at every `step` bytes."""
    for length in range(0, len(good), step):
        yield good[:length]
    for at in range(0, len(good), step):
        yield good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]
    for magic in (b"", b"PAR1", b"ARROW1\0\0", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x93NUMPY", b"\x1f\x8b", b"FEA1"):
        yield magic + good[len(magic) :]
        yield magic
