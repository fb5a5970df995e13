"""int8 graphs beside the float32 ones, and what they cost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

Arrays = dict[str, NDArray[np.float32]]

INPUTS = {
    "context_encoder": ("features",),
    "target_encoder": ("features",),
    "predictor": ("context", "targets", "horizon"),
}
GOLDEN = {"context_encoder": "context_embedding", "target_encoder": "target_embedding", "predictor": "prediction"}
ROWS_A_RUN = 256


def write_int8(folder: Path, fitted: Arrays, judged: Arrays, golden: Arrays) -> dict[str, Any]:
    """Writes the int8 variants of a bundle's graphs, fitted to the features, targets and horizon `fitted`, and returns
    how far they are from float32 on those `judged` and on the golden rows."""
    fitted = fitted | {"context": run(folder / "context_encoder.onnx", {"features": fitted["features"]})}
    for graph, names in INPUTS.items():
        quantise(folder / f"{graph}.onnx", {name: fitted[name] for name in names}, folder / f"{graph}.int8.onnx")
    pairs = [*zip(_answers(folder, judged, ""), _answers(folder, judged, ".int8"), strict=True)]
    golden = golden | {"context": golden["context_embedding"]}
    golden_cosine = min(
        least_cosine(run(folder / f"{graph}.int8.onnx", {name: golden[name] for name in names}), golden[GOLDEN[graph]])
        for graph, names in INPUTS.items()
    )
    figures = {
        "noise": max(noise(a, b) for a, b in pairs),
        "least_cosine": min(least_cosine(a, b) for a, b in pairs),
        "largest_difference": max(float(np.abs(a - b).max()) for a, b in pairs),
        "golden_cosine": golden_cosine,
    }
    return {"rows": len(judged["features"]), **{name: float(f"{value:.6g}") for name, value in figures.items()}}


def noise(float32: NDArray[np.float32], int8: NDArray[np.float32]) -> float:
    """[n, D] twice → the variance of the difference over that of the embedding (1 − R²)."""
    return float((float32 - int8).var(0).sum() / max(float(float32.var(0).sum()), 1e-12))


def least_cosine(float32: NDArray[np.float32], int8: NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(float32, axis=1) * np.linalg.norm(int8, axis=1)
    return float(((float32 * int8).sum(1) / np.maximum(lengths, 1e-12)).min())


def run(graph: Path, inputs: Arrays) -> NDArray[np.float32]:
    """The graph's answer to arrays [n, …], alike in n → [n, D]."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, part)[0] for part in _parts(inputs)])


def quantise(float32: Path, inputs: Arrays, int8: Path) -> None:
    """Writes the int8 variant of a graph: the product of each layer, weights by output channel.

    Activations are rounded within the ranges that `inputs` [n, …] span, fixed here: found anew in each batch, as
    dynamic quantisation does, they would make a frame's answer depend on whoever shares its batch. Weights are signed
    and activations are not, which is what VNNI multiplies. Columns are turned into inputs without any such product.
    """
    graph = onnx.load(float32)
    # Says that shapes are inferred and constants folded; the exporter did both.
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
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
    )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds some rows at a time: all at once, each activation of each token would lie in memory."""

    def __init__(self, inputs: Arrays) -> None:
        self._parts = _parts(inputs)

    def get_next(self) -> Arrays | None:
        return next(self._parts, None)


def _parts(inputs: Arrays) -> Iterator[Arrays]:
    rows = len(next(iter(inputs.values())))
    for start in range(0, rows, ROWS_A_RUN):
        yield {name: values[start : start + ROWS_A_RUN] for name, values in inputs.items()}


def _answers(folder: Path, asked: Arrays, variant: str) -> Iterator[NDArray[np.float32]]:
    """Of the three graphs; the predictor hears the context encoder of its own format, as when served."""
    context = run(folder / f"context_encoder{variant}.onnx", {"features": asked["features"]})
    yield context
    yield run(folder / f"target_encoder{variant}.onnx", {"features": asked["features"]})
    question = {"context": context, "targets": asked["targets"], "horizon": asked["horizon"]}
    yield run(folder / f"predictor{variant}.onnx", question)
