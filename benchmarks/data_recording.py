"""A recording of any length, made of a shorter one by a seeded transformation, so that no two games are the same."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

# Numbers of a copy are stretched by up to this share, column by column.
MAX_STRETCH = 0.05
ROWS_AT_ONCE = 65_536


def make_recording(source: Path, target: Path, frames: int, seed: int = 0) -> None:
    """Writes `frames` rows in the columns of the Parquet file `source`, one file for each time that it is repeated."""
    target.mkdir(parents=True)
    file = pq.ParquetFile(source)
    left, copy = frames, 0
    while left > 0:
        stretch = np.random.default_rng([seed, copy]).uniform(1 - MAX_STRETCH, 1 + MAX_STRETCH, len(file.schema_arrow))
        schema = file.schema_arrow.set(file.schema_arrow.get_field_index("episode"), pa.field("episode", pa.int32()))
        with pq.ParquetWriter(target / f"copy-{copy:04d}.parquet", schema, compression="lz4") as writer:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                part = pa.Table.from_batches([batch])[: max(left, 0)]
                left -= len(part)
                columns = [
                    _changed(name, part[name], float(stretch[i]), copy) for i, name in enumerate(part.column_names)
                ]
                if len(part):
                    writer.write_table(pa.Table.from_arrays(columns, schema=schema))
        copy += 1


def _changed(name: str, column: pa.ChunkedArray, stretch: float, copy: int) -> pa.ChunkedArray | pa.Array:
    if name == "episode":
        # Each copy has games of its own.
        return pa.array(column.to_numpy().astype(np.int32) + 100_000 * copy)
    if copy == 0 or not pa.types.is_floating(column.type):
        return column
    values = column.to_numpy()
    if (values == np.trunc(values)).all():
        # Ids, flags and counts stay what they are.
        return column
    changed: NDArray[np.float32] = (values * np.float32(stretch)).astype(np.float16).astype(np.float32)
    return pa.array(changed)
