"""Served networks → their ONNX graphs, by PyTorch's exporter, which takes seconds, or from the graph of one alike."""

import logging
import warnings
from itertools import islice
from typing import NamedTuple

import onnx
import onnx.utils
import torch
from torch import Tensor, nn

from model.export.int8 import Arrays

OPSET = 23  # the first with attention as one operator


class Served(NamedTuple):
    """A network as it is exported, an example of its inputs [n, …] by name, and the name of its output."""

    network: nn.Module
    inputs: Arrays
    output: str


def trace(*served: Served) -> list[onnx.ModelProto]:
    """The graph of each network, whose batch is free; no two may share the name of an input or an output.

    They are exported as one and then taken apart, because each call of the exporter takes a second before it comes to
    the network.
    """
    # It names operators that we don't use, one line each.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    inputs = {name: torch.from_numpy(values) for each in served for name, values in each.inputs.items()}
    with warnings.catch_warnings():
        # torch 2.13 deprecates a class that its own exporter still uses, and inputs sharing one batch are meant to.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        warnings.filterwarnings("ignore", message="# The axis name: batch", category=UserWarning)
        program = torch.onnx.export(
            _SideBySide(served).eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=[each.output for each in served],
            dynamic_shapes=(tuple({0: "batch"} for _ in inputs),),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    # The property serialises the program anew each time it is read.
    whole = program.model_proto
    _strip_traces(whole)
    return [_part(whole, f"networks.{i}.", each) for i, each in enumerate(served)]


class _SideBySide(nn.Module):
    """Networks that share nothing, as one: the inputs and outputs of each, in order."""

    def __init__(self, served: tuple[Served, ...]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(each.network for each in served)
        self.counts = [len(each.inputs) for each in served]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        left = iter(inputs)
        return tuple(network(*islice(left, count)) for network, count in zip(self.networks, self.counts, strict=True))


def _part(whole: onnx.ModelProto, prefix: str, served: Served) -> onnx.ModelProto:
    """The graph of one of the networks, in which its weights have the names that they have in the network."""
    model = onnx.utils.Extractor(whole).extract_model(list(served.inputs), [served.output])
    model.graph.name = served.output
    for weight in model.graph.initializer:
        weight.name = weight.name.removeprefix(prefix)
    for node in model.graph.node:
        node.input[:] = [name.removeprefix(prefix) for name in node.input]
    for value in model.graph.value_info:
        value.name = value.name.removeprefix(prefix)
    onnx.checker.check_model(model, full_check=True)
    return model


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
