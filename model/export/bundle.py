"""PyTorch → ONNX bundle: three graphs, checked against PyTorch, and the golden rows that the service repeats."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.columns import STATISTICS, Statistics
from bundle.novelty import NOVELTY_FILE, Novelty
from bundle.schema import Schema
from bundle.writer import BundleWriter
from model.export.graphs import ServedEncoder, ServedPredictor, embed
from model.export.int8 import Arrays, write_int8
from model.export.tracing import Served, refill, trace
from model.networks.config import Config
from model.networks.encoder import ContextEncoder
from model.networks.predictor import Predictor
from model.training.checkpoint import Checkpoint

PARITY_BATCHES = (1, 2, 7, 64)
ATOL, RTOL = 1e-5, 1e-4
GOLDEN_ROWS = 16
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
    half: bool = False,
    card: str | None = None,
) -> Path:
    """Writes `<models>/<name>/<next version>/` and returns it; ValueError if a graph differs from PyTorch.

    `known` is what bundle.json says besides what can be read off the networks. `half` rounds the weights of the
    float32 graphs to float16 and stores them so, in half the size; the graphs still compute in float32. `sample`
    [2n, C] are n rows to fit int8 graphs to and n to judge them by; without it there are none. `card` becomes
    README.md.
    """
    for network in networks:
        network.eval()
    config = networks.context_encoder.config
    with BundleWriter(models, name) as bundle:
        bundle.describe(**_description(config, schema, statistics))
        bundle.describe(**known)
        golden = dict(_golden_inputs(config, schema, statistics))
        rows = {"features": golden["features"]}
        encoders = []
        for role, encoder in (("context", networks.context_encoder), ("target", networks.target_encoder)):
            served = Served(ServedEncoder(networks.encoding, encoder, schema), rows, "embedding")
            trained = partial(embed, networks.encoding, encoder, schema)
            golden[f"{role}_embedding"] = _answer(served, trained, f"{role}_encoder.onnx", half)
            encoders.append(served)
        asked = {"context": golden["context_embedding"], "targets": golden["targets"], "horizon": golden["horizon"]}
        predictor = Served(ServedPredictor(networks.predictor), asked, "prediction")
        golden["prediction"] = _answer(
            predictor,
            lambda context, targets, horizon: networks.predictor(context, targets > 0, horizon),
            "predictor.onnx",
            half,
        )
        context, target = encoders
        _write_graphs(bundle.path, context, target, predictor)
        np.savez(bundle.path / "golden.npz", **golden)  # type: ignore[arg-type]
        if sample is not None:
            fitted, judged = np.split(sample, 2)
            asked = {
                "features": judged,
                "targets": np.ones((len(judged), len(config.patches)), np.float32),
                "horizon": np.full(len(judged), config.horizons[0], np.float32),
            }
            cost = write_int8(bundle.path, _questions(config, schema, fitted), asked, golden)
            bundle.describe(precision={"int8": cost})
            known_rows, other_rows = (_embeddings(networks, schema, rows) for rows in (fitted, judged))
            Novelty.fit(known_rows, other_rows).write(bundle.path / NOVELTY_FILE)
        if half:
            for path in bundle.path.glob("*[!8].onnx"):
                _store_half(path)
        if card is not None:
            (bundle.path / "README.md").write_text(card)
    return bundle.folder


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
        "options": {
            key: value for key, value in config.as_dict().items() if key not in ("input_dim", "patches", "horizons")
        },
    }
    if statistics is not None:
        # Seven digits are as near as float32 needs here, in half the room.
        about["statistics"] = {name: [float(f"{v:.7g}") for v in statistics[name]] for name in STATISTICS}
    return about


def _golden_inputs(config: Config, schema: Schema, statistics: Statistics | None) -> Arrays:
    """Questions about rows drawn around the training statistics (a standard normal where there are none)."""
    drawn = np.random.default_rng(0).normal(size=(GOLDEN_ROWS, schema.input_dim))
    if statistics is not None:
        drawn = np.clip(statistics["mean"] + statistics["std"] * drawn, statistics["min"], statistics["max"])
    return _questions(config, schema, drawn)


def _questions(config: Config, schema: Schema, rows: NDArray[np.floating]) -> Arrays:
    """The rows [n, C], every third with a hidden group, and what the predictor is asked about each."""
    rng = np.random.default_rng(0)
    features, count = rows.astype(np.float32), len(rows)
    if len(schema.groups) > 1:
        for row in range(0, count, 3):
            group = schema.groups[row % len(schema.groups)]
            features[row, group.start : group.stop] = np.nan
    targets = rng.random((count, len(config.patches))) < 0.5
    targets[np.arange(count), rng.integers(len(config.patches), size=count)] = True
    horizon = rng.choice(config.horizons, count)
    return {
        "features": features,
        "targets": targets.astype(np.float32),
        "horizon": horizon.astype(np.float32),
    }


def _answer(served: Served, trained: Callable[..., Tensor], graph: str, half: bool) -> NDArray[np.float32]:
    """What the network answers to its example, once it is made ready to be exported and compared with `trained`."""
    network = served.network.eval()
    example = [torch.from_numpy(values) for values in served.inputs.values()]
    with torch.no_grad():
        # Folded weights add up in another order.
        _check_close(network(*example), trained(*example), 10 * ATOL, f"{graph} differs from the trained network")
        if half:
            for parameter in network.parameters():
                parameter.data = parameter.data.half().float()
        answer: NDArray[np.float32] = network(*example).numpy()
    return answer


def _write_graphs(folder: Path, context: Served, target: Served, predictor: Served) -> None:
    """Writes the three graphs, and checks each against PyTorch at several batch sizes."""
    graphs = {}
    graphs["context_encoder.onnx"], graphs["predictor.onnx"] = trace(context, predictor)
    # The encoders differ in their weights alone.
    alike = onnx.ModelProto()
    alike.CopyFrom(graphs["context_encoder.onnx"])
    refilled = refill(alike, context.network, target.network)
    graphs["target_encoder.onnx"] = alike if refilled else trace(target)[0]
    for name, served in zip(graphs, (context, predictor, target), strict=True):
        onnx.save(graphs[name], folder / name)
        _check_parity(served.network, served.inputs, folder / name)


def _embeddings(networks: Networks, schema: Schema, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n, C] → [n, D] by the target encoder."""
    with torch.inference_mode():
        parts = torch.split(torch.from_numpy(rows), CHUNK_ROWS)
        embedded = [embed(networks.encoding, networks.target_encoder, schema, part) for part in parts]
    found: NDArray[np.float32] = torch.cat(embedded).numpy()
    return found


