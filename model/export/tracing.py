"""Served networks → their ONNX graphs: each function of PyTorch that a network calls becomes a node.

These networks call some thirty functions, so that an export takes a fraction of a second. PyTorch's own exporter knows
all there are, and takes some seconds to write the same nodes.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model.export.int8 import Arrays

OPSET = 23  # the first with attention as one operator
IR_VERSION = 10
# Functions for which ONNX has an operator with the same operands.
OPERATORS = {
    "abs": "Abs",
    "add": "Add",
    "and": "And",
    "div": "Div",
    "eq": "Equal",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "invert": "Not",
    "isnan": "IsNaN",
    "le": "LessOrEqual",
    "lt": "Less",
    "matmul": "MatMul",
    "maximum": "Max",
    "minimum": "Min",
    "mul": "Mul",
    "relu": "Relu",
    "sub": "Sub",
    "where": "Where",
}
# What a network may ask of a tensor, as the answer does not depend on its values.
QUESTIONS = {"dtype", "len", "shape"}
# The last index of a slice that has no end.
END = np.iinfo(np.int64).max

# A tensor that the network has met, a constant, or the name of an output.
Operand = Tensor | NDArray[Any] | str


class Served(NamedTuple):
    """A network as it is exported, an example of its inputs [n, …] by name, and the name of its output."""

    network: nn.Module
    inputs: Arrays
    output: str


def trace(served: Served) -> onnx.ModelProto:
    """The graph of a network, whose weights keep their names and whose batch is free; NotImplementedError if the
    network calls a function that has no node here."""
    inputs = {name: torch.from_numpy(values) for name, values in served.inputs.items()}
    recorder = _Recorder(served.network, inputs)
    with torch.no_grad(), recorder:
        answer = served.network(*inputs.values())
    recorder.nodes[-1].output[0] = served.output
    graph = helper.make_graph(
        recorder.nodes,
        served.output,
        [_described(name, values) for name, values in inputs.items()],
        [_described(served.output, answer)],
        [numpy_helper.from_array(values, name) for name, values in recorder.held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    # The quantiser reads the type of each value.
    model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def _described(name: str, values: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *values.shape[1:]])


def _name(function: Callable[..., Any]) -> str:
    """A function's name without underscores, that of the attribute which it gets, or of the operator which it calls."""
    if function.__name__ == "__get__":
        function = function.__self__  # type: ignore[attr-defined]
    return function.__name__.strip("_").partition(".")[0]


