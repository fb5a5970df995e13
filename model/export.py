"""PyTorch → ONNX bundle: three graphs, checked against PyTorch, and the golden rows that the service repeats."""

import logging
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.bundle import next_version, writing_bundle
from model.checkpoint import Checkpoint
from model.config import Config
from model.encoder import ContextEncoder
from model.encoding import Statistics
from model.predictor import Predictor
from model.schema import Schema

OPSET = 20
PARITY_BATCHES = (1, 2, 7, 64)
ATOL, RTOL = 1e-5, 1e-4
GOLDEN_ROWS = 16

Arrays = dict[str, NDArray[np.float32]]


class Networks(NamedTuple):
    """What the graphs are made of; `encoding` maps raw rows [B, C] to the inputs [B, M] of both encoders."""

    encoding: nn.Module
    context_encoder: ContextEncoder
    target_encoder: ContextEncoder
    predictor: Predictor


class ServedEncoder(nn.Module):
    """Raw features, NaN where hidden → embedding: what `context_encoder.onnx` and `target_encoder.onnx` hold."""

    def __init__(self, encoding: nn.Module, encoder: ContextEncoder, schema: Schema) -> None:
        super().__init__()
        self.encoding = encoding
        self.encoder = encoder
        self.column_groups: Tensor
        column_group = [i for i, group in enumerate(schema.groups) for _ in range(group.width)]
        membership = nn.functional.one_hot(torch.tensor(column_group), len(schema.groups)).float()
        self.register_buffer("column_groups", membership)  # [C, G]

    def forward(self, features: Tensor) -> Tensor:
        """features [B, C] → [B, D]."""
        missing = torch.isnan(features)
        visible = missing.to(features.dtype) @ self.column_groups == 0  # [B, G]
        seen = torch.where(missing, 0.0, features)
        embedding: Tensor = self.encoder(self.encoding(seen), visible)
        return embedding


class ServedPredictor(nn.Module):
    """context, targets [B, N] as 0 and 1, horizon [B] frames ahead → prediction: what `predictor.onnx` holds."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, context: Tensor, targets: Tensor, horizon: Tensor) -> Tensor:
        prediction: Tensor = self.predictor(context, targets > 0, horizon)
        return prediction


def export_bundle(
    checkpoint: Checkpoint, models: Path, name: str, *, half: bool = False, card: str | None = None
) -> Path:
    """`export_networks` of a training run."""
    jepa, summary = checkpoint.jepa, checkpoint.summary
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
        networks, checkpoint.schema, about, models, name, statistics=checkpoint.statistics, half=half, card=card
    )


def export_networks(
    networks: Networks,
    schema: Schema,
    known: Mapping[str, Any],
    models: Path,
    name: str,
    *,
    statistics: Statistics | None = None,
    half: bool = False,
    card: str | None = None,
) -> Path:
    """Writes `<models>/<name>/<next version>/` and returns it; ValueError if a graph differs from PyTorch.

    `known` is what bundle.json says beside what the networks tell themselves. `half` stores the weights as float16,
    half the size; what the graphs compute stays float32, and the PyTorch networks take the rounded weights too, so
    parity holds. `card` becomes README.md.
    """
    if half:
        for network in networks:
            for parameter in network.parameters():
                parameter.data = parameter.data.half().float()
    config = networks.context_encoder.config
    golden_inputs = _golden_inputs(config, schema, statistics)
    about = {
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
        **known,
    }
    if statistics is not None:
        about["statistics"] = {
            key: [float(f"{v:.7g}") for v in statistics[key]] for key in ("mean", "std", "min", "max")
        }
    with writing_bundle(models, name, about) as folder:
        encoders = {
            "context": ServedEncoder(networks.encoding, networks.context_encoder, schema).eval(),
            "target": ServedEncoder(networks.encoding, networks.target_encoder, schema).eval(),
        }
        golden = dict(golden_inputs)
        for role, encoder in encoders.items():
            inputs = {"features": golden_inputs["features"]}
            golden[f"{role}_embedding"] = _export(encoder, inputs, "embedding", folder / f"{role}_encoder.onnx", half)
        asked = {"context": golden["context_embedding"]} | {k: golden_inputs[k] for k in ("targets", "horizon")}
        golden["prediction"] = _export(
            ServedPredictor(networks.predictor).eval(), asked, "prediction", folder / "predictor.onnx", half
        )
        np.savez(folder / "golden.npz", **golden)  # type: ignore[arg-type]
        if card is not None:
            (folder / "README.md").write_text(card)
    return models / name / str(next_version(models, name) - 1)


def _golden_inputs(config: Config, schema: Schema, statistics: Statistics | None) -> Arrays:
    """Rows drawn around the training statistics (a standard normal where there are none), every third with a hidden
    group, and questions to the predictor."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(GOLDEN_ROWS, schema.input_dim)).astype(np.float32)
    if statistics is not None:
        drawn = statistics["mean"] + statistics["std"] * features
        features = np.clip(drawn, statistics["min"], statistics["max"])
    if len(schema.groups) > 1:
        for row in range(0, GOLDEN_ROWS, 3):
            group = schema.groups[row % len(schema.groups)]
            features[row, group.start : group.stop] = np.nan
    targets = rng.random((GOLDEN_ROWS, len(config.patches))) < 0.5
    targets[np.arange(GOLDEN_ROWS), rng.integers(len(config.patches), size=GOLDEN_ROWS)] = True
    horizon = rng.choice(config.horizons, GOLDEN_ROWS)
    return {
        "features": features,
        "targets": targets.astype(np.float32),
        "horizon": horizon.astype(np.float32),
    }


def _export(network: nn.Module, inputs: Arrays, output: str, path: Path, half: bool) -> NDArray[np.float32]:
    """Writes one graph, checks it at several batch sizes, and returns PyTorch's answer to `inputs`."""
    example = tuple(torch.from_numpy(values) for values in inputs.values())
    # It names operators that we don't use, one line each.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch 2.13 deprecates a class that its own exporter still uses, and inputs sharing one batch are meant to.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        warnings.filterwarnings("ignore", message="# The axis name: batch", category=UserWarning)
        program = torch.onnx.export(
            network,
            example,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple({0: "batch"} for _ in inputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    graph = program.model_proto
    _strip_traces(graph)
    if half:
        _store_half(graph)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)
    _check_parity(network, inputs, path)
    with torch.inference_mode():
        answer: NDArray[np.float32] = network(*example).numpy()
    return answer


def _strip_traces(graph: onnx.ModelProto) -> None:
    """Drops which line of which source each node came from: heavier than a small network, and it names folders."""
    for part in (
        *graph.graph.node,
        *graph.graph.value_info,
        *graph.graph.input,
        *graph.graph.output,
        graph.graph,
    ):
        del part.metadata_props[:]
        part.doc_string = ""


def _store_half(graph: onnx.ModelProto) -> None:
    """Keeps the rounded weights as float16 with a Cast before use, which ONNX Runtime folds away while it loads.

    Only what loses nothing is kept so: means and edges of the feature encoding are not weights, and were not rounded.
    """
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
        with torch.inference_mode():
            expected = network(*(torch.from_numpy(values) for values in fed.values())).numpy()
        answered = session.run(None, fed)[0]
        # Rounding is relative to the numbers that were added up, which an embedding's size tells, not each element's.
        size = max(1.0, float(np.sqrt(np.square(expected).mean())))
        if not np.allclose(answered, expected, atol=ATOL * size, rtol=RTOL):
            worst = float(np.abs(answered - expected).max())
            raise ValueError(f"{path.name} differs from PyTorch by {worst:.2e} at batch {batch}; it is not written")
