"""The large recording that `benchmarks.data` makes of a small one."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data_recording import MAX_STRETCH, make_recording

ROWS = 100


def test_a_recording_is_repeated_as_other_games_until_it_has_as_many_frames_as_asked_for(tmp_path: Path) -> None:
    columns: dict[str, np.ndarray] = {
        "episode": np.repeat(np.arange(2, dtype=np.int32), ROWS // 2),
        "frame": np.tile(np.arange(ROWS // 2), 2),
        "x": np.linspace(0.5, 1, ROWS, dtype=np.float32),
        "own_id": np.arange(ROWS, dtype=np.float32) % 7,
    }
    pq.write_table(pa.table(columns), tmp_path / "small.parquet")
    make_recording(tmp_path / "small.parquet", tmp_path / "large", 250)
    make_recording(tmp_path / "small.parquet", tmp_path / "again", 250)
    large, again = (pq.read_table(tmp_path / name) for name in ("large", "again"))
    assert large.equals(again)
    assert len(large) == 250
    assert np.unique(large["episode"]).tolist() == [0, 1, 100_000, 100_001, 200_000]
    np.testing.assert_array_equal(large["own_id"], np.tile(columns["own_id"], 3)[:250])
    first, second = (large["x"].to_numpy()[i * ROWS : (i + 1) * ROWS] for i in range(2))
    np.testing.assert_array_equal(first, columns["x"])
    assert (first != second).any()
    np.testing.assert_allclose(second, first, rtol=MAX_STRETCH + 1e-3)
    np.testing.assert_array_equal(second, second.astype(np.float16))
