"""The jobs in deploy/ray: what is ours without Ray, and on a local Ray where it is installed."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("peppi_py", reason="needs the extra: jepa-client[slippi]")

from cli.data.replays import BATCH_BYTES, convert
from model.data.files import found_files
from model.data.frames import read_frames
from tests.support.replays import duel, game, slp, start

ROOT = Path(__file__).parents[2]
RAY = ROOT / "deploy" / "ray"
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs ray[data]")
# Ray gives up early where other work has the cores.
PATIENT = {"RAY_raylet_start_wait_time_s": "300", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def job() -> Iterator[ModuleType]:
    sys.path.insert(0, str(RAY))
    try:
        yield importlib.import_module("convert_replays")
    finally:
        sys.path.remove(str(RAY))


@pytest.fixture
def replays(tmp_path: Path) -> Path:
    """Three batches: two replays, one that is damaged, one replay."""
    folder = tmp_path / "replays"
    folder.mkdir()
    first, second, third = (folder / name for name in ("a.slp", "b.slp", "d.slp"))
    for path, length in ((first, 30), (second, 25), (third, 40)):
        path.write_bytes(game(duel(length, first=-39)))
    (folder / "c.slp").write_bytes(slp(start(), b"\x77"))
    for path in (second, folder / "c.slp"):
        with path.open("r+b") as file:
            file.truncate(BATCH_BYTES)
    (folder / "notes.txt").touch()
    return folder


def test_a_batch_becomes_a_part_with_the_rows_of_jepa_data(job: ModuleType, replays: Path, tmp_path: Path) -> None:
    out = tmp_path / "frames"
    batches = job.plan(str(replays), str(out), labels=True)
    assert [[Path(path).name for path in batch["paths"]] for batch in batches] == [
        ["a.slp", "b.slp"],
        ["c.slp"],
        ["d.slp"],
    ]
    rows = [row for batch in batches for row in job.convert_batch(batch, labels=True)]
    assert [(Path(row["replay"]).name, row["frames"], row["last"]) for row in rows] == [
        ("a.slp", 30, -10), ("b.slp", 25, -15), ("c.slp", 0, 0), ("d.slp", 40, 0),
    ]  # fmt: skip
    assert rows[2]["remark"].startswith("peppi cannot read it")
    parts = found_files(out).paths
    assert [path.name for path in parts] == [batches[0]["part"], batches[2]["part"]]
    want = convert([replays / "a.slp", replays / "b.slp"], labels=True)
    assert pq.read_table(parts[0]).equals(want)
    frames = read_frames(out)
    assert [*np.unique(frames.episode, return_counts=True)[1]] == [30, 25, 40]
    assert not [path for path in out.iterdir() if path.name.endswith(".partial")]


def test_what_is_done_is_not_done_again_and_other_parts_are_not_mixed_in(
    job: ModuleType, replays: Path, tmp_path: Path
) -> None:
    out = tmp_path / "frames"
    batches = job.plan(str(replays), str(out), labels=False)
    first = [[*job.convert_batch(batch, labels=False)] for batch in batches]
    for path in replays.glob("*.slp"):
        path.rename(path.with_suffix(".gone"))
    assert [[*job.convert_batch(batch, labels=False)] for batch in batches] == first
    with pytest.raises(ValueError, match=r"there is no replay \(.slp\) in it"):
        job.plan(str(replays), str(out), labels=False)
    for path in replays.glob("*.gone"):
        path.rename(path.with_suffix(".slp"))
    with pytest.raises(ValueError, match=r"holds parts of other replays or options, such as 000000-.*; name an empty"):
        job.plan(str(replays), str(out), labels=True)


def on_ray(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "client")))
    command = [sys.executable, str(RAY / script), *map(str, arguments)]
    environment = os.environ | PATIENT | {"PYTHONPATH": paths}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=580)


@needs_ray
@pytest.mark.timeout(600)
def test_ray_converts_a_folder(replays: Path, tmp_path: Path) -> None:
    done = on_ray("convert_replays.py", replays, tmp_path / "frames", "--labels")
    assert done.returncode == 3, done.stderr
    skipped, total = done.stdout.splitlines()
    assert skipped.startswith(f"skipped {replays / 'c.slp'}: peppi cannot read it")
    assert json.loads(total) == {"out": str(tmp_path / "frames"), "frames": 95, "games": 3, "skipped": 1}
    assert len(read_frames(tmp_path / "frames")) == 95


@needs_ray
@pytest.mark.timeout(600)
def test_ray_trains_on_two_nodes(tmp_path: Path) -> None:
    """Both on this machine."""
    rng = np.random.default_rng(0)
    columns = {f"x{i}": rng.normal(size=400).astype(np.float32) for i in range(4)}
    episode, frame = np.divmod(np.arange(400), 100)
    pq.write_table(pa.table({"episode": episode, "frame": frame, **columns}), tmp_path / "frames.parquet")
    options = ["--preset", "quick", "--steps", 2, "--horizon", 4, "--accelerator", "cpu"]
    done = on_ray("train.py", "--nodes", 2, tmp_path / "frames.parquet", "--out", tmp_path / "models", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in (tmp_path / "models" / "model").glob("[0-9]*")] == ["1"]
    refused = on_ray("train.py", "--nodes", 2, tmp_path / "nothing.parquet", "--out", tmp_path / "models", *options)
    assert refused.returncode == 1
