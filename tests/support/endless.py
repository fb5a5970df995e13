"""Bundles that ONNX Runtime does not come to an end with."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.bundles import write_manifest


def put_endless_loop(folder: Path, role: str = "target_encoder", nodes: int = 0) -> Path:
    """Replaces a graph of the bundle by one that loops for ever when it runs or, with so many `nodes`, by one that
    takes seconds to open; returns the folder."""
    path = folder / f"{role}.onnx"
    model = onnx.load(path)
    graph = model.graph
    output = graph.output[0].name
    for node in graph.node:
        node.output[:] = ["result" if name == output else name for name in node.output]
    if nodes:
        graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "nothing"))
        names = ["result", *(f"sum{number}" for number in range(nodes - 1)), output]
        graph.node.extend(helper.make_node("Add", [before, "nothing"], [after]) for before, after in pairwise(names))
    else:
        body = helper.make_graph(
            [helper.make_node("Identity", ["go_in"], ["go_out"]), helper.make_node("Identity", ["in"], ["out"])],
            "body",
            [
                helper.make_tensor_value_info("turn", TensorProto.INT64, []),
                helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
                helper.make_tensor_value_info("in", TensorProto.FLOAT, None),
            ],
            [
                helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
                helper.make_tensor_value_info("out", TensorProto.FLOAT, None),
            ],
        )
        graph.initializer.append(numpy_helper.from_array(np.array(True), "go"))
        graph.node.append(helper.make_node("Loop", ["", "go", "result"], [output], body=body))
    path.write_bytes(model.SerializeToString())
    about = json.loads((folder / "bundle.json").read_text())
    del about["files"]
    write_manifest(folder, about)
    return folder
