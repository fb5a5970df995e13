"""What should a predictor learn to predict, and what do the player's own inputs give it?

    OMP_NUM_THREADS=1 python -m benchmarks.lab.actions melee287_train.parquet --keep FOLDER

Predictors of the bundled size learn on frozen, bundled encoders, with equal inputs, steps and seeds: to predict the
target encoder's embedding, the standardised columns, or both. Linear probes read off what each predicts of 18 frames
later: once given the inputs of the frames between, once those of another row, and once none; beside them stand probes
on the embedding and the raw columns together with the same inputs. Of a bundle whose predictor takes inputs, that one
is read off first. ROC AUC, mean over classes.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.lab.frozen import Frozen, Question, Questions, View, opened, session, some_games
from benchmarks.lab.frozen import learn as learn_by
from bundle.columns import DEAD_STD
from model.data.frames import read_frames
from model.data.ranges import Ranges
from model.data.splits import split_rows
from model.data.statistics import statistics_of
from model.evaluation.probes import linear_probe
from model.networks.actions import ActionEncoding
from model.networks.config import Config
from model.networks.predictor import Predictor

AHEAD = 18
HORIZONS = (1, 5, 10, AHEAD, 30, 60)
TARGETS = ("embedding", "columns", "both")
# Label, and how many frames after the frame that is predicted the row stands that has it.
READ = {
    "own action, t+18": ("y_act30", -30),
    "opponent's action, t+18": ("y_opp_act30", -30),
    "own action, t+48": ("y_act30", 0),
    "opponent's action, t+48": ("y_opp_act30", 0),
    "damage, t+18 … t+78": ("y_dmg60", 0),
    "stick, t+18": ("y_stick_now", 0),
}
CONTROL = ["own action, t+18"]
GOALS = ["own action, t+48", "opponent's action, t+48"]
CHUNK_ROWS = 2048
Parts = Sequence[tuple[View, Ranges]]
Rows = NDArray[np.int64]
Values = NDArray[np.float32]


class Asked:
    """Rows whose later frames are read off what is predicted for them, and the labels of these."""

    def __init__(self, frozen: Frozen, rows: Ranges, count: int, parts: Parts) -> None:
        timeline = frozen.timeline
        self.rows = timeline.with_later_rows(rows, HORIZONS).evenly(count)
        self.later = timeline.ahead(self.rows, AHEAD)
        self.context = np.asarray(frozen.embedded("context_encoder", parts)[self.rows], np.float32)
        self.target = frozen.embedded("target_encoder", parts)
        self.actions = frozen.inputs.of(self.rows)  # [n, F, A]
        self.games = frozen.frames.episode[self.rows]
        self.labels = {}
        for name, (label, offset) in READ.items():
            at = timeline.ahead(self.later, offset)
            self.labels[name] = np.where(at >= 0, frozen.frames.labels[label][at], -1)

    def known(self) -> Values:
        """[n, AHEAD · A] the inputs of the frames between, 0 where one is not known."""
        known = self.actions[:, :AHEAD].flatten(1).numpy()
        return np.where(np.isfinite(known), known, np.float32(0))

    def shuffled(self) -> Tensor:
        """[n, F, A] the inputs of another row."""
        return self.actions[torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(0))]


class Arm(nn.Module):
    """A predictor of one of TARGETS."""

    def __init__(self, target: str, columns: Callable[[Rows], Tensor], width: int, encoding: ActionEncoding) -> None:
        super().__init__()
        options = {"predictor_depth": 2, "dropout": 0.0, "patches": 1, "horizons": HORIZONS}
        config = Config.of(1, options | {"actions": len(encoding.mean)})
        self.predictor, self.columns = Predictor(config, encoding), columns
        self.widths = {"embedding": [config.embed_dim], "columns": [width], "both": [config.embed_dim, width]}[target]
        self.target = target
        self.predictor.project_back = nn.Linear(config.predictor_embed_dim, sum(self.widths))

    def loss(self, asked: Question) -> Tensor:
        found = self.predictor(asked.context, None, asked.horizon, asked.actions).float().split(self.widths, 1)
        right = {
            "embedding": lambda: [asked.target],
            "columns": lambda: [self.columns(asked.later)],
            "both": lambda: [asked.target, self.columns(asked.later)],
        }[self.target]()
        # Each as a share of what always predicting its mean would cost, so that neither of both drowns the other.
        shares = [
            F.smooth_l1_loss(one, goal) / F.smooth_l1_loss(goal.mean(0).expand_as(goal), goal)
            for one, goal in zip(found, right, strict=True)
        ]
        return torch.stack(shares).sum()

    def predict(self, context: Values, actions: Tensor | None) -> Values:
        """[n, D] and inputs [n, F, A] → [n, D], [n, columns] or both side by side, AHEAD frames on."""
        parts = []
        with torch.inference_mode():
            for rows in np.array_split(np.arange(len(context)), -(-len(context) // CHUNK_ROWS)):
                given = None if actions is None else actions[rows]
                horizon = torch.full((len(rows),), float(AHEAD))
                parts.append(self.predictor(torch.from_numpy(context[rows]), None, horizon, given).numpy())
        return np.concatenate(parts)


def forecasts(served: ort.InferenceSession, context: Values, actions: Tensor, horizon: int = AHEAD) -> Values:
    """[n, D] and inputs [n, F, A] → [n, D] of all patches, so many frames on, by a bundle's predictor."""
    patches, parts = served.get_inputs()[1].shape[1], []
    for rows in np.array_split(np.arange(len(context)), -(-len(context) // CHUNK_ROWS)):
        asked = {
            "context": context[rows],
            "targets": np.ones((len(rows), patches), np.float32),
            "horizon": np.full(len(rows), horizon, np.float32),
            "actions": actions[rows].numpy(),
        }
        parts.append(served.run(None, asked)[0])
    return np.concatenate(parts)


def auc(truth: Rows, scores: Values, classes: Rows) -> float:
    """Mean over the classes of one against the rest; of classes that the truth lacks there is none."""
    found = [
        roc_auc_score(truth == kind, scores[:, i])
        for i, kind in enumerate(classes)
        if 20 <= (truth == kind).sum() < len(truth)
    ]
    return float(np.mean(found)) if found else float("nan")


def read(fit: Asked, test: Asked, view: tuple[Values, Values], name: str) -> dict[str, float]:
    """How well a probe on those rows tells that label: over all test rows, and by game."""
    learned, asked = fit.labels[name] >= 0, test.labels[name] >= 0
    probe = linear_probe(view[0][learned], fit.labels[name][learned])
    scores, truth, games = probe.predict_proba(view[1][asked]), test.labels[name][asked], test.games[asked]
    by_game = {int(game): auc(truth[games == game], scores[games == game], probe.classes_) for game in np.unique(games)}
    return {"all": auc(truth, scores, probe.classes_)} | {f"game {game}": value for game, value in by_game.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--keep", type=Path, required=True, help="folder for embeddings and results")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--games", type=int, default=36, help="to learn from")
    parser.add_argument("--rows", type=int, default=24_000, help="that the probes learn on, and are tested on")
    options = parser.parse_args()
    frames = read_frames(options.data, labels=["y_*"])
    bundle = opened(options.bundle)
    train, val = split_rows(frames)
    train = some_games(frames, train, options.games)
    frozen = Frozen(frames, bundle, options.keep, max_actions=24)
    started = time.monotonic()
    parts = [(frozen.views[0], Ranges.joined([train, val]))]
    questions = Questions(frozen, parts, HORIZONS)
    questions.rows = frozen.timeline.with_later_rows(train, HORIZONS)
    fit, test = (Asked(frozen, rows, options.rows, parts) for rows in (train, val))
    print(
        f"{len(questions.rows):,} rows to learn from; embeddings after {time.monotonic() - started:.0f} s", flush=True
    )
    statistics = statistics_of(frames, train)
    alive = statistics["std"] > DEAD_STD
    mean, scale = statistics["mean"][alive], 1 / statistics["std"][alive]

    def columns(rows: Rows) -> Tensor:
        standardised = (frames.features[rows][:, alive] - mean) * scale
        return torch.from_numpy(standardised.clip(-5, 5).astype(np.float32))

    results = Results(options.keep / "results.json", fit, test)
    results.add("ceiling: embedding(t+18)", (np.asarray(a.target[a.later], np.float32) for a in (fit, test)))
    now = [np.asarray(a.target[a.rows], np.float32) for a in (fit, test)]
    results.add("embedding(t) + inputs", (np.hstack([n, a.known()]) for n, a in zip(now, (fit, test), strict=True)))
    results.add("raw(t) + inputs", (np.hstack([columns(a.rows).numpy(), a.known()]) for a in (fit, test)))
    if bundle.manifest.actions:
        name, served = f"predictor of version {bundle.manifest.version}", session(bundle, "predictor")
        told = [forecasts(served, a.context, a.actions) for a in (fit, test)]
        results.add(name, told)
        beside = (np.hstack(both) for both in zip(told, now, strict=True))
        results.add(f"{name}, beside embedding(t)", beside, only=GOALS)
        results.add(
            f"{name}, inputs of another row",
            (forecasts(served, a.context, a.shuffled()) for a in (fit, test)),
            only=CONTROL,
        )
        unknown = (forecasts(served, a.context, torch.full_like(a.actions, torch.nan)) for a in (fit, test))
        results.add(f"{name}, no inputs", unknown)
    assert frames.actions is not None
    encoding = ActionEncoding.fit(frames.actions[questions.rows.evenly(200_000)])
    for seed in options.seeds:
        for target in TARGETS:
            name = f"{target}, seed {seed}"
            lines = [name, f"{name}, inputs of another row", *([f"{name}, no inputs"] * (target == "embedding"))]
            if results.found.keys() >= {*lines}:
                continue
            begun = time.monotonic()
            torch.manual_seed(seed)
            arm = Arm(target, columns, int(alive.sum()), encoding)
            learn_by(arm, arm.loss, questions, options.steps, seed=seed, batch_size=options.batch_size)
            print(f"{name}: {options.steps} steps in {time.monotonic() - begun:.0f} s", flush=True)
            results.add(name, (arm.predict(a.context, a.actions) for a in (fit, test)))
            results.add(lines[1], (arm.predict(a.context, a.shuffled()) for a in (fit, test)), only=CONTROL)
            if target == "embedding":
                results.add(lines[2], (arm.predict(a.context, None) for a in (fit, test)))


class Results:
    """A line of figures for each representation, printed and kept."""

    def __init__(self, path: Path, fit: Asked, test: Asked) -> None:
        self.path, self.fit, self.test = path, fit, test
        self.found = json.loads(path.read_text()) if path.is_file() else {}

    def add(self, line: str, views: Iterable[Values], only: Sequence[str] = tuple(READ)) -> None:
        """Of the rows that probes learn on, and of those they are tested on."""
        if line not in self.found:
            learned, tested = views
            self.found[line] = {name: read(self.fit, self.test, (learned, tested), name) for name in only}
            self.path.write_text(json.dumps(self.found, indent=1))
        shown = "  ".join(f"{name} {each['all']:.3f}" for name, each in self.found[line].items())
        print(f"{line}: {shown}", flush=True)


if __name__ == "__main__":
    main()
