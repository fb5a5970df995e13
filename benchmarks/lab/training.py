"""What share of this machine's arithmetic a training step reaches.

    python -m benchmarks.lab.training FRAMES.parquet [--preset default] [--rounds 5]

FLOPs are those of the matrix products of a step, forwards and backwards, as PyTorch counts them; the limit is the best
of `torch.mm` over some shapes on all cores, in the number format that the step multiplies in, measured in turn with it.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.data.frames import read_frames
from model.training.loop import Training
from model.training.recipe import PRESETS

SHAPES = ((1024, 256, 1024), (1024, 1024, 256), (1024, 1024, 1024), (2048, 2048, 2048))
ROUND_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--preset", default="default", choices=PRESETS)
    parser.add_argument("--rounds", type=int, default=5, help="of three seconds each")
    options = parser.parse_args()
    recipe = replace(PRESETS[options.preset], steps=10**6)
    training = Training(read_frames(options.data, labels=("y_*",)), recipe)
    dtype = torch.bfloat16 if training.half else torch.float32
    flops = flops_a_step(training) / recipe.batch_size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        rounds = [(rows_a_second(training, path), peak(dtype)) for _ in range(options.rounds)]
    rate, limit = (median(each) for each in zip(*rounds, strict=True))
    share = median(rows * flops / most for rows, most in rounds)
    print(f"{options.preset}: {rate:,.0f} rows/s of {flops / 1e6:.1f} MFLOP each are {rate * flops / 1e9:.0f} GFLOP/s")
    print(f"torch.mm in {dtype}, {torch.get_num_threads()} threads: {limit / 1e9:.0f} GFLOP/s at most")
    print(f"share reached: {share:.2f} (rounds: {', '.join(f'{rows * flops / most:.2f}' for rows, most in rounds)})")


def flops_a_step(training: Training) -> int:
    batch = training.batches.draw(training.train_rows, training.recipe.batch_size, torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        training.objective(batch)[0].backward()
    training.optimiser.zero_grad()
    return int(counter.get_total_flops())


def rows_a_second(training: Training, path: Path) -> float:
    """Of whole steps, drawing and optimiser included."""
    first, started = training.checkpoint.step, time.perf_counter()
    training.run(path, lambda _: None, lambda _: time.perf_counter() < started + ROUND_S, every=10**9)
    steps = training.checkpoint.step - first
    return steps * training.recipe.batch_size / (time.perf_counter() - started)


def peak(dtype: torch.dtype) -> float:
    """FLOP/s."""
    best = 0.0
    for rows, inner, columns in SHAPES:
        a, b = torch.randn(rows, inner, dtype=dtype), torch.randn(inner, columns, dtype=dtype)
        out = torch.empty(rows, columns, dtype=dtype)
        for _ in range(20):
            started = time.perf_counter()
            torch.mm(a, b, out=out)
            best = max(best, 2 * rows * inner * columns / (time.perf_counter() - started))
    return best


if __name__ == "__main__":
    main()
