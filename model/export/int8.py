"""Quantises a bundle's graphs to int8 and measures how far their outputs move."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from bundle.parity import distance

Arrays = dict[str, NDArray[np.float32]]

# Of a predictor that takes actions, these as well.
ACTIONS = "actions"
INPUTS = {
    "context_encoder": ("features",),
    "target_encoder": ("features",),
    "predictor": ("context", "targets", "horizon"),
}
GOLDEN = {"context_encoder": "context_embedding", "target_encoder": "target_embedding", "predictor": "prediction"}
# The predictor's way out stays in float32. It runs once a row, not once a token, so 8 bits hardly make it faster; and
# nothing after it evens out what it rounds, a quarter of the predictor's noise (docs/lab/formats.md).
FLOAT32_LAYER = "project_back.weight"
BATCH_ROWS = 256


def write_int8(folder: Path, fitted: Arrays, judged: Arrays) -> dict[str, Any]:
    """Writes the int8 variants of a bundle's graphs and returns how far their outputs are from float32.

    `fitted` and `judged` hold features, targets, horizon and, where the predictor takes them, actions: `fitted`
    calibrates the ranges of activations, and the distance is measured on `judged`.
    """
    for graph in INPUTS:
        write_one_int8(folder, graph, fitted)
    return int8_cost(folder, judged)


def write_one_int8(folder: Path, graph: str, fitted: Arrays) -> None:
    """Writes the int8 variant of one graph, fitted as by `write_int8`."""
    if graph == "predictor":
        fitted = fitted | {"context": run(folder / "context_encoder.onnx", {"features": fitted["features"]})}
    quantise(folder / f"{graph}.onnx", _given(graph, fitted), folder / f"{graph}.int8.onnx")


def int8_cost(folder: Path, judged: Arrays) -> dict[str, Any]:
    """How far the outputs of a bundle's int8 graphs are from float32 on rows as those that `write_int8` judges by."""
    pairs = [*zip(_outputs(folder, judged, ""), _outputs(folder, judged, ".int8"), strict=True)]
    figures = {
        "noise": max(noise(a, b) for a, b in pairs),
        "least_cosine": min(least_cosine(a, b) for a, b in pairs),
        "largest_difference": max(float(np.abs(a - b).max()) for a, b in pairs),
    }
    return {"rows": len(judged["features"]), **{name: float(f"{value:.6g}") for name, value in figures.items()}}


def golden_distances(folder: Path, golden: Arrays) -> dict[str, float]:
    """How far the answers of each int8 graph to the golden rows are from the right ones."""
    asked = golden | {"context": golden["context_embedding"]}
    return {
        graph: distance(run(folder / f"{graph}.int8.onnx", _given(graph, asked)), golden[GOLDEN[graph]])
        for graph in INPUTS
    }


def noise(float32: NDArray[np.float32], int8: NDArray[np.float32]) -> float:
    """The variance of the difference between two outputs [n, D], as a share of the variance of float32 (1 − R²)."""
    return float((float32 - int8).var(0).sum() / max(float(float32.var(0).sum()), 1e-12))


def least_cosine(float32: NDArray[np.float32], int8: NDArray[np.float32]) -> float:
    """The smallest cosine similarity between corresponding rows of two outputs [n, D]."""
    lengths = np.linalg.norm(float32, axis=1) * np.linalg.norm(int8, axis=1)
    return float(((float32 * int8).sum(1) / np.maximum(lengths, 1e-12)).min())


def run(graph: Path, inputs: Arrays) -> NDArray[np.float32]:
    """Runs a graph on arrays [n, …] that all have the same n → [n, D]."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, part)[0] for part in _parts(inputs)])


def quantise(float32: Path, inputs: Arrays, int8: Path) -> None:
    """Writes the int8 variant of a graph, in which every layer's matrix product is quantised.

    The ranges of activations are calibrated on `inputs` [n, …] and then fixed. Dynamic quantisation would find them
    anew in each batch, and a frame's output would depend on the other frames in its batch. Weights are signed and
    quantised per output channel, activations are unsigned: the combination that VNNI instructions multiply. Turning
    columns into inputs involves no matrix product and stays in float32, as does FLOAT32_LAYER.
    """
    graph = onnx.load(float32)
    kept = [node.name for node in graph.graph.node if FLOAT32_LAYER in node.input]
    # The exporter already inferred shapes and folded constants; this property tells the quantiser so.
    onnx.helper.set_model_props(graph, {"onnx.quant.pre_process": "onnxruntime.quant"})
    quantize_static(
        graph,
        int8,
        _Reader(inputs),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Gemm"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=kept,
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
    )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds calibration rows in batches, because the quantiser keeps every activation of a batch in memory."""

    def __init__(self, inputs: Arrays) -> None:
        self._parts = _parts(inputs)

    def get_next(self) -> Arrays | None:
        return next(self._parts, None)


def _parts(inputs: Arrays) -> Iterator[Arrays]:
    rows = len(next(iter(inputs.values())))
    for start in range(0, rows, BATCH_ROWS):
        yield {name: values[start : start + BATCH_ROWS] for name, values in inputs.items()}


def _outputs(folder: Path, inputs: Arrays, variant: str) -> Iterator[NDArray[np.float32]]:
    """Yields the outputs of the three graphs; as in the service, the predictor's context has the same precision."""
    context = run(folder / f"context_encoder{variant}.onnx", {"features": inputs["features"]})
    yield context
    yield run(folder / f"target_encoder{variant}.onnx", {"features": inputs["features"]})
    yield run(folder / f"predictor{variant}.onnx", _given("predictor", inputs | {"context": context}))


def _given(graph: str, arrays: Arrays) -> Arrays:
    """Those of the arrays that are inputs of the graph."""
    names = INPUTS[graph] + ((ACTIONS,) if graph == "predictor" and ACTIONS in arrays else ())
    return {name: arrays[name] for name in names}
