"""Small real bundles, made without PyTorch: a tiny network in ONNX, and the same network in NumPy to check it."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bundle.schema import schema_hash

Array = NDArray[np.float32]
OPSET = 20
# Kind and outputs of the heads of a tiny model by name.
HEADS = {
    "airborne": ("binary", ["airborne"]),
    "mood": ("classes", ["mood=calm", "mood=tense", "mood=wild"]),
    "damage": ("binary", ["damage"]),
    "speed": ("number", ["speed"]),
}
COST = {"rows": 100, "noise": 1e-4, "least_cosine": 0.999, "largest_difference": 0.05}
GRAPHS = ("context_encoder", "target_encoder", "predictor")
PARITY = {graph: {"pytorch": 2e-7, "float32": 2e-7, "int8": 0.01} for graph in GRAPHS}


@dataclass(frozen=True)
class TinyModel:
    """A tiny network's options and weights, from which the ONNX graphs and `encode`/`predict` compute the same."""

    name: str = "tiny"
    version: int = 1
    # Names and widths.
    groups: tuple[tuple[str, int], ...] = (("own", 3), ("opponent", 5), ("stage", 2))
    # Of the columns; empty: own_0, own_1, …
    names: tuple[str, ...] = ()
    patches: tuple[tuple[str, ...], ...] = (("own",), ("opponent", "stage"))
    horizons: tuple[int, ...] = (6, 15)
    embed_dim: int = 4
    seed: int = 0
    quantiles: bool = True
    # If not 0, int8 graphs are written too, with weights rounded to this many steps on either side of 0.
    int8_steps: int = 0
    # Whether it has HEADS, and says how far from training a frame is.
    heads: bool = False
    # The numbers of the player's own inputs that its predictor takes, and of how many frames.
    actions: tuple[str, ...] = ()
    max_actions: int = 4
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def input_dim(self) -> int:
        return sum(width for _, width in self.groups)

    def weights(self, precision: str = "float32") -> dict[str, Array]:
        rng = np.random.default_rng(self.seed)
        shapes = {
            "mean": (self.input_dim,),
            "context_w": (self.input_dim, self.embed_dim),
            "context_hidden": (self.input_dim, self.embed_dim),
            "target_w": (self.input_dim, self.embed_dim),
            "target_hidden": (self.input_dim, self.embed_dim),
            "predictor_w": (self.embed_dim, self.embed_dim),
            "predictor_patch": (len(self.patches), self.embed_dim),
            "predictor_horizon": (1, self.embed_dim),
        }
        if self.actions:
            shapes["predictor_actions"] = (self.max_actions * len(self.actions), self.embed_dim)
        drawn: dict[str, Array] = {
            name: rng.normal(size=shape).astype(np.float32) / np.float32(3) for name, shape in shapes.items()
        }
        if precision == "float32":
            return drawn
        return {name: _rounded(values, self.int8_steps) for name, values in drawn.items()}

    def rows(self, count: int, seed: int = 0) -> Array:
        """[count, input_dim] finite features."""
        return np.random.default_rng(seed).normal(size=(count, self.input_dim)).astype(np.float32)

    def encode(self, features: Array, encoder: str = "target") -> Array:
        """[B, input_dim], NaN = hidden → [B, embed_dim], column by column."""
        w = self.weights()
        total = np.zeros((len(features), self.embed_dim))
        for column in range(self.input_dim):
            values = features[:, column].astype(np.float64)
            for row, value in enumerate(values):
                if np.isnan(value):
                    total[row] += w[f"{encoder}_hidden"][column]
                else:
                    total[row] += (value - w["mean"][column]) * w[f"{encoder}_w"][column]
        return np.tanh(total).astype(np.float32)

    def predict(self, context: Array, targets: Array, horizon: Array, actions: Array | None = None) -> Array:
        """[B, embed_dim], [B, patches], [B] and perhaps [B, n, actions] → [B, embed_dim], row by row."""
        w = self.weights()
        out = [
            c @ w["predictor_w"] + t @ w["predictor_patch"] + h / 60 * w["predictor_horizon"][0]
            for c, t, h in zip(context, targets, horizon, strict=True)
        ]
        for row, inputs in enumerate(() if actions is None else actions):
            for number, weight in zip(inputs.ravel(), w["predictor_actions"], strict=False):
                # One that is not known adds nothing.
                if not np.isnan(number):
                    out[row] = out[row] + number * weight
        predicted: Array = np.tanh(np.array(out)).astype(np.float32)
        return predicted

    def head_weights(self) -> dict[str, Array]:
        rng = np.random.default_rng(self.seed + 3)
        outputs = sum(len(outputs) for _, outputs in HEADS.values())
        shapes = {"weights": (self.embed_dim, outputs), "biases": (outputs,)}
        drawn = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        drawn["calibration"] = rng.uniform(0.5, 1.5, (1 + len(self.horizons), outputs, 4))
        return {name: values.astype(np.float32) for name, values in drawn.items()}

    def novelty(self) -> dict[str, Array]:
        return {
            "mean": np.full(self.embed_dim, 0.25, np.float32),
            "whitening": np.diag(np.arange(1, self.embed_dim + 1)).astype(np.float32),
            "quantiles": np.linspace(0.5, 4, 101, dtype=np.float32),
        }

    def values(self, embeddings: Array, horizon_index: int = 0) -> dict[str, Array]:
        """[B, embed_dim] → what each output of HEADS answers, [B], number by number."""
        w = self.head_weights()
        answers: dict[str, Array] = {}
        column = 0
        for kind, outputs in HEADS.values():
            scores = []
            for _ in outputs:
                scale, shift, bend, knee = w["calibration"][horizon_index, column].astype(np.float64)
                score = scale * (embeddings @ w["weights"][:, column] + w["biases"][column]) + shift
                scores.append(score + bend * np.log1p(np.exp(score + knee)) if kind == "binary" else score)
                column += 1
            for output, score in zip(outputs, scores, strict=True):
                if kind == "classes":
                    score = np.exp(score) / sum(np.exp(other) for other in scores)
                answers[output] = (1 / (1 + np.exp(-score)) if kind == "binary" else score).astype(np.float32)
        return answers

    def write(self, models: Path) -> Path:
        """The bundle's folder `<models>/<name>/<version>`."""
        folder = models / self.name / str(self.version)
        folder.mkdir(parents=True)
        for precision, suffix in (("float32", ""), ("int8", ".int8"))[: 1 + bool(self.int8_steps)]:
            for encoder in ("context", "target"):
                onnx.save(self._encoder_graph(encoder, precision), folder / f"{encoder}_encoder{suffix}.onnx")
            onnx.save(self._predictor_graph(precision), folder / f"predictor{suffix}.onnx")
        # NumPy's stub takes every keyword for its flag.
        np.savez(folder / "golden.npz", **self._golden())  # type: ignore[arg-type]
        if self.heads:
            np.savez(folder / "heads.npz", **self.head_weights())  # type: ignore[arg-type]
            np.savez(folder / "novelty.npz", **self.novelty())  # type: ignore[arg-type]
        write_manifest(folder, self.manifest())
        return folder

    def manifest(self) -> dict[str, Any]:
        edges = np.cumsum([0, *(width for _, width in self.groups)]).tolist()
        schema = {
            "names": list(self.names) or [f"{name}_{i}" for name, width in self.groups for i in range(width)],
            "groups": [
                {"name": name, "start": start, "stop": stop}
                for (name, _), start, stop in zip(self.groups, edges[:-1], edges[1:], strict=True)
            ],
        }
        return {
            "format": 1,
            "name": self.name,
            "version": self.version,
            "created": "2026-11-24T09:00:00Z",
            "input_dim": self.input_dim,
            "embed_dim": self.embed_dim,
            "schema": schema,
            "schema_hash": schema_hash(schema),
            "patches": [{"name": "+".join(groups), "groups": list(groups)} for groups in self.patches],
            "horizons": list(self.horizons),
            "options": {"embed_dim": self.embed_dim},
            "training": {"rows": 100, "steps": 10, "metrics": {"probe_r2": 0.5}},
            "loss_quantiles": {str(self.horizons[0]): np.linspace(0, 1, 101).tolist()} if self.quantiles else {},
            "statistics": {"mean": [0.0] * self.input_dim, "std": [1.0] * self.input_dim},
            "licence": "Apache-2.0",
            "data": {"source": "made up", "licence": "CC0-1.0"},
            "precision": {"int8": COST} if self.int8_steps else {},
            "heads": [
                {"name": name, "kind": kind, "outputs": outputs, "labels": "made up"}
                for name, (kind, outputs) in HEADS.items()
                if self.heads
            ],
            "parity": PARITY,
            **({"actions": list(self.actions), "max_actions": self.max_actions} if self.actions else {}),
            **self.extra,
        }

    def _golden(self) -> dict[str, Array]:
        features = self.rows(5, seed=1)
        features[3:, : self.groups[0][1]] = np.nan
        rng = np.random.default_rng(2)
        targets = rng.integers(0, 2, size=(5, len(self.patches))).astype(np.float32)
        targets[:, 0] = 1
        horizon = rng.choice(self.horizons, size=5).astype(np.float32)
        context = self.encode(features, "context")
        shape = (5, self.max_actions, len(self.actions))
        actions = np.where(rng.random(shape) < 0.5, rng.normal(size=shape), np.nan).astype(np.float32)
        return {
            "features": features,
            "context_embedding": context,
            "target_embedding": self.encode(features, "target"),
            "targets": targets,
            "horizon": horizon,
            "prediction": self.predict(context, targets, horizon, actions if self.actions else None),
            **({"actions": actions} if self.actions else {}),
        }

    def _encoder_graph(self, encoder: str, precision: str) -> onnx.ModelProto:
        w = self.weights(precision)
        weights = {"mean": w["mean"], "w": w[f"{encoder}_w"], "w_hidden": w[f"{encoder}_hidden"]}
        nodes = [
            helper.make_node("IsNaN", ["features"], ["hidden"]),
            helper.make_node("Sub", ["features", "mean"], ["centred"]),
            helper.make_node("Where", ["hidden", "zero", "centred"], ["seen"]),
            helper.make_node("Cast", ["hidden"], ["hidden_float"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["seen", "w"], ["from_seen"]),
            helper.make_node("MatMul", ["hidden_float", "w_hidden"], ["from_hidden"]),
            helper.make_node("Add", ["from_seen", "from_hidden"], ["total"]),
            helper.make_node("Tanh", ["total"], ["embedding"]),
        ]
        return _graph(
            nodes, {"features": [self.input_dim]}, "embedding", self.embed_dim, weights | {"zero": np.float32(0)}
        )

    def _predictor_graph(self, precision: str) -> onnx.ModelProto:
        w = self.weights(precision)
        weights = {"w": w["predictor_w"], "w_patch": w["predictor_patch"], "w_horizon": w["predictor_horizon"] / 60}
        nodes = [
            helper.make_node("MatMul", ["context", "w"], ["from_context"]),
            helper.make_node("MatMul", ["targets", "w_patch"], ["from_targets"]),
            helper.make_node("Unsqueeze", ["horizon", "axis"], ["horizon_column"]),
            helper.make_node("MatMul", ["horizon_column", "w_horizon"], ["from_horizon"]),
            helper.make_node("Sum", ["from_context", "from_targets", "from_horizon"], ["total"]),
            helper.make_node("Tanh", ["total"], ["prediction"]),
        ]
        inputs = {"context": [self.embed_dim], "targets": [len(self.patches)], "horizon": []}
        weights |= {"axis": np.array([1])}
        if self.actions:
            inputs["actions"] = [self.max_actions, len(self.actions)]
            weights |= {"zero": np.float32(0), "w_actions": w["predictor_actions"]}
            nodes[-2].input.append("from_actions")
            nodes = [
                helper.make_node("Flatten", ["actions"], ["numbers"]),
                helper.make_node("IsNaN", ["numbers"], ["unknown"]),
                helper.make_node("Where", ["unknown", "zero", "numbers"], ["known"]),
                helper.make_node("MatMul", ["known", "w_actions"], ["from_actions"]),
                *nodes,
            ]
        return _graph(nodes, inputs, "prediction", self.embed_dim, weights)


def _rounded(weights: Array, steps: int) -> Array:
    step = np.abs(weights).max() / steps
    rounded: Array = (np.round(weights / step) * step).astype(np.float32)
    return rounded


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes `bundle.json` with the sizes and hashes of the files in the folder."""
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name != "bundle.json"
    }
    (folder / "bundle.json").write_text(json.dumps({**manifest, "files": files}))


def _graph(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[int]], output: str, width: int, weights: dict[str, Any]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *dims]) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model
