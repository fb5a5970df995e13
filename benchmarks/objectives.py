"""What each part of the training objective is worth: one network, one budget, several objectives, one linear probe.

    python -m benchmarks.objectives FRAMES.parquet [--steps 1500] [--split val]

Prints the ROC AUC of every `y_*` label beside the raw features and the untrained network.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from model.data import Frames, read_frames
from model.evaluation import linear_probe, score
from model.jepa import JEPA
from model.recipe import PRESETS, Recipe
from model.splits import split_rows
from model.training import Training


def train(frames: Frames, recipe: Recipe) -> JEPA:
    training = Training(frames, recipe)
    with tempfile.TemporaryDirectory() as folder:
        training.run(Path(folder) / "checkpoint.safetensors", lambda _: None, lambda _: True)
    return training.jepa.eval()


def embed(jepa: JEPA, rows: np.ndarray) -> np.ndarray:
    """rows [n, C] → the target encoder's embeddings [n, D]."""
    with torch.inference_mode():
        parts = [
            jepa.target_encoder(jepa.encoding(torch.from_numpy(part)))
            for part in np.array_split(rows, len(rows) // 2048 + 1)
        ]
    return torch.cat(parts).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--split", default="val", help="games to test on (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=40_000, help="training rows of the probe; half as many test it")
    parser.add_argument("--labels", nargs="+", default=["y_*"])
    options = parser.parse_args()
    frames = read_frames(options.data, labels=options.labels)
    train_rows, held_out = split_rows(frames)
    if frames.split is not None:
        held_out = np.flatnonzero(frames.split == options.split)
    draw = np.random.default_rng(0)
    fit = frames.take(draw.permutation(train_rows)[: options.rows])
    test = frames.take(draw.permutation(held_out)[: options.rows // 2])

    def report(name: str, train_view: np.ndarray, test_view: np.ndarray) -> None:
        scores = (
            score(linear_probe, train_view, fit.labels[label], test_view, test.labels[label], test.episode).auc
            for label in fit.labels
        )
        print(f"{name:<24}" + "".join(f"{auc:>16.3f}" for auc in scores), flush=True)

    print(f"{options.steps} steps, probe on {len(fit)} rows, tested on {len(test)} of split {options.split}; ROC AUC")
    print(" " * 24 + "".join(f"{label:>16}" for label in fit.labels))
    report("raw features", fit.features, test.features)
    recipe = replace(PRESETS["default"], steps=options.steps)
    untrained = Training(frames, recipe).jepa.eval()
    report("untrained", embed(untrained, fit.features), embed(untrained, test.features))
    rivals = {
        "JEPA alone": replace(recipe, anchor=0.0),
        "raw values alone": replace(recipe, prediction=0.0),
        "both": recipe,
    }
    for name, changed in rivals.items():
        jepa = train(frames, changed)
        report(name, embed(jepa, fit.features), embed(jepa, test.features))


if __name__ == "__main__":
    main()
