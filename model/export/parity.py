"""Whether graphs compute what was trained.

What is right is the answer of the trained network in float64. Beside it stands how far PyTorch is from that in float32,
since no graph can be expected to be nearer.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.parity import MAX_GROWTH, MAX_SHARE, distance
from model.export.int8 import Arrays
from model.export.tracing import Served

# A batch of one or two rows takes other paths through a matrix product than a large one.
BATCHES = (1, 2, 7, 64)


class Judged(NamedTuple):
    """A network that may be exported as `graph`."""

    graph: str
    served: Served
    right: NDArray[np.float32]  # [n, D], the answers to its example
    pytorch: float  # the distance from them of the trained network in float32


def judge(
    served: Served, trained: Callable[..., Tensor], exact: Callable[..., Tensor], graph: str, half: bool
) -> Judged:
    """Compares a network with `trained`, and with `exact`, the same in float64; ValueError if it is another function.

    With `half`, its weights are rounded to float16 thereafter, and its own answers are the right ones.
    """
    network, inputs = served.network.eval(), served.inputs
    right = _answers(exact, inputs, torch.float64)
    pytorch = _furthest(lambda rows: _answers(trained, rows), inputs, right)
    _check(graph, distance(_answers(deepcopy(network).double(), inputs, torch.float64), right), pytorch)
    if half:
        for parameter in network.parameters():
            parameter.data = parameter.data.half().float()
        right = _answers(deepcopy(network).double(), inputs, torch.float64)
    return Judged(graph, served, right.astype(np.float32), pytorch)


def check_graph(path: Path, judged: Judged) -> float:
    """How far the answers of the graph are from the right ones; ValueError where that is too far, or where the batch is
    not free."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    for given in session.get_inputs():
        if not isinstance(given.shape[0], str):
            raise ValueError(
                f"{path.name}: the batch of '{given.name}' is frozen to {given.shape[0]}; export it dynamic"
            )
    off = _furthest(lambda rows: session.run(None, rows)[0], judged.served.inputs, judged.right)
    _check(judged.graph, off, judged.pytorch)
    return off


def _check(graph: str, off: float, pytorch: float) -> None:
    # Not finite is too far as well.
    if not off <= max(MAX_SHARE, MAX_GROWTH * pytorch):
        raise ValueError(
            f"{graph}.onnx differs from the trained network by {off:.2e} of the spread of its answers, PyTorch itself "
            f"by {pytorch:.2e}; it is not written. Train without the columns of extreme numbers (--exclude)"
        )


def _answers(network: Callable[..., Tensor], inputs: Arrays, kind: torch.dtype = torch.float32) -> NDArray[np.floating]:
    """What a network whose weights are of this kind answers to inputs [n, …] → [n, D]."""
    with torch.no_grad():
        answers: NDArray[np.floating] = network(*(torch.from_numpy(rows).to(kind) for rows in inputs.values())).numpy()
    return answers


def _furthest(run: Callable[[Arrays], NDArray[np.floating]], inputs: Arrays, right: NDArray[np.floating]) -> float:
    """The largest distance of a run's answers from the right ones, in batches of several sizes."""
    distances = []
    for count in BATCHES:
        rows = np.resize(np.arange(len(right)), count)
        found, wanted = run({name: values[rows] for name, values in inputs.items()}), right[rows]
        # One or two rows alone say too little of the spread.
        distances.append(distance(found, wanted, among=right))
    return max(distances)
