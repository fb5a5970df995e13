from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundle import graph_file
from bundle.folders import BundleError
from bundle.graph_file import check_graph
from tests.support.bundles import TinyModel


def outside() -> TensorProto:
    """A tensor whose numbers are in another file."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/dev/zero"
    return tensor


def in_graph(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(outside())


def in_node(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=outside()))


def in_list(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Odd", [], ["c"], several=[outside()]))


def in_branch(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [], [outside()])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


def in_sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(outside(), outside(), [8]))


def in_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=outside())
    model.functions.append(helper.make_function("own", "f", [], ["c"], [node], [helper.make_opsetid("", 20)]))


@pytest.mark.parametrize("hide", [in_graph, in_node, in_list, in_branch, in_sparse, in_function])
def test_numbers_in_another_file_are_found_wherever_the_graph_hides_them(
    models: Path, tmp_path: Path, hide: Callable[[onnx.ModelProto], None]
) -> None:
    model = onnx.load(models / "tiny" / "1" / "predictor.onnx")
    path = tmp_path / "predictor.onnx"
    path.write_bytes(model.SerializeToString())
    check_graph(path)
    hide(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"predictor\.onnx keeps numbers in another file; save the graph with"):
        check_graph(path)


def test_every_graph_of_this_repository_keeps_its_numbers(tmp_path: Path) -> None:
    folder = TinyModel(int8_steps=127).write(tmp_path)
    bundled = Path(__file__).parents[2] / "app" / "bundled"
    paths = [*folder.glob("*.onnx"), *bundled.rglob("*.onnx")]
    assert len(paths) >= 12
    for path in paths:
        check_graph(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"no graph", "unknown kind 6"),
        (b"\x3a\xff\x01", "longer than the message"),
        (b"\x08" + b"\xff" * 12, "more than 10 bytes"),
        (b"\x08", "it is no ONNX graph"),
    ],
)
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=rf"x\.onnx cannot be loaded: .*{complaint}"):
        check_graph(tmp_path / "x.onnx")


def test_a_graph_of_very_many_parts_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_file, "MAX_FIELDS", 10)
    with pytest.raises(BundleError, match="it has more than 10 parts"):
        check_graph(models / "tiny" / "1" / "predictor.onnx")