class _Recorder(TorchFunctionMode):
    """Computes each function that is called in its `with` block, and adds its node.

    The sizes that a network reads off a tensor are numbers here and fixed in the graph. Only that of the batch is free:
    it must come first wherever a tensor is reshaped.
    """

    def __init__(self, network: nn.Module, inputs: dict[str, Tensor]) -> None:
        super().__init__()
        self.nodes: list[onnx.NodeProto] = []
        # Weights by their names in the network, and constants.
        self.held: dict[str, NDArray[Any]] = {}
        self._weights = {id(value): name for name, value in network.state_dict(keep_vars=True).items()}
        self._names = {id(values): name for name, values in inputs.items()}
        # A tensor is known by its identity, which must not become that of another.
        self._kept: list[Tensor] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        result = function(*args, **options)
        name = _name(function)
        output = result[0] if name == "Attention" else result
        if isinstance(output, Tensor):
            # A cast to the type that it has returns the tensor itself.
            if id(output) not in self._names:
                self._names[id(output)] = self._add(name, output, args, options)
                self._kept.append(output)
        elif name not in QUESTIONS:
            raise NotImplementedError(f"'{name}' reads the values of a tensor, which a graph cannot depend on")
        return result

    def _add(self, name: str, result: Tensor, args: tuple[Any, ...], options: dict[str, Any]) -> str:
        """Adds the nodes of a function, and returns the name of their output."""
        if operator := OPERATORS.get(name):
            # A number has the type of the last tensor beside it; the first of `where` is the condition.
            kind = next(value.dtype for value in reversed(args) if isinstance(value, Tensor))
            return self._node(operator, *(v if isinstance(v, Tensor) else _constant(v, kind) for v in args))
        if write := getattr(self, f"_write_{name}", None):
            written: str = write(result, *args, **options)
            return written
        raise NotImplementedError(f"'{name}' has no node in {__name__}; add it there, or compute it with those it has")

    def _node(self, operator: str, *operands: Operand, **attributes: Any) -> str:
        """Adds a node, and returns the name of its output."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        inputs = [self._named(value) for value in operands]
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def _named(self, value: Operand) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, np.ndarray):
            name = f"{value.dtype}({value.tolist()})"
            self.held[name] = value
        elif id(value) in self._weights:
            name = self._weights[id(value)]
            self.held[name] = value.detach().numpy()
        elif id(value) in self._names:
            name = self._names[id(value)]
        else:
            raise NotImplementedError(f"a tensor of shape {tuple(value.shape)} is no weight of the network")
        return name

    def _write_Attention(self, _: Tensor, q: Tensor, k: Tensor, v: Tensor, *, attn_mask: Tensor, **options: Any) -> str:
        heads = {key: options[key] for key in ("q_num_heads", "kv_num_heads")}
        return self._node("Attention", q, k, v, attn_mask, **heads)

    def _write_T(self, _: Tensor, x: Tensor) -> str:
        return self._node("Transpose", x, perm=[1, 0])

    def _write_cat(self, _: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> str:
        return self._node("Concat", *tensors, axis=dim)

    def _write_expand(self, _: Tensor, x: Tensor, *sizes: int) -> str:
        # To 1 is to what it is.
        return self._node("Expand", x, _numbers(*(1 if size == -1 else size for size in sizes)))

    def _write_flatten(self, result: Tensor, x: Tensor, *_: int) -> str:
        return self._node("Reshape", x, _numbers(-1, *result.shape[1:]))

    _write_view = _write_flatten

    def _write_gelu(self, _: Tensor, x: Tensor, approximate: str = "none") -> str:
        return self._node("Gelu", x, approximate=approximate)

    def _write_getitem(self, _: Tensor, x: Tensor, index: Any) -> str:
        """`index` has slices and None alone."""
        items = index if isinstance(index, tuple) else (index,)
        cuts = dict(enumerate(item for item in items if item is not None))
        cuts = {axis: cut for axis, cut in cuts.items() if cut != slice(None) and cut != slice(0, None)}
        output: Operand = x
        if cuts:
            starts = _numbers(*(cut.start or 0 for cut in cuts.values()))
            stops = _numbers(*(END if cut.stop is None else cut.stop for cut in cuts.values()))
            output = self._node("Slice", x, starts, stops, _numbers(*cuts))
        if None in items:
            new = [axis for axis, item in enumerate(items) if item is None]
            output = self._node("Unsqueeze", output, _numbers(*new))
        return self._named(output)

    def _write_index_select(self, _: Tensor, x: Tensor, dim: int, index: Tensor) -> str:
        return self._node("Gather", x, index, axis=dim)

    def _write_layer_norm(
        self, _: Tensor, x: Tensor, shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float
    ) -> str:
        return self._node("LayerNormalization", x, weight, bias, axis=-len(shape), epsilon=eps)

    def _write_linear(self, _: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> str:
        return self._node("Gemm", x, weight, bias, transB=1)

    def _write_pad(self, _: Tensor, x: Tensor, pad: tuple[int, int], mode: str, value: float) -> str:
        """Of the last axis."""
        before, after = ([0] * (x.ndim - 1) + [count] for count in pad)
        return self._node("Pad", x, _numbers(*before, *after), _constant(value, x.dtype), mode=mode)

    def _write_stack(self, _: Tensor, tensors: Sequence[Tensor], dim: int) -> str:
        rows = [self._node("Unsqueeze", tensor, _numbers(dim)) for tensor in tensors]
        return self._node("Concat", *rows, axis=dim)

    def _write_sum(self, _: Tensor, x: Tensor, dim: int, keepdim: bool = False) -> str:
        return self._node("ReduceSum", x, _numbers(dim), keepdims=int(keepdim))

    def _write_to(self, result: Tensor, x: Tensor, *_: Any) -> str:
        return self._node("Cast", x, to=helper.np_dtype_to_tensor_dtype(result.numpy().dtype))


def _numbers(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _constant(value: float, kind: torch.dtype) -> NDArray[Any]:
    constant: NDArray[Any] = torch.tensor(value, dtype=kind).numpy()
    return constant
