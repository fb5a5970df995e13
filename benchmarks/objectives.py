"""What each part of the training objective is worth: one network, one budget, several objectives, one linear probe.

    python -m benchmarks.objectives FRAMES.parquet [--steps 1500] [--split val]

Prints the ROC AUC of every `y_*` label beside the raw features and the untrained network.
"""

import argparse
from dataclasses import replace

import numpy as np

from benchmarks.probing import Probe, View, trained
from model.data import read_frames
from model.recipe import PRESETS
from model.splits import split_rows
from model.training import Training


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
    probe = Probe(frames, train_rows, held_out, options.rows)

    def report(name: str, view: View) -> None:
        print(f"{name:<24}" + "".join(f"{one.auc:>16.3f}" for one in probe.scores(view).values()), flush=True)

    print(f"{options.steps} steps, probe on {len(probe.fit)} rows, tested on {len(probe.test)}; ROC AUC")
    print(" " * 24 + "".join(f"{label:>16}" for label in frames.labels))
    report("raw features", probe.raw)
    recipe = replace(PRESETS["default"], steps=options.steps)
    report("untrained", probe.embeddings(Training(frames, recipe)))
    rivals = {
        "JEPA alone": replace(recipe, anchor=0.0),
        "raw values alone": replace(recipe, prediction=0.0),
        "both": recipe,
    }
    for name, changed in rivals.items():
        report(name, probe.embeddings(trained(frames, changed)))


if __name__ == "__main__":
    main()
