"""What a large recording takes: memory, time to the first step, and speed beside a small one in memory.

    python -m benchmarks.data RECORDING.parquet --frames 10000000

makes a recording of so many frames of a shorter one, trains on it twice for a few steps and evaluates, and compares its
steps with those on a part of it that lies in memory. Each measurement is of a process of its own.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.data_recording import make_recording

# The goals, on two cores.
MAX_ANONYMOUS_GIB = 1.5
MAX_READY_S = 20.0
MAX_SLOWDOWN = 0.05
SAMPLE_S = 0.02
IN_MEMORY_FRAMES = 1_000_000
BLOCKS, BLOCK_STEPS = 20, 4
GIB = 1 << 30


class Start(NamedTuple):
    """A start of a training run: when its process could make the first step, and its largest anonymous memory."""

    ready_s: float
    anonymous_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, help="a Parquet file of games, such as the Melee file")
    parser.add_argument("--frames", type=int, default=10_000_000)
    parser.add_argument(
        "--work", type=Path, default=None, help="where the recording is made (default: temporary files)"
    )
    parser.add_argument("--part", choices=("start", "pair"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "start":
        _start(given.recording, given.work)
    elif given.part == "pair":
        _pair(given.recording, given.work)
    else:
        with tempfile.TemporaryDirectory(dir=given.work, prefix="jepa-data-") as work:
            _measure(given.recording, given.frames, Path(work))


def _measure(recording: Path, frames: int, work: Path) -> None:
    few = _starts(recording, frames // 10, work / "few")
    shutil.rmtree(work / "few")
    many = _starts(recording, frames, work / "many")
    bytes_a_row = sum(path.stat().st_size for path in (work / "many" / "kept").rglob("*.npy")) / frames
    slower = json.loads(_child("pair", work / "many")[-1])
    print(f"steps of the mapped file take {1 + slower:.3f} times as long as those in memory (goal: {1 + MAX_SLOWDOWN})")
    print(f"on disk: {bytes_a_row * frames / 1e9:.1f} GB, {bytes_a_row:,.0f} bytes a frame")
    more = 100_000_000
    for called, small, large in zip(("first", "second"), few, many, strict=True):
        times = (more - frames) / (frames - frames // 10)
        ready = large.ready_s + times * (large.ready_s - small.ready_s)
        anonymous = large.anonymous_bytes + times * (large.anonymous_bytes - small.anonymous_bytes)
        print(
            f"{more:,} frames, {called} start: ready after {ready:,.0f} s, {anonymous / GIB:.2f} GiB anonymous memory"
        )
    print(f"{more:,} frames on disk: {bytes_a_row * more / 1e9:.0f} GB")
    anonymous = max(start.anonymous_bytes for start in many) / GIB
    met = anonymous <= MAX_ANONYMOUS_GIB and many[1].ready_s <= MAX_READY_S and slower <= MAX_SLOWDOWN
    print("all goals are met" if met else "not all goals are met")


def _starts(recording: Path, frames: int, work: Path) -> list[Start]:
    """The first start on a recording, which reads it, and the second."""
    started = time.monotonic()
    make_recording(recording, work / "recording", frames)
    print(f"{frames:,} frames made in {time.monotonic() - started:.0f} s", flush=True)
    found = []
    for called in ("first", "second"):
        *_, ready, anonymous = _child("start", work)
        found.append(Start(float(ready), int(anonymous)))
        print(
            f"{called} start: ready after {found[-1].ready_s:.1f} s, {found[-1].anonymous_bytes / GIB:.2f} GiB",
            flush=True,
        )
    return found


def _child(part: str, work: Path) -> list[str]:
    """The lines that a process of this program prints, and the peak of the anonymous memory of it and its children."""
    command = [sys.executable, "-m", "benchmarks.data", str(work / "recording"), "--work", str(work / "kept")]
    peak = 0
    with subprocess.Popen([*command, "--part", part], stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_anonymous_bytes, _tree(process.pid))))
            time.sleep(SAMPLE_S)
        lines = [] if process.stdout is None else process.stdout.read().splitlines()
    if process.returncode:
        raise SystemExit(f"the process that measures ended with {process.returncode}")
    return [*lines, str(peak)] if part == "start" else lines


def _tree(root: int) -> Iterator[int]:
    """The process and what it started."""
    yield root
    try:
        children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def _anonymous_bytes(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)


def _prepared(data: Path, kept: Path) -> Any:
    from model.data.kept import kept_frames
    from model.training.recipe import PRESETS
    from model.training.run import prepare

    frames = kept_frames(data, kept)
    return frames, prepare(frames, PRESETS["default"])


def _start(data: Path, kept: Path) -> None:
    from model.training.held_out import evaluate, loss_quantiles
    from model.training.loop import seconds_a_step

    _, run = _prepared(data, kept)
    print(time.clock_gettime(time.CLOCK_BOOTTIME) - _started_s(), flush=True)
    seconds_a_step(run)
    evaluate(run)
    loss_quantiles(run, run.jepa)


def _started_s() -> float:
    """When this process was started, in seconds since the machine was."""
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    return int(ticks) / 100


def _pair(data: Path, kept: Path) -> None:
    """How much longer a step takes on the file than on the first frames of it in memory: the median of blocks of steps
    that take turns."""
    from model.training.loop import seconds_a_step
    from model.training.recipe import PRESETS
    from model.training.run import prepare

    frames, mapped = _prepared(data, kept)
    part = frames.take(np.arange(min(IN_MEMORY_FRAMES, len(frames))))
    in_memory = prepare(replace(part, folder=None), PRESETS["default"])
    ratios = []
    for block in range(BLOCKS):
        pair = [(mapped, 0), (in_memory, 1)]
        seconds = [0.0, 0.0]
        for run, at in pair if block % 2 else reversed(pair):
            seconds[at] = seconds_a_step(run, BLOCK_STEPS)
        ratios.append(seconds[0] / seconds[1])
    print(json.dumps(float(np.median(ratios)) - 1))


if __name__ == "__main__":
    main()
