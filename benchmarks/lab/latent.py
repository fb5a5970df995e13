"""What it is worth that the predictor's target is an embedding, on a frozen encoder.

    python -m benchmarks.lab.latent melee287_train.parquet examples/melee-heads.toml [--rows 20000] [--epochs 6]

One network, from the context embedding of a frame, is trained with three targets at equal rows, steps and seeds: the
embedding of the frame 30 later, its standardised columns, or both. Linear heads that learned from present frames read
the answers, on embeddings or on columns. Beside them stand the bundle's own predictor, and linear probes with labels of
the future on the embedding and on what the predictor expects. Prints the mean ROC AUC over the heads, for each way to
hold games out the mean over the seeds, and the mean paired difference to the target embedding with its standard error
over ways and seeds. The encoder has seen the games of `train`, unlabelled, also those held out here.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from bundle.folders import locate
from bundle.heads import Head, Heads
from bundle.reader import read_bundle
from cli.embedding import BundleEmbedder
from model.data.frames import Frames, read_frames
from model.data.splits import looking_ahead, split_rows
from model.evaluation.events import of_file
from model.evaluation.heads import STRAIGHT, Indices, Linear, Rows, fit_linear
from model.evaluation.label_columns import Columns
from model.evaluation.measures import ranking
from model.evaluation.probes import PROBE_CLIP
from model.evaluation.targets import Target, target

HORIZON = 30
SEEDS = 3
# Games of `train` that are held out in turn, in two of three ways.
HELD_OUT_GAMES = 12
WIDTH, BATCH_ROWS, LEARNING_RATE = 512, 512, 1e-3
PENALTY = 100.0
TARGETS = ("embedding", "columns", "both")


class Side(NamedTuple):
    """Rows [n] of one side of a split, and what is known of them."""

    rows: Indices
    later: Indices
    context: Rows
    now: Rows
    then: Rows
    columns: Rows
    later_columns: Rows
    expected: Rows


def sides(
    frames: Frames, train: Indices, test: Indices, embedder: BundleEmbedder, count: int, seed: int
) -> tuple[Side, Side]:
    rng, ahead = np.random.default_rng(seed), looking_ahead(frames)
    centre = spread = np.zeros(0, np.float32)
    found = []
    for part, size in ((train, count), (test, count // 2)):
        rows = np.sort(rng.permutation(part)[:size])
        rows = rows[ahead(rows, HORIZON) >= 0]
        later = ahead(rows, HORIZON)
        now, then = frames.features[rows], frames.features[later]
        if not len(centre):
            centre, spread = now.mean(0), np.where(now.std(0) < 1e-6, 1, now.std(0))
        columns, later_columns = (
            np.clip((each - centre) / spread, -PROBE_CLIP, PROBE_CLIP).astype(np.float32) for each in (now, then)
        )
        context = embedder.context(now)
        expected = embedder.expected(context, HORIZON)
        found.append(
            Side(rows, later, context, embedder.now(now), embedder.now(then), columns, later_columns, expected)
        )
    return found[0], found[1]


def learned(train: Side, test: Side, name: str, epochs: int, seed: int) -> Mapping[str, Rows]:
    """What the network expects of the test rows, as embeddings and as columns, whichever it was trained for."""
    torch.manual_seed(seed)
    parts = {"embedding": train.then, "columns": train.later_columns}
    wanted = torch.from_numpy(np.concatenate([parts[p] for p in parts if name in (p, "both")], axis=1))
    # Each kind of target counts alike.
    weight = torch.cat([torch.full((parts[p].shape[1],), 1 / parts[p].var()) for p in parts if name in (p, "both")])
    x, asked = torch.from_numpy(train.context), torch.from_numpy(test.context)
    centre, spread = x.mean(0), x.std(0) + 1e-6
    x, asked = (x - centre) / spread, (asked - centre) / spread
    network = nn.Sequential(
        nn.Linear(x.shape[1], WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, wanted.shape[1])
    )
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    steps = epochs * -(-len(x) // BATCH_ROWS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(x)), BATCH_ROWS):
            optimiser.zero_grad()
            loss = (F.mse_loss(network(x[batch]), wanted[batch], reduction="none") * weight).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    with torch.inference_mode():
        answer = network(asked).numpy()
    widths = np.cumsum([parts[p].shape[1] for p in parts if name in (p, "both")])[:-1]
    return dict(zip([p for p in parts if name in (p, "both")], np.split(answer, widths, axis=1), strict=True))


def lines(train: Side, test: Side, targets: list[Target], epochs: int, seeds: int) -> Iterator[tuple[str, int, float]]:
    """The name of each line, its seed, and its mean ROC AUC over the heads."""
    present = [
        {"embedding": fit(t, train.now, t.at(train.rows)), "columns": fit(t, train.columns, t.at(train.rows))}
        for t in targets
    ]

    def mean(answers: list[Rows]) -> float:
        aucs = []
        for t, values in zip(targets, answers, strict=True):
            truth = t.at(test.later)
            known = ~np.isnan(truth)
            aucs.append(ranking(t.head.kind, values[known], truth[known]))
        return float(np.nanmean(aucs))

    def read(rows: Rows, space: str) -> list[Rows]:
        return [answers(t.head, heads[space], rows) for t, heads in zip(targets, present, strict=True)]

    yield "persistence", 0, mean(read(test.now, "embedding"))
    yield "the bundle's predictor", 0, mean(read(test.expected, "embedding"))
    for name, view in (("embedding", (train.now, test.now)), ("predictor's output", (train.expected, test.expected))):
        probes = [fit(t, view[0], t.at(train.later)) for t in targets]
        yield (
            f"{name}, labels of the future",
            0,
            mean([answers(t.head, p, view[1]) for t, p in zip(targets, probes, strict=True)]),
        )
    for seed in range(seeds):
        for name in TARGETS:
            found = {space: read(rows, space) for space, rows in learned(train, test, name, epochs, seed).items()}
            for space, values in found.items():
                yield f"target {name}, read as {space}", seed, mean(values)
            if name == "both":
                both = [(a + b) / 2 for a, b in zip(*found.values(), strict=True)]
                yield "target both, the mean of both readings", seed, mean(both)


def fit(target: Target, x: Rows, y: Rows) -> Linear:
    return fit_linear(target.head, x, y, x, y, (PENALTY,))


def answers(head: Head, linear: Linear, x: Rows) -> Rows:
    straight = np.tile(np.array(STRAIGHT, np.float32), (1, len(head.outputs), 1))
    return Heads((head,), linear.weights, linear.biases, straight).values(x, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("events", type=Path)
    parser.add_argument("--rows", type=int, default=20_000, help="to learn from; half as many are tested")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--heads", nargs="+", help="names of events, all without")
    given = parser.parse_args()
    bundle = read_bundle(locate("default"))
    frames = read_frames(given.data, labels=(), like=bundle.manifest.feature_schema)
    known, held_out = (np.asarray(rows) for rows in split_rows(frames))
    events = [event for event in of_file(given.events) if given.heads is None or event.name in given.heads]
    columns = Columns(frames, given.data, [event.formula for event in events])
    targets = [target(event, columns, known) for event in events]
    games = np.random.default_rng(0).permutation(np.unique(frames.episode[known]))
    ways: list[tuple[str, NDArray[np.int64], NDArray[np.int64]]] = [("val", known, held_out)]
    for turn in range(2):
        out = np.isin(frames.episode[known], games[turn * HELD_OUT_GAMES : (turn + 1) * HELD_OUT_GAMES])
        ways.append((f"{HELD_OUT_GAMES} games of train ({turn + 1})", known[~out], known[out]))
    found: dict[str, dict[tuple[int, int], float]] = defaultdict(dict)
    embedder = BundleEmbedder(bundle)
    for way, (told, train, test) in enumerate(ways):
        print(f"held out: {told}", flush=True)
        for line, seed, auc in lines(
            *sides(frames, train, test, embedder, given.rows, way), targets, given.epochs, given.seeds
        ):
            found[line][way, seed] = auc
    base = found["target embedding, read as embedding"]
    print(
        f"{len(targets)} heads, {HORIZON} frames ahead, {given.rows} rows, {given.epochs} epochs, {given.seeds} seeds"
    )
    for line, aucs in found.items():
        by_way = [np.mean([auc for (way, _), auc in aucs.items() if way == place]) for place in range(len(ways))]
        gaps = np.array([aucs.get(key, aucs.get((key[0], 0), np.nan)) - auc for key, auc in base.items()])
        error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else float("nan")
        print(f"{line:<44}" + "".join(f"{auc:8.4f}" for auc in by_way) + f"  {gaps.mean():+.4f} ±{error:.4f}")


if __name__ == "__main__":
    main()
