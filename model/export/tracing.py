"""A served network → its ONNX graph, by PyTorch's exporter, which takes seconds, or from the graph of one alike."""

import logging
import warnings

import onnx
import torch
from torch import Tensor, nn

from model.export.int8 import Arrays

OPSET = 23  # the first with attention as one operator


def trace(served: nn.Module, inputs: Arrays, output: str) -> onnx.ModelProto:
    """The graph of a network with these inputs, whose batch is free."""
    # It names operators that we don't use, one line each.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch 2.13 deprecates a class that its own exporter still uses, and inputs sharing one batch are meant to.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        warnings.filterwarnings("ignore", message="# The axis name: batch", category=UserWarning)
        program = torch.onnx.export(
            served,
            tuple(torch.from_numpy(values) for values in inputs.values()),
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
    onnx.checker.check_model(graph, full_check=True)
    return graph


def refill(graph: onnx.ModelProto, traced: nn.Module, served: nn.Module) -> bool:
    """Replaces the weights of the network that the graph was traced from by those of one that differs in nothing else.

    False, and nothing changed, where the graph does not hold them one by one: the exporter drops a weight that equals
    another, and computes ahead what depends on weights alone.
    """
    before, after = traced.state_dict(), served.state_dict()
    held = {weight.name: weight for weight in graph.graph.initializer}
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    dropped = [value for name, value in before.items() if name not in held]
    if any(name not in held or any(_equal(before[name], value) for value in dropped) for name in changed):
        return False
    for name in changed:
        held[name].CopyFrom(onnx.numpy_helper.from_array(after[name].numpy(), name))
    return True


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


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
