import json

import numpy as np
import onnx
import pytest

from bundle.parity import distance
from model.export.int8 import FLOAT32_LAYER, least_cosine, noise, run
from tests.model.conftest import ROWS
from tests.support.processor import needs_int8_dot_products

GRAPHS = ("context_encoder", "target_encoder", "predictor")


def questions(folder, rows):
    """The inputs of each graph for these rows."""
    context = run(folder / "context_encoder.onnx", {"features": rows})
    patches = np.load(folder / "golden.npz")["targets"].shape[1]
    asked = {
        "context": context,
        "targets": np.ones((len(rows), patches), np.float32),
        "horizon": np.full(len(rows), 6, np.float32),
    }
    return {"context_encoder": {"features": rows}, "target_encoder": {"features": rows}, "predictor": asked}


def test_layers_but_the_predictors_last_and_nothing_else_multiply_8_bits(exported):
    _, folder = exported
    for graph in GRAPHS:
        float32, int8 = (onnx.load(folder / f"{graph}{variant}.onnx").graph for variant in ("", ".int8"))
        stored = {weight.name: weight.data_type for weight in int8.initializer}
        rounding = [node for node in int8.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        dequantised = {node.output[0]: node.input[0] for node in rounding if node.op_type == "DequantizeLinear"}
        others = [node for node in int8.node if node not in rounding]
        assert sorted(node.op_type for node in others) == sorted(node.op_type for node in float32.node)
        for node in others:
            if node.op_type in ("Reshape", "Slice"):  # on the way to a layer
                continue
            is_layer = node.op_type == "Gemm" and FLOAT32_LAYER not in node.input
            assert all((name in dequantised) == is_layer for name in node.input), node.name
            if is_layer:
                assert stored[dequantised[node.input[1]]] == onnx.TensorProto.INT8


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_rows_int8_answer_does_not_depend_on_its_company(exported, graph):
    _, folder = exported
    asked = questions(folder, np.concatenate([ROWS[:6], ROWS[:2] * 1e4]))[graph]
    together = run(folder / f"{graph}.int8.onnx", asked)
    for row in range(6):
        alone = run(folder / f"{graph}.int8.onnx", {name: values[row : row + 1] for name, values in asked.items()})
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_the_cost_in_bundle_json_is_that_of_the_graphs(exported):
    _, folder = exported
    cost = json.loads((folder / "bundle.json").read_text())["precision"]["int8"]
    judged = questions(folder, ROWS[len(ROWS) // 2 :])
    judged_int8 = dict(judged)
    judged_int8["predictor"] = judged["predictor"] | {
        "context": run(folder / "context_encoder.int8.onnx", judged["context_encoder"])
    }
    float32 = [run(folder / f"{graph}.onnx", judged[graph]) for graph in GRAPHS]
    int8 = [run(folder / f"{graph}.int8.onnx", judged_int8[graph]) for graph in GRAPHS]
    assert cost["rows"] == len(ROWS) // 2
    assert cost["largest_difference"] == pytest.approx(
        max(np.abs(a - b).max() for a, b in zip(float32, int8, strict=True)), rel=1e-3
    )
    assert cost["least_cosine"] == pytest.approx(
        min(least_cosine(a, b) for a, b in zip(float32, int8, strict=True)), abs=1e-5
    )
    assert cost["noise"] == pytest.approx(max(noise(a, b) for a, b in zip(float32, int8, strict=True)), rel=1e-3)
    assert cost["noise"] > 0


def test_bundle_json_says_how_far_int8_is_from_the_golden_rows(exported):
    _, folder = exported
    parity = json.loads((folder / "bundle.json").read_text())["parity"]
    golden = dict(np.load(folder / "golden.npz"))
    asked = {"features": golden["features"]}
    question = {"context": golden["context_embedding"], "targets": golden["targets"], "horizon": golden["horizon"]}
    for graph, inputs, right in (
        ("context_encoder", asked, "context_embedding"),
        ("target_encoder", asked, "target_embedding"),
        ("predictor", question, "prediction"),
    ):
        found = distance(run(folder / f"{graph}.int8.onnx", inputs), golden[right])
        assert parity[graph]["int8"] == pytest.approx(found, rel=0.05)
        assert parity[graph]["int8"] > 100 * parity[graph]["float32"]


@needs_int8_dot_products
def test_the_cost_is_small_enough_for_the_graphs_to_be_served(exported):
    _, folder = exported
    cost = json.loads((folder / "bundle.json").read_text())["precision"]["int8"]
    assert cost["noise"] < 0.1
    parity = json.loads((folder / "bundle.json").read_text())["parity"]
    assert max(parity[graph]["int8"] for graph in GRAPHS) < 0.4


def test_noise_is_what_an_independent_error_adds_to_the_variance():
    rng = np.random.default_rng(0)
    rows = rng.normal(5, 2, (20_000, 8)).astype(np.float32)
    disturbed = rows + rng.normal(0, 0.2, rows.shape).astype(np.float32)
    assert noise(rows, disturbed) == pytest.approx(0.01, rel=0.05)
    assert noise(rows, rows) == 0
    # The cosine hardly changes, because the rows share a large mean.
    assert least_cosine(rows, disturbed) > 0.99


def test_the_least_cosine_is_that_of_the_worst_row():
    rows = np.array([[1, 0], [0, 2]], np.float32)
    assert least_cosine(rows, np.array([[3, 0], [1, 1]], np.float32)) == pytest.approx(np.sqrt(0.5))
