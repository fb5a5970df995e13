from pathlib import Path

import pytest

from app.inference.sessions import Graphs
from app.repository import selfcheck
from bundle.folders import BundleError
from bundle.parity import MAX_SHARE
from bundle.reader import Bundle, read_bundle
from tests.support.bundles import COST, PARITY, TinyModel, write_manifest


def rounded(folder: Path, steps: int = 127, **distances: float) -> Bundle:
    """A bundle with int8 graphs that says how far its graphs were off at export."""
    path = TinyModel(int8_steps=steps).write(folder)
    said(path, **distances)
    return read_bundle(path)


def said(folder: Path, **distances: float) -> Path:
    parity = {graph: values | distances for graph, values in PARITY.items()}
    write_manifest(folder, TinyModel().manifest() | {"precision": {"int8": COST}, "parity": parity})
    return folder


def test_float32_must_give_the_numbers_and_int8_come_near(tmp_path: Path) -> None:
    bundle = rounded(tmp_path)
    selfcheck.check(bundle, Graphs(bundle), "float32")
    selfcheck.check(bundle, Graphs(bundle, "int8"), "int8")
    with pytest.raises(BundleError, match="does not reproduce its golden rows"):
        selfcheck.check(bundle, Graphs(bundle, "int8"), "float32")


def test_int8_must_come_about_as_near_as_it_came_at_export(tmp_path: Path) -> None:
    bundle = rounded(tmp_path, steps=12)
    graphs = Graphs(bundle, "int8")
    found = max(compared.distance for compared in selfcheck.compare(bundle, graphs, "int8"))
    assert found > 2 * 0.01
    with pytest.raises(BundleError, match=r"\.int8\.onnx does not reproduce its golden rows"):
        selfcheck.check(bundle, graphs, "int8")
    selfcheck.check(read_bundle(said(bundle.folder, int8=found / 1.9)), graphs, "int8")
    with pytest.raises(BundleError, match=r"off by .* of their spread, where .* is right; export the model again"):
        selfcheck.check(read_bundle(said(bundle.folder, int8=found / 2.1)), graphs, "int8")


def test_int8_whose_distance_at_export_is_unknown_is_refused(tmp_path: Path) -> None:
    bundle = rounded(tmp_path)
    write_manifest(bundle.folder, TinyModel().manifest() | {"parity": {}})
    bundle = read_bundle(bundle.folder)
    selfcheck.check(bundle, Graphs(bundle), "float32")
    with pytest.raises(BundleError, match="does not say how exact int8 was at export; export it again"):
        selfcheck.check(bundle, Graphs(bundle, "int8"), "int8")


@pytest.mark.parametrize("measured", ["pytorch", "float32"])
def test_float32_may_be_some_times_as_far_off_as_it_or_pytorch_was_at_export(tmp_path: Path, measured: str) -> None:
    bundle = rounded(tmp_path)
    # int8 graphs stand for a network whose numbers float32 hardly resolves.
    graphs = Graphs(bundle, "int8")
    found = max(compared.distance for compared in selfcheck.compare(bundle, graphs, "float32"))
    assert found > MAX_SHARE
    selfcheck.check(read_bundle(said(bundle.folder, **{measured: found / 9})), graphs, "float32")
    with pytest.raises(BundleError, match="does not reproduce its golden rows"):
        selfcheck.check(read_bundle(said(bundle.folder, **{measured: found / 11})), graphs, "float32")
