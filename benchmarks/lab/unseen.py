"""The default recipe, untouched, on data that nobody tuned it to: scikit-learn's digits, and Atari frames where given.

    python -m benchmarks.lab.unseen [atari_pong.parquet …] [--steps N]

Prints how a linear probe does on the raw features, on as many principal components as the embedding is wide, and on the
embedding, over games (of digits: rows) held out of training. Labels of Atari frames are bytes of the console's memory,
read from the pixels (Anand et al. 2019).
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.lab.probing import Probe, trained
from bundle.schema import Schema, unnamed_columns
from model.data.frames import Frames, read_frames
from model.data.splits import split_rows
from model.evaluation.probes import principal_components
from model.training.recipe import PRESETS

ATARI_LABELS = 8
MOST_CLASSES = 32
LEAST_ENTROPY = 0.6  # nats; a byte that hardly changes tells nothing
PROBE_ROWS = 20_000


def digits() -> Frames:
    """8×8 images in no order: each is an episode of its own."""
    pixels, digit = load_digits(return_X_y=True)
    schema = Schema.of(unnamed_columns(pixels.shape[1]), {})
    return Frames(pixels.astype(np.float32), schema, np.arange(len(pixels)), labels={"digit": digit.astype(np.int64)})


def atari(path: Path) -> Frames:
    """Pixels, with the bytes of memory that change most among those of few values."""
    frames = read_frames(path, features="px_*", labels=("ram_*",))
    entropies = {}
    for name, values in frames.labels.items():
        share = np.unique(values, return_counts=True)[1] / len(values)
        entropy = float(-(share * np.log(share)).sum())
        if len(share) <= MOST_CLASSES and entropy >= LEAST_ENTROPY:
            entropies[name] = entropy
    chosen = sorted(entropies, key=entropies.__getitem__, reverse=True)[:ATARI_LABELS]
    return replace(frames, labels={name: frames.labels[name] for name in sorted(chosen)})


def compare(name: str, frames: Frames, steps: int | None) -> None:
    recipe = PRESETS["default"] if steps is None else replace(PRESETS["default"], steps=steps)
    probe = Probe(frames, *split_rows(frames, seed=recipe.seed), PROBE_ROWS)
    views = {
        "raw": probe.raw,
        f"PCA-{recipe.embed_dim}": principal_components(*probe.raw, recipe.embed_dim),
        "embedding": probe.embeddings(trained(frames, recipe)),
    }
    for view, given in views.items():
        scores = probe.scores(given).values()
        auc, accuracy = np.nanmean([(each.auc, each.accuracy) for each in scores], axis=0)
        print(f"{name:<16} {view:<12} AUC {auc:.3f}  accuracy {accuracy:.3f}  ({len(scores)} labels)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", nargs="*", type=Path)
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    options = parser.parse_args()
    compare("digits", digits(), options.steps)
    for path in options.games:
        compare(path.stem, atari(path), options.steps)


if __name__ == "__main__":
    main()
