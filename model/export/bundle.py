"""PyTorch → ONNX bundle: three graphs, checked against PyTorch, and the golden rows that the service repeats."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from bundle.columns import STATISTICS, Statistics
from bundle.novelty import NOVELTY_FILE, Novelty
from bundle.sample import FRAMES_A_SECOND, SAMPLE, principal_components, sample_bytes
from bundle.schema import Schema
from bundle.writer import BundleWriter
from model.export.graphs import ServedEncoder, ServedPredictor, embed, predict
from model.export.int8 import Arrays, golden_distances, write_int8
from model.export.parity import Judged, check_graph, judge
from model.export.tracing import Served, refill, trace
from model.networks.config import Config
from model.networks.encoder import ContextEncoder
from model.networks.predictor import Predictor
from model.training.checkpoint import Checkpoint

GOLDEN_ROWS = 16
# Of the inputs of the player's own that are given in part.
UNKNOWN_SHARE = 0.5
# What the predictor is asked beside the context, under the names of its graph's inputs.
PREDICTOR = ("targets", "horizon", "actions")
# Options that bundle.json has beside "options".
ELSEWHERE = ("input_dim", "patches", "horizons", "actions", "max_actions")
# Rows in one run of a network.
CHUNK_ROWS = 512


class Networks(NamedTuple):
    """What the graphs are made of; `encoding` maps raw rows [B, C] to the inputs [B, M] of both encoders."""

    encoding: nn.Module
    context_encoder: ContextEncoder
    target_encoder: ContextEncoder
    predictor: Predictor


def export_bundle(
    checkpoint: Checkpoint, models: Path, name: str, *, half: bool = False, card: str | None = None
) -> Path:
    """`export_networks` of a training run."""
    jepa, summary = checkpoint.jepa, checkpoint.summary.as_dict()
    # These stand beside "training" in bundle.json.
    own_keys = ("loss_quantiles", "history", "licence", "data")
    about = {
        "training": {
            "steps": checkpoint.step,
            "recipe": checkpoint.recipe,
            **{key: value for key, value in summary.items() if key not in own_keys},
        },
        **{key: summary[key] for key in own_keys if key in summary},
    }
    networks = Networks(jepa.encoding, jepa.context_encoder, jepa.target_encoder, jepa.predictor)
    return export_networks(
        networks,
        checkpoint.schema,
        about,
        models,
        name,
        statistics=checkpoint.statistics,
        sample=checkpoint.sample,
        shown=checkpoint.shown,
        actions=checkpoint.actions,
        half=half,
        card=card,
    )


def export_networks(
    networks: Networks,
    schema: Schema,
    known: Mapping[str, Any],
    models: Path,
    name: str,
    *,
    statistics: Statistics | None = None,
    sample: NDArray[np.float32] | None = None,
    shown: NDArray[np.float32] | None = None,
    actions: Sequence[str] = (),
    half: bool = False,
    card: str | None = None,
) -> Path:
    """Writes `<models>/<name>/<next version>/` and returns it; ValueError if a graph differs from PyTorch.

    `known` is what bundle.json says besides what can be read off the networks. `half` rounds the weights of the
    float32 graphs to float16 and stores them so, in half the size; the graphs still compute in float32. `sample`
    [2n, C] are n rows to fit int8 graphs to and n to judge them by, of which the map is drawn too; without it there is
    neither. `shown` are frames [m, C] to look at, `actions` the names of the numbers of an input that the predictor
    takes. `card` becomes README.md.
    """
    for network in networks:
        network.eval()
    exact = deepcopy(networks)
    for network in exact:
        network.double()
    config = networks.context_encoder.config
    with BundleWriter(models, name) as bundle:
        bundle.describe(**_description(config, schema, statistics), **of_actions(networks.predictor, actions))
        bundle.describe(**known)
        golden = dict(_golden_inputs(networks.predictor, schema, statistics))
        rows = {"features": golden["features"]}
        context, target = (
            judge(
                Served(ServedEncoder(networks.encoding, encoder, schema), rows, "embedding"),
                partial(embed, networks.encoding, encoder, schema),
                partial(embed, exact.encoding, exact_encoder, schema),
                graph,
                half,
            )
            for graph, encoder, exact_encoder in (
                ("context_encoder", networks.context_encoder, exact.context_encoder),
                ("target_encoder", networks.target_encoder, exact.target_encoder),
            )
        )
        golden |= {"context_embedding": context.right, "target_embedding": target.right}
        asked = {"context": context.right, **{name: golden[name] for name in PREDICTOR if name in golden}}
        predictor = judge(
            Served(ServedPredictor(networks.predictor), asked, "prediction"),
            partial(predict, networks.predictor),
            partial(predict, exact.predictor),
            "predictor",
            half,
        )
        golden["prediction"] = predictor.right
        parity = _write_graphs(bundle.path, context, target, predictor)
        np.savez(bundle.path / "golden.npz", **golden)  # type: ignore[arg-type]
        if sample is not None:
            _write_what_takes_a_sample(bundle, networks, schema, sample)
            for graph, off in golden_distances(bundle.path, golden).items():
                parity[graph]["int8"] = off
        # Two digits are as near as another processor comes.
        bundle.describe(parity={graph: {k: float(f"{v:.2g}") for k, v in off.items()} for graph, off in parity.items()})
        if shown is not None:
            (bundle.path / SAMPLE).write_bytes(sample_bytes(shown))
            source = f"a held-out game of {known.get('data', {}).get('source') or 'the recording'}"
            bundle.describe(sample={"rows": len(shown), "rate": FRAMES_A_SECOND, "source": source})
        if half:
            for path in bundle.path.glob("*[!8].onnx"):
                store_half(path)
        if card is not None:
            (bundle.path / "README.md").write_text(card)
    return bundle.folder


def _write_what_takes_a_sample(
    bundle: BundleWriter, networks: Networks, schema: Schema, sample: NDArray[np.float32]
) -> None:
    """The int8 graphs, the map and the measure of novelty; `sample` as for `export_networks`."""
    fitted, judged = np.split(sample, 2)
    asked = plain_questions(networks.predictor, schema, judged)
    cost = write_int8(bundle.path, questions(networks.predictor, schema, fitted), asked)
    embedded = _embeddings(networks, schema, sample)
    source = f"{len(sample):,} rows of training and held-out games"
    bundle.describe(precision={"int8": cost}, map=principal_components(embedded, source))
    learned, held_out = np.split(embedded, 2)
    Novelty.fit(learned, held_out, (fitted, judged)).write(bundle.path / NOVELTY_FILE)


def _description(config: Config, schema: Schema, statistics: Statistics | None) -> dict[str, Any]:
    """What bundle.json says of the networks, of the rows they take, and of those they were trained on."""
    about: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "input_dim": schema.input_dim,
        "embed_dim": config.embed_dim,
        "schema": schema.as_dict(),
        "schema_hash": schema.hash,
        "patches": [{"name": p.name, "groups": [g.name for g in p.groups]} for p in config.patches],
        "horizons": list(config.horizons),
        "options": {key: value for key, value in config.as_dict().items() if key not in ELSEWHERE},
    }
    if statistics is not None:
        # Seven digits are as near as float32 needs here, in half the room.
        about["statistics"] = {name: [float(f"{v:.7g}") for v in statistics[name]] for name in STATISTICS}
    return about


def of_actions(predictor: Predictor, names: Sequence[str]) -> dict[str, Any]:
    """What bundle.json says of the inputs of the player's own that the predictor takes, where it does; ValueError where
    the names are not one a number."""
    if len(names) != predictor.config.actions:
        raise ValueError(
            f"actions names {len(names)} numbers of an input; the predictor takes {predictor.config.actions}"
        )
    if predictor.actions is None:
        return {}
    values = {name: predictor.actions.encoding.values(i) for i, name in enumerate(names)}
    return {
        "actions": [*names],
        "max_actions": predictor.config.max_actions,
        "action_values": {name: classes for name, classes in values.items() if classes},
    }


def _golden_inputs(predictor: Predictor, schema: Schema, statistics: Statistics | None) -> Arrays:
    """Questions about rows drawn around the training statistics (a standard normal where there are none)."""
    drawn = np.random.default_rng(0).normal(size=(GOLDEN_ROWS, schema.input_dim))
    if statistics is not None:
        drawn = np.clip(statistics["mean"] + statistics["std"] * drawn, statistics["min"], statistics["max"])
    return questions(predictor, schema, drawn)


def questions(predictor: Predictor, schema: Schema, rows: NDArray[np.floating]) -> Arrays:
    """The rows [n, C], every third with a hidden group where another is left, and what the predictor is asked about
    each: where it takes inputs, of every third row without, of every third row with some that are unknown."""
    rng, config = np.random.default_rng(0), predictor.config
    features, count = rows.astype(np.float32), len(rows)
    for row in range(0, count, 3):
        group = schema.groups[row % len(schema.groups)]
        # Where the data lacks groups already, one is left.
        if not np.isnan(np.delete(features[row], slice(group.start, group.stop))).all():
            features[row, group.start : group.stop] = np.nan
    targets = rng.random((count, len(config.patches))) < 0.5
    targets[np.arange(count), rng.integers(len(config.patches), size=count)] = True
    horizon = rng.choice(config.horizons, count)
    asked = {
        "features": features,
        "targets": targets.astype(np.float32),
        "horizon": horizon.astype(np.float32),
    }
    if predictor.actions is not None:
        actions = asked["actions"] = predictor.actions.encoding.draw(count, config.max_actions, rng)
        actions[::3] = np.nan
        actions[1::3][rng.random(actions[1::3].shape) < UNKNOWN_SHARE] = np.nan
    return asked


def plain_questions(predictor: Predictor, schema: Schema, rows: NDArray[np.float32]) -> Arrays:
    """As `questions`, of rows as they are and all patches at the first horizon."""
    return questions(predictor, schema, rows) | {
        "features": rows,
        "targets": np.ones((len(rows), len(predictor.config.patches)), np.float32),
        "horizon": np.full(len(rows), predictor.config.horizons[0], np.float32),
    }


def _write_graphs(folder: Path, context: Judged, target: Judged, predictor: Judged) -> dict[str, dict[str, float]]:
    """Writes the three graphs, and returns how far the answers of each are from the right ones; ValueError if one is
    too far off."""
    graphs = {}
    graphs["context_encoder"], graphs["predictor"] = trace(context.served, predictor.served)
    # The encoders differ in their weights alone.
    alike = onnx.ModelProto()
    alike.CopyFrom(graphs["context_encoder"])
    refilled = refill(alike, context.served.network, target.served.network)
    graphs["target_encoder"] = alike if refilled else trace(target.served)[0]
    parity = {}
    for judged in (context, target, predictor):
        path = folder / f"{judged.graph}.onnx"
        onnx.save(graphs[judged.graph], path)
        parity[judged.graph] = {"pytorch": judged.pytorch, "float32": check_graph(path, judged)}
    return parity


def _embeddings(networks: Networks, schema: Schema, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n, C] → [n, D] by the target encoder."""
    with torch.inference_mode():
        parts = torch.split(torch.from_numpy(rows), CHUNK_ROWS)
        embedded = [embed(networks.encoding, networks.target_encoder, schema, part) for part in parts]
    found: NDArray[np.float32] = torch.cat(embedded).numpy()
    return found


def store_half(path: Path) -> None:
    """Stores the rounded weights as float16 with a Cast before use, which ONNX Runtime folds away while it loads.

    Only what loses nothing is stored so: means and edges of the feature encoding are not weights and were not rounded.
    """
    graph = onnx.load(path)
    casts = []
    for weight in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size >= 256 and np.array_equal(values.astype(np.float16), values):
            stored = onnx.numpy_helper.from_array(values.astype(np.float16))
            casts.append(onnx.helper.make_node("Cast", [f"{weight.name}.half"], [weight.name], to=weight.data_type))
            stored.name = f"{weight.name}.half"
            weight.CopyFrom(stored)
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    onnx.save(graph, path)
