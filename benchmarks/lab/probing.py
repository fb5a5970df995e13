"""What the benchmarks of training share: networks trained by a recipe, and one linear probe for all of them."""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.frames import Frames, read_frames
from model.data.ranges import Ranges
from model.data.splits import rows_of_split, split_rows
from model.evaluation.probes import Score, linear_probe, score, usable_label
from model.networks.jepa import JEPA
from model.training.loop import train
from model.training.recipe import Recipe
from model.training.run import Run, prepare

BATCH_ROWS = 2048

View = tuple[NDArray[np.float32], NDArray[np.float32]]  # rows that the probe learns on, rows it is tested on


class Probe:
    """The rows and labels that every representation is asked about."""

    def __init__(self, frames: Frames, train_rows: Ranges, test_rows: Ranges, rows: int) -> None:
        """`rows` is how many the probe learns on; half as many test it."""
        draw = np.random.default_rng(0)
        self.fit = frames.take(train_rows.drawn(rows, draw))
        self.test = frames.take(test_rows.drawn(rows // 2, draw))
        self.raw = self.fit.features[:], self.test.features[:]

    def scores(self, view: View) -> dict[str, Score]:
        """Of each label."""
        return {
            name: score(linear_probe, *view, usable_label(classes, self.test.labels[name]), self.test.episode)
            for name, classes in self.fit.labels.items()
        }

    def embeddings(self, jepa: JEPA) -> View:
        """By the target encoder."""
        return embedded(jepa, self.raw[0]), embedded(jepa, self.raw[1])


def embedded(jepa: JEPA, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """By the target encoder, [n, C] → [n, embed_dim]."""
    jepa.eval()
    with torch.inference_mode():
        parts = torch.split(torch.from_numpy(rows), BATCH_ROWS)
        return torch.cat([jepa.target_encoder(jepa.encoding(part)) for part in parts]).numpy()


def asked_for(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Frames, Probe]:
    """The parser's arguments beside those that say what is learned from and probed, and how long."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--split", default="val", help="games to test on (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=40_000, help="training rows of the probe; half as many test it")
    parser.add_argument("--labels", nargs="+", default=["y_*"])
    options = parser.parse_args()
    frames = read_frames(options.data, labels=options.labels)
    train_rows, held_out = split_rows(frames)
    if frames.split is not None:
        held_out = rows_of_split(frames, options.split)
    if not len(held_out):
        parser.error(f"no row of {options.data} is in the split {options.split}")
    probe = Probe(frames, train_rows, held_out, options.rows)
    print(f"{options.steps} steps, probe on {len(probe.fit)} rows, tested on {len(probe.test)}; ROC AUC")
    return options, frames, probe


def trained(frames: Frames, recipe: Recipe) -> Run:
    run = prepare(frames, recipe)
    with tempfile.TemporaryDirectory() as folder:
        train(run, Path(folder) / "checkpoint.safetensors", lambda _: None, lambda _: True)
    return run
