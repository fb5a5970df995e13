"""Whether novelty tells games with a character or a stage that the encoder never saw from those that it knows.

    python -m benchmarks.lab.unknown melee287_train.parquet --without y_own_char=18 y_opp_char=18 y_stage=2

An encoder learns from the training games without any of these classes of labels, and mean and covariance are fitted on
its embeddings of them, and the measure of columns on their rows. For each class, five-second windows of all games with
it are told from those of held-out games that have none of the classes: ROC AUC by the distance of embeddings, by how
badly columns fit each other, and by the mean of what is served, the larger of both percentiles. Beside them the
distance by the bundled encoder, which has seen the classes.
"""

import argparse
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.lab.novelty import auc_of_windows, beginnings
from benchmarks.lab.probing import embedded, trained
from bundle.folders import locate
from bundle.novelty import Novelty
from bundle.reader import read_bundle
from cli.embedding import BundleEmbedder
from model.data.frames import Frames, read_frames
from model.data.splits import rows_of_split
from model.training.recipe import PRESETS


def games_with(frames: Frames, label: str, value: int) -> NDArray[np.bool_]:
    """[n] Whether a row is of a game that has this class in any of its rows."""
    return np.isin(frames.episode, np.unique(frames.episode[frames.labels[label] == value]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--without", nargs="+", required=True, metavar="LABEL=CLASS")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=512)
    given = parser.parse_args()
    classes = [(label, int(value)) for label, _, value in (each.partition("=") for each in given.without)]
    bundle = read_bundle(locate("default"))
    frames = read_frames(given.data, labels=[*{label for label, _ in classes}], like=bundle.manifest.feature_schema)
    of_class = [games_with(frames, *each) for each in classes]
    left_out = np.any(of_class, axis=0)
    seen = frames.take(np.flatnonzero(~left_out))
    recipe = replace(PRESETS["default"], steps=given.steps, batch_size=given.batch_size)
    jepa = trained(seen, recipe).jepa
    rows = beginnings(frames)
    features, games = frames.features[rows], frames.episode[rows]
    train, val = (np.isin(rows, np.asarray(rows_of_split(frames, name))) for name in ("train", "val"))
    kept, known = train & ~left_out[rows], val & ~left_out[rows]
    print(f"learns from {len(np.unique(games[kept]))} games, {len(np.unique(games[known]))} are held out")
    embeddings = embedded(jepa, features)
    novelty = Novelty.fit(embeddings[kept], embeddings[known], (features[kept], features[known]))
    served = novelty.judge(novelty.percentiles(embeddings), features)
    bundled = BundleEmbedder(bundle).now(features)
    views = {"embedding": novelty.distances(embeddings), "columns": served.oddities, "served": served.percentiles}
    views["the bundled embedding"] = Novelty.fit(bundled[kept], bundled[known]).distances(bundled)
    for (label, value), mask in zip(classes, of_class, strict=True):
        far = (train | val) & mask[rows]
        told = (
            f"{view} {auc_of_windows(each, games, known, far):.3f}" for view, each in views.items() if each is not None
        )
        print(f"{label} {value}, {len(np.unique(games[far]))} games: AUC by {', '.join(told)}")


if __name__ == "__main__":
    main()
