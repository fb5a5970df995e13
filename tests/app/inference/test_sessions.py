from pathlib import Path

import numpy as np
import pytest

from app.inference.sessions import Graph, Graphs, session_options
from bundle.folders import BundleError
from bundle.reader import read_bundle
from tests.support.bundles import TinyModel


def test_idle_threads_do_not_spin_and_memory_does_not_only_grow() -> None:
    options = session_options(2)
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert not options.enable_cpu_mem_arena


def test_opening_a_session_leaves_the_arithmetic_of_this_thread_alone(models: Path) -> None:
    Graphs(read_bundle(models / "tiny" / "1"))
    assert 5e-324 / 1 > 0  # ONNX Runtime's set_denormal_as_zero would make it 0 for all code in the thread


def test_graphs_compute_any_number_of_rows(models: Path, tiny: TinyModel) -> None:
    graphs = Graphs(read_bundle(models / "tiny" / "1"))
    for count in (1, 2, 7):
        rows = tiny.rows(count)
        np.testing.assert_allclose(graphs.target_encoder.run(rows), tiny.encode(rows), atol=1e-5)
        np.testing.assert_allclose(graphs.context_encoder.run(rows), tiny.encode(rows, "context"), atol=1e-5)


def test_a_graph_with_other_names_or_widths_is_refused(models: Path) -> None:
    encoder = models / "tiny" / "1" / "target_encoder.onnx"
    with pytest.raises(BundleError, match=r"has inputs \['features'\]; it must have \['pixels'\]"):
        Graph(encoder, {"pixels": [10]}, "embedding", 4, threads=1)
    with pytest.raises(BundleError, match=r"input features is \['batch', 10\]; it must be \['batch', 11\], any batch"):
        Graph(encoder, {"features": [11]}, "embedding", 4, threads=1)
    with pytest.raises(BundleError, match=r"output embedding is \['batch', 4\]; it must be \['batch', 5\]"):
        Graph(encoder, {"features": [10]}, "embedding", 5, threads=1)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not onnx")
    with pytest.raises(BundleError, match=r"x\.onnx cannot be loaded"):
        Graph(tmp_path / "x.onnx", {"features": [1]}, "embedding", 1, threads=1)
