"""Each function that served networks call, as a node; the networks themselves are compared in test_bundle.py."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model.export.graphs import ServedEncoder
from model.export.tracing import OPERATORS, Served, trace
from tests.model.conftest import ROWS, SCHEMA

WIDTH = 6
# No network has it.
ELSEWHERE = torch.ones(WIDTH)


class Calls(nn.Module):
    """Calls one function on x [B, 6], with weights at hand."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.layer = nn.Linear(WIDTH, 4)
        self.norm = nn.LayerNorm(WIDTH)
        self.row = nn.Parameter(torch.randn(WIDTH))
        self.order = nn.Buffer(torch.tensor([5, 0, 0, 3]))

    def forward(self, x):
        return self.function(self, x)


def floats(x):
    return x.to(torch.float32)


FUNCTIONS = {
    "abs": lambda _, x: x.abs(),
    "add": lambda own, x: x + own.row,
    "add a number": lambda _, x: x + 2,
    "and": lambda _, x: floats((x > 0) & (x < 1)),
    "cat": lambda own, x: torch.cat([x, x + own.row, x], dim=1),
    "div": lambda _, x: x / 3,
    "eq": lambda own, x: floats(x == own.row),
    "expand": lambda _, x: (x[:, None, None].expand(-1, -1, 3, -1) * 2).flatten(1),
    "flatten the batch": lambda _, x: (x.view(-1, 2, 3).flatten(0, 1) * 2).view(-1, 6),
    "gelu": lambda _, x: F.gelu(x),
    "ge": lambda own, x: floats(x <= own.row),
    "gt": lambda _, x: floats(x > 0),
    "index_select": lambda own, x: x.index_select(1, own.order),
    "invert": lambda _, x: floats(~(x > 0)),
    "isnan": lambda _, x: floats((x / (x > 0).to(x.dtype) * 0).isnan()),
    "layer_norm": lambda own, x: own.norm(x),
    "le": lambda own, x: floats(own.row <= x),
    "linear": lambda own, x: own.layer(x),
    "lt": lambda own, x: floats(own.row < x),
    "matmul": lambda own, x: x @ own.layer.weight.T,
    "maximum": lambda own, x: torch.maximum(x, own.row),
    "minimum": lambda own, x: torch.minimum(x, own.row),
    "mul": lambda own, x: x * own.row,
    "new axes": lambda own, x: (x[:, None, :, None] + own.row).flatten(1),
    "pad": lambda _, x: F.pad(x, (1, 2), value=7.0),
    "relu": lambda _, x: F.relu(x),
    "slices": lambda _, x: x[:, 1:4] + x[:, :3] + x[:, 3:],
    "stack": lambda own, x: torch.stack([x, x + own.row], dim=1).flatten(1),
    "sub": lambda own, x: x - own.row,
    "sum": lambda _, x: x.view(-1, 2, 3).sum(1),
    "sum of one column": lambda _, x: x.sum(1, keepdim=True) * x,
    "transpose": lambda own, x: (x.T * 2).T + own.row,
    "two slices": lambda _, x: x.view(-1, 2, 3)[:, 1:, :2].flatten(1),
    "where": lambda own, x: torch.where(x > 0, own.row, 0.0),
    "where it is no number": lambda _, x: torch.where(x > 0, -np.inf, x).minimum(torch.abs(x)),
}


def answers(graph, x):
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def rows(count, seed):
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_node_computes_what_the_function_does_for_a_batch_of_any_size(name):
    network = Calls(FUNCTIONS[name])
    graph = trace(Served(network, {"x": rows(4, 0)}, "y"))
    assert [output.name for output in graph.graph.output] == ["y"]
    for count in (1, 4, 9):
        x = rows(count, 1)
        x[:, 1] = network.row[1].item()
        with torch.no_grad():
            expected = network(torch.from_numpy(x))
        np.testing.assert_allclose(answers(graph, x), expected, atol=1e-6)


def test_each_operator_is_tried():
    assert OPERATORS.keys() <= FUNCTIONS.keys()


def test_weights_keep_their_names_and_what_is_not_used_is_left_out():
    graph = trace(Served(Calls(lambda own, x: own.layer(x + own.row)), {"x": rows(4, 0)}, "y"))
    assert {weight.name for weight in graph.graph.initializer} == {"layer.weight", "layer.bias", "row"}


def test_networks_that_differ_in_their_weights_have_the_same_nodes(exported):
    jepa, _ = exported
    rows = ROWS[:16].copy()
    rows[::3, 9] = np.nan
    context, target = (
        trace(Served(ServedEncoder(jepa.encoding, encoder, SCHEMA).eval(), {"features": rows}, "embedding"))
        for encoder in (jepa.context_encoder, jepa.target_encoder)
    )
    assert context.graph.node == target.graph.node
    assert context.graph.initializer != target.graph.initializer


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda _, x: torch.cumsum(x, 1), "'cumsum' has no node in model.export.tracing"),
        (lambda _, x: x * float(x.sum(1)), "'float' reads the values of a tensor"),
        (lambda _, x: x if x.sum(1) > 0 else -x, "'bool' reads the values of a tensor"),
        (lambda _, x: x + ELSEWHERE, r"a tensor of shape \(6,\) is no weight of the network"),
    ],
)
def test_what_a_graph_cannot_say_is_refused(function, said):
    with pytest.raises(NotImplementedError, match=said):
        trace(Served(Calls(function), {"x": rows(1, 0)}, "y"))
