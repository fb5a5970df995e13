"""Gives a bundle a new predictor, which takes the player's own inputs and looks ahead at other horizons.

    OMP_NUM_THREADS=1 python -m benchmarks.lab.predictor melee287_train.parquet --keep FOLDER --out MODELS

The encoders stay as they are, byte for byte, and with them the embeddings and whatever has learned from them. The new
predictor begins with the weights of the old one (those of a new horizon lie between those of its neighbours) and learns
from the bundle's own embeddings; half of the time it is told no input. The heads of the bundle are left out, since they
are calibrated to the old horizons: `jepa heads` makes them anew. Before it writes the version it compares both
predictors, told nothing, by the old heads on held-out games: ROC AUC against the labels of the later frame.
"""

import argparse
import json
import time
from collections.abc import Sequence
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.lab.forecasts import Compared, in_chunks
from benchmarks.lab.frozen import Frozen, Question, Questions, View, learn, opened, session, some_games
from bundle.manifest import HEADS
from bundle.reader import Bundle
from bundle.writer import BundleWriter
from cli.copies import copy_into
from model.data.frames import read_frames
from model.data.ranges import Ranges, distinct
from model.data.splits import split_rows
from model.export.bundle import of_actions, plain_questions, questions, store_half
from model.export.graphs import ServedPredictor, predict
from model.export.int8 import golden_distances, int8_cost, write_one_int8
from model.export.parity import check_graph, judge
from model.export.tracing import Served, trace
from model.networks.actions import ActionEncoding
from model.networks.config import Config, Patch
from model.networks.predictor import Predictor
from model.training.recipe import Recipe

HIDE_SHARE = (0.0, 0.3)
# Of the games, how many of five are seen as they were recorded; only there the inputs are known.
PLAIN_OF_FIVE = 2
SAMPLE_ROWS = 2048
Rows = NDArray[np.int64]
Values = NDArray[np.float32]


def weights_of(bundle: Bundle) -> dict[str, Tensor]:
    """The weights in a bundle's predictor by name, as float32."""
    graph = onnx.load(bundle.graph("predictor", "float32")).graph
    return {
        weight.name.removesuffix(".half"): torch.from_numpy(
            onnx.numpy_helper.to_array(weight).astype(np.float32).copy()
        )
        for weight in graph.initializer
    }


def begun(bundle: Bundle, horizons: tuple[int, ...], encoding: ActionEncoding, max_actions: int) -> Predictor:
    """A predictor that, told no input, answers as the bundle's at its horizons."""
    manifest, old = bundle.manifest, weights_of(bundle)
    groups = {group.name: group for group in manifest.feature_schema.groups}
    patches = tuple(Patch(each.name, tuple(groups[name] for name in each.groups)) for each in manifest.patches)
    config = Config(
        manifest.input_dim,
        **{name: manifest.options[name] for name in ("embed_dim", "predictor_embed_dim", "encoder_depth")},
        **{name: manifest.options[name] for name in ("predictor_depth", "num_heads", "mlp_ratio")},
        dropout=0.0,
        patches=patches,
        horizons=horizons,
        actions=len(encoding.mean),
        max_actions=max_actions,
    )
    predictor = Predictor(config, encoding)
    weights = predictor.state_dict()
    known = np.array(manifest.horizons)
    positions = old["horizon_position"].numpy()
    weights["horizon_position"] = torch.from_numpy(
        np.stack([np.interp(horizons, known, column) for column in positions.T], axis=1).astype(np.float32)
    )
    # Exported, the shared part of the mask tokens is in each of them.
    weights["mask_token"].zero_()
    weights["patch_position"] = old.get("mask_tokens", old.get("question"))
    for block in range(config.predictor_depth):
        attention = f"blocks.{block}.attention"
        for kind in ("weight", "bias"):
            parts = [old.pop(f"{attention}.{name}.{kind}") for name in ("query", "key")]
            weights[f"{attention}.query_key.{kind}"] = torch.cat(parts)
    weights |= {name: value for name, value in old.items() if name in weights and name != "horizon_position"}
    predictor.load_state_dict(weights)
    return predictor.eval()


