import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from model.export.graphs import ServedEncoder
from model.export.tracing import refill
from tests.model.conftest import ROWS, SCHEMA


def test_a_graph_is_refilled_with_every_weight_of_a_network_of_the_same_shape(exported):
    jepa, folder = exported
    context, target = (
        ServedEncoder(jepa.encoding, encoder, SCHEMA).eval() for encoder in (jepa.context_encoder, jepa.target_encoder)
    )
    rows = ROWS[:16].copy()
    rows[::3, 9] = np.nan
    graph = onnx.load(folder / "context_encoder.onnx")
    assert refill(graph, context, target)
    onnx.checker.check_model(graph, full_check=True)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected, other = (served(torch.from_numpy(rows)).numpy() for served in (target, context))
    np.testing.assert_allclose(session.run(None, {"features": rows})[0], expected, atol=1e-5, rtol=1e-4)
    assert np.abs(expected - other).max() > 0.01


def weights(**values):
    module = torch.nn.Module()
    for name, value in values.items():
        module.register_parameter(name, torch.nn.Parameter(torch.full((2,), value)))
    return module


@pytest.mark.parametrize(
    "served",
    [
        pytest.param({"kept": 2.0, "equal": 1.0, "squared": 3.0}, id="the graph holds it for two"),
        pytest.param({"kept": 1.0, "equal": 2.0, "squared": 3.0}, id="an equal one stands for it"),
        pytest.param({"kept": 1.0, "equal": 1.0, "squared": 4.0}, id="only its square is in the graph"),
    ],
)
def test_a_graph_that_does_not_hold_a_changed_weight_by_itself_is_left_as_it_was(served):
    held = {"kept": np.full(2, 1, np.float32), "val_1": np.full(2, 9, np.float32)}
    initialisers = [onnx.numpy_helper.from_array(value, name) for name, value in held.items()]
    graph = onnx.helper.make_model(onnx.helper.make_graph([], "shifts", [], [], initialisers))
    before = graph.SerializeToString()
    assert not refill(graph, weights(kept=1.0, equal=1.0, squared=3.0), weights(**served))
    assert graph.SerializeToString() == before