def _store_half(path: Path) -> None:
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


def _check_parity(network: nn.Module, inputs: Arrays, path: Path) -> None:
    """Raises ValueError unless ONNX Runtime gives PyTorch's answers, with a batch dimension that is free."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    for given in session.get_inputs():
        if not isinstance(given.shape[0], str):
            raise ValueError(
                f"{path.name}: the batch of '{given.name}' is frozen to {given.shape[0]}; export it dynamic"
            )
    for batch in PARITY_BATCHES:
        fed = {name: np.resize(values, (batch, *values.shape[1:])) for name, values in inputs.items()}
        with torch.no_grad():
            expected = network(*(torch.from_numpy(values) for values in fed.values()))
        answered = torch.from_numpy(session.run(None, fed)[0])
        _check_close(answered, expected, ATOL, f"{path.name} differs from PyTorch at batch {batch}")


def _check_close(found: Tensor, expected: Tensor, atol: float, otherwise: str) -> None:
    # Rounding errors are relative to the numbers that were added up. The size of the whole embedding says how large
    # those were; an element may be small because large ones cancelled.
    size = max(1.0, float(expected.square().mean().sqrt()))
    if not torch.allclose(found, expected, atol=atol * size, rtol=RTOL):
        raise ValueError(f"{otherwise} by {float((found - expected).abs().max()):.2e}; it is not written")