def hold_fast(predictor: Predictor, horizons: Sequence[int]) -> None:
    """Lets only the token of inputs learn, and the positions of horizons that are not among these old ones: told no
    input, the predictor then answers at the old ones as it did, bit for bit."""
    predictor.requires_grad_(False)
    assert predictor.actions is not None
    predictor.actions.requires_grad_(True)
    is_new = torch.tensor([[horizon not in horizons] for horizon in predictor.config.horizons])
    predictor.horizon_position.requires_grad_(True)
    predictor.horizon_position.register_hook(lambda gradient: gradient * is_new)  # type: ignore[no-untyped-call]


def check_begun(bundle: Bundle, predictor: Predictor) -> None:
    """Raises ValueError unless the predictor answers as the bundle's at its horizons."""
    golden, graph = bundle.golden, session(bundle, "predictor")
    for horizon in bundle.manifest.horizons:
        count = len(golden.features)
        asked = {
            "context": golden.context_embedding,
            "targets": np.ones((count, len(bundle.manifest.patches)), np.float32),
            "horizon": np.full(count, horizon, np.float32),
        }
        off = np.abs(graph.run(None, asked)[0] - in_chunks(predictor, golden.context_embedding, horizon)).max()
        if not off < 1e-3:
            raise ValueError(
                f"the weights do not make the bundle's predictor: {horizon} frames ahead it is off by {off}"
            )


def quantiles(predictor: Predictor, frozen: Frozen, context: Values, at: Rows) -> dict[str, list[float]]:
    """Per horizon the 0 … 100 % quantiles of the loss of rows `at`, as the service computes it; `context` [n, D]."""
    found, features = {}, frozen.frames.as_seen()
    for horizon in predictor.config.horizons:
        later = frozen.timeline.ahead(at, horizon)
        known = later >= 0
        predicted = torch.from_numpy(in_chunks(predictor, context[known], horizon))
        right = torch.from_numpy(frozen.encoded("target_encoder", features[later[known]]))
        losses = F.smooth_l1_loss(predicted, right, reduction="none").mean(1).double().numpy()
        found[str(horizon)] = [float(f"{value:.6g}") for value in np.quantile(losses, np.linspace(0, 1, 101))]
    return found


def views_of(frozen: Frozen, rows: Ranges) -> list[tuple[View, Ranges]]:
    """Each game in one view: of five, some as they were recorded, and the others in one of the other views in turn."""
    frames, plain, others = frozen.frames, frozen.views[0], frozen.views[1:]
    games = distinct(frames.episode, rows)
    place = np.arange(len(games))
    turn = place // 5 * (5 - PLAIN_OF_FIVE) + place % 5
    chosen = np.where((place % 5 < PLAIN_OF_FIVE) | (not others), 0, 1 + turn % max(1, len(others)))

    def of(view: int) -> Ranges:
        return rows.where(lambda part: np.isin(frames.episode[part], games[chosen == view]))

    parts = [(view, of(i)) for i, view in enumerate([plain, *others])]
    return [(view, found) for view, found in parts if len(found)]


