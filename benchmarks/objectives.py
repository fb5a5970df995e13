"""What each part of the training objective is worth: one network, one budget, several objectives, one linear probe.

    python benchmarks/objectives.py FRAMES.parquet [--steps 1500] [--split val]

Prints the ROC AUC of every `y_*` label beside the raw features and the untrained network.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.data import Frames, read_frames
from model.evaluation import linear_probe, score
from model.jepa import JEPA
from model.recipe import PRESETS, Recipe
from model.splits import split_rows
from model.training import Training


class RawValues(nn.Module):
    """The rival of a JEPA: the later frame's standardised values, regressed from the context's embedding. Stands where
    the anchor stands, with a linear map a horizon as that has."""

    def __init__(self, jepa: JEPA) -> None:
        super().__init__()
        self.columns = len(jepa.encoding.mean)
        self.horizons = jepa.config.horizons
        self.heads = nn.ModuleList(nn.Linear(jepa.config.embed_dim, self.columns) for _ in self.horizons)

    def loss(self, context: Tensor, later: Tensor, horizon: Tensor, known: Tensor | None) -> Tensor:
        """As `Anchor.loss`."""
        total = context.new_zeros(())
        for frames, head in zip(self.horizons, self.heads, strict=True):
            rows = (horizon == frames).nonzero()[:, 0]
            each = F.smooth_l1_loss(head(context[rows]).float(), later[rows, : self.columns], reduction="none")
            total = total + (each if known is None else each * known[rows, : self.columns]).sum()
        return total / (len(context) * self.columns)


def train(frames: Frames, recipe: Recipe, *, raw_values: bool) -> JEPA:
    training = Training(frames, recipe)
    if raw_values:
        training.checkpoint.jepa.anchor = RawValues(training.jepa)  # type: ignore[assignment]
        training = Training(frames, recipe, resume=training.checkpoint)
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
        "raw values": (replace(recipe, prediction=0.0, anchor=10 * recipe.anchor), True),
        "JEPA alone": (replace(recipe, anchor=0.0), False),
        "anchor alone": (replace(recipe, prediction=0.0), False),
        "JEPA + anchor": (recipe, False),
    }
    for name, (changed, raw_values) in rivals.items():
        jepa = train(frames, changed, raw_values=raw_values)
        report(name, embed(jepa, fit.features), embed(jepa, test.features))


if __name__ == "__main__":
    main()
