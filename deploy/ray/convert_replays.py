"""Converts a bucket or folder of Melee replays on a Ray cluster, one Parquet file for each batch of them:

    python convert_replays.py s3://mygame/replays s3://mygame/frames --labels
    jepa train s3-mount/frames --out models

What `jepa data melee` makes of the same replays, with the same code; a run that was stopped goes on. The exit status is
3 if some replays were skipped.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
from pyarrow import fs

from cli.data import replays

SOME_SKIPPED = 3


def place(name: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI or a local path, and the path in it."""
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(name if "://" in name else str(Path(name).absolute()))
    return found


def plan(source: str, out: str, *, labels: bool) -> list[dict[str, Any]]:
    """One entry a batch: its replays, and the name of the part of `out` that is made of them; ValueError if there is
    no replay, or another run's parts are in the way."""
    system, folder = place(source)
    found = system.get_file_info(fs.FileSelector(folder, recursive=True))
    files = [replays.File(each.path, each.size, each.mtime_ns) for each in found if each.path.endswith(".slp")]
    if not files:
        raise ValueError(f"{source}: there is no replay (.slp) in it")
    batches = [*replays.batches(sorted(files))]
    names = [f"{i:06d}-{replays.part_name(batch, labels=labels)}.parquet" for i, batch in enumerate(batches)]
    system, folder = place(out)
    system.create_dir(folder)
    there = [Path(each.path).name for each in system.get_file_info(fs.FileSelector(folder))]
    if others := {name for name in there if name.endswith(".parquet")} - {*names}:
        raise ValueError(f"{out} holds parts of other replays or options, such as {min(others)}; name an empty folder")
    return [
        {"source": source, "out": out, "part": name, "paths": [each.path for each in batch]}
        for name, batch in zip(names, batches, strict=True)
    ]


def convert_batch(batch: dict[str, Any], *, labels: bool) -> Iterator[dict[str, Any]]:
    """Writes the part of a batch, unless that was done, and yields what became of each of its replays."""
    system, folder = place(batch["out"])
    # No reader takes a name that begins like this for data. A batch without a readable replay has no part beside it.
    done = f"{folder}/_{batch['part']}.json"
    if system.get_file_info(done).type == fs.FileType.NotFound:
        with TemporaryDirectory() as copies:
            table = replays.convert(_copied(batch, Path(copies)), labels=labels)
        if len(table):
            with _whole(system, f"{folder}/{batch['part']}") as stream:
                pq.write_table(table, stream, compression="zstd", row_group_size=len(table))
        with _whole(system, done) as stream:
            stream.write(json.dumps(replays.outcomes(table.schema)).encode())
    with system.open_input_stream(done) as stream:
        found = [replays.Outcome(*each) for each in json.loads(stream.read())]
    for replay, outcome in zip(batch["paths"], found, strict=True):
        yield {"replay": replay, **outcome._asdict()}


@contextmanager
def _whole(system: fs.FileSystem, path: str) -> Iterator[Any]:
    """A stream to a file that appears once it is written."""
    folder, _, name = path.rpartition("/")
    with system.open_output_stream(f"{folder}/.{name}.partial") as stream:
        yield stream
    system.move(f"{folder}/.{name}.partial", path)


def _copied(batch: dict[str, Any], folder: Path) -> list[Path]:
    """Copies of the replays on this machine, since the reader takes files."""
    system, _ = place(batch["source"])
    copies = [folder / f"{i}.slp" for i in range(len(batch["paths"]))]
    for path, copy in zip(batch["paths"], copies, strict=True):
        with system.open_input_stream(path) as stream:
            copy.write_bytes(stream.read())
    return copies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="bucket or folder of replays, as a path or URI that every node can read")
    parser.add_argument("out", help="folder for the frames, as a path or URI that every node can write")
    parser.add_argument("--labels", action="store_true", help="add the labels y_* that `jepa eval` measures by")
    options = parser.parse_args()
    batches = plan(options.source, options.out, labels=options.labels)

    # Only this needs Ray.
    import ray.data

    # What is said comes in the order of the replays.
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    ray.data.DataContext.get_current().enable_progress_bars = False
    work = ray.data.from_items(batches, override_num_blocks=len(batches))
    frames = games = skipped = 0
    for row in work.flat_map(partial(convert_batch, labels=options.labels), num_cpus=1).iter_rows():
        outcome = replays.Outcome(row["frames"], row["last"], row["remark"])
        if line := replays.sentence(row["replay"], outcome):
            print(line, flush=True)
        frames, games = frames + outcome.frames, games + (outcome.frames > 0)
        skipped += outcome.frames == 0
    print(json.dumps({"out": options.out, "frames": frames, "games": games, "skipped": skipped}))
    sys.exit(SOME_SKIPPED if skipped else 0)


if __name__ == "__main__":
    main()