def write(
    frozen: Frozen, models: Path, predictor: Predictor, names: tuple[str, ...], about: dict[str, Any], sample: Values
) -> Path:
    """The next version of the bundle: its encoders, the predictor, and what that changes. `sample` [2n, C] are rows
    that the int8 predictor is fitted to, and rows that int8 is judged by."""
    bundle = frozen.bundle
    schema, config = bundle.manifest.feature_schema, predictor.config
    golden = bundle.golden
    drawn = questions(predictor, schema, golden.features)
    asked = {"context": golden.context_embedding, **{name: drawn[name] for name in ("targets", "horizon", "actions")}}
    exact = deepcopy(predictor).double()
    judged = judge(
        Served(ServedPredictor(predictor), asked, "prediction"),
        lambda *inputs: predict(predictor, *inputs),
        lambda *inputs: predict(exact, *inputs),
        "predictor",
        half=True,
    )
    with BundleWriter(models, bundle.manifest.name) as writer:
        said = copy_into(writer, bundle)
        (writer.path / HEADS).unlink(missing_ok=True)
        path = writer.path / "predictor.onnx"
        onnx.save(trace(judged.served)[0], path)
        parity = {"pytorch": judged.pytorch, "float32": check_graph(path, judged)}
        rows = {
            "features": golden.features,
            "context_embedding": golden.context_embedding,
            "target_embedding": golden.target_embedding,
            **{name: drawn[name] for name in ("targets", "horizon", "actions")},
            "prediction": judged.right,
        }
        np.savez(writer.path / "golden.npz", **rows)  # type: ignore[arg-type]
        fitted, tested = np.split(sample, 2)
        write_one_int8(writer.path, "predictor", questions(predictor, schema, fitted))
        cost = int8_cost(writer.path, plain_questions(predictor, schema, tested))
        parity["int8"] = golden_distances(writer.path, rows)["predictor"]
        store_half(path)
        said["parity"]["predictor"] = {name: float(f"{value:.2g}") for name, value in parity.items()}
        writer.describe(
            horizons=[*config.horizons],
            precision={"int8": cost},
            parity=said["parity"],
            heads=[],
            **of_actions(predictor, names),
            **about,
        )
        writer.describe(training=said["training"] | about["training"])
    return writer.folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--keep", type=Path, required=True, help="folder for embeddings, which another run finds again")
    parser.add_argument("--out", type=Path, required=True, help="folder of models for the new version")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--events", type=Path, default=Path("examples/melee-heads.toml"))
    parser.add_argument("--horizons", type=int, nargs="+", default=[*Recipe.horizons])
    parser.add_argument("--max-actions", type=int, default=Recipe.max_actions)
    parser.add_argument("--games", type=int, default=73, help="to learn from")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--hold", action="store_true", help="keep the old weights, and learn the token of inputs alone")
    options = parser.parse_args()
    frames = read_frames(options.data, labels=["y_*"])
    bundle, started = opened(options.bundle), time.monotonic()
    train, val = split_rows(frames)
    train = some_games(frames, train, options.games)
    frozen = Frozen(frames, bundle, options.keep, options.max_actions)
    horizons = tuple(options.horizons)
    assert frames.actions is not None
    encoding = ActionEncoding.fit(frames.actions[train.evenly(200_000)])
    torch.manual_seed(0)
    predictor = begun(bundle, horizons, encoding, options.max_actions)
    check_begun(bundle, predictor)
    if options.hold:
        hold_fast(predictor, bundle.manifest.horizons)
    old = begun(bundle, horizons, encoding, options.max_actions)
    asked = Questions(frozen, views_of(frozen, train), horizons, HIDE_SHARE)
    print(f"{len(asked.rows):,} rows; embeddings after {time.monotonic() - started:.0f} s", flush=True)

    def loss(given: Question) -> Tensor:
        return F.smooth_l1_loss(predictor(given.context, None, given.horizon, given.actions).float(), given.target)

    learn(
        predictor,
        loss,
        asked,
        options.steps,
        seed=0,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        # A decay would move what gradients leave alone.
        weight_decay=0.0 if options.hold else 0.05,
    )
    print(f"{options.steps} steps after {time.monotonic() - started:.0f} s", flush=True)
    compared = Compared(frames, options.data, options.events, frozen, val)
    table = compared.table(old, predictor)
    for head, by_horizon in table.items():
        shown = "  ".join(f"{horizon}: {a:.4f} → {b:.4f}" for horizon, (a, b) in by_horizon.items())
        print(f"{head}: {shown}", flush=True)
    change = [b - a for by_horizon in table.values() for a, b in by_horizon.values()]
    print(f"mean change {np.mean(change):+.4f}, worst {min(change):+.4f}, best {max(change):+.4f}", flush=True)
    about = {
        "loss_quantiles": quantiles(predictor, frozen, compared.context, compared.rows),
        "training": {
            "predictor": {
                "date": str(date.today()),
                "began_with": f"the weights of version {bundle.manifest.version}, on its frozen encoders",
                "command": "python -m benchmarks.lab.predictor",
                "steps": options.steps,
                "batch_size": options.batch_size,
                "learning_rate": options.learning_rate,
                "old_weights": "kept" if options.hold else "learned on",
                "rows": len(asked.rows),
            }
        },
    }
    sample = np.concatenate([frames.features[each.evenly(SAMPLE_ROWS)] for each in (train, val)])
    folder = write(frozen, options.out, predictor, frames.action_names, about, sample)
    (options.keep / "predictor.json").write_text(json.dumps(table, indent=1))
    print(folder)


if __name__ == "__main__":
    main()
