import json
from copy import deepcopy

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from bundle.parity import distance, spread
from bundle.reader import read_bundle
from model.export.bundle import export_bundle
from model.export.graphs import embed
from model.export.parity import Judged, check_graph
from model.export.tracing import Served
from model.networks.encoder import ContextEncoder
from tests.model.conftest import GROUPS, ROWS, SCHEMA, toy


def run(path, **inputs):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def test_the_graphs_normalise_raw_rows_themselves(exported):
    jepa, folder = exported
    with torch.no_grad():
        expected = jepa.context_encoder(jepa.encoding(torch.from_numpy(ROWS))).numpy()
    np.testing.assert_allclose(run(folder / "context_encoder.onnx", features=ROWS), expected, atol=1e-5, rtol=1e-4)


def test_a_nan_hides_its_group_and_rows_of_a_batch_do_not_mix(exported):
    jepa, folder = exported
    rows = ROWS[:3].copy()
    rows[1, 9] = np.nan
    visible = torch.ones(3, 3, dtype=torch.bool)
    visible[1, 1] = False
    with torch.no_grad():
        expected = jepa.target_encoder(jepa.encoding(torch.from_numpy(ROWS[:3])), visible).numpy()
    np.testing.assert_allclose(run(folder / "target_encoder.onnx", features=rows), expected, atol=1e-5, rtol=1e-4)


def test_the_golden_rows_are_repeated_by_onnx_runtime(exported):
    _, folder = exported
    golden = np.load(folder / "golden.npz", allow_pickle=False)
    assert np.isnan(golden["features"]).any()
    for role in ("context", "target"):
        answered = run(folder / f"{role}_encoder.onnx", features=golden["features"])
        np.testing.assert_allclose(answered, golden[f"{role}_embedding"], atol=1e-5, rtol=1e-4)
    asked = {"context": golden["context_embedding"], "targets": golden["targets"], "horizon": golden["horizon"]}
    np.testing.assert_allclose(run(folder / "predictor.onnx", **asked), golden["prediction"], atol=1e-5, rtol=1e-4)


def test_the_bundle_says_how_far_a_frame_is_from_those_that_were_trained_on(exported):
    _, folder = exported
    novelty = read_bundle(folder).novelty
    embeddings = run(folder / "target_encoder.onnx", features=ROWS)
    near = novelty.distances(embeddings)
    assert novelty.quantiles[0] <= np.median(near) <= novelty.quantiles[-1]
    assert (novelty.percentiles(embeddings + 10 * embeddings.std(0)) == 100).all()


def test_bundle_json_says_what_is_served(exported):
    _jepa, folder = exported
    about = json.loads((folder / "bundle.json").read_text())
    assert about["schema_hash"] == SCHEMA.hash
    assert about["horizons"] == [6, 30]
    assert about["licence"] == "CC0"
    assert about["input_dim"] == 20
    assert about["options"]["embed_dim"] == 32
    assert about["training"]["rows"] == 64
    graphs = ("context_encoder", "target_encoder", "predictor")
    assert set(about["files"]) == {
        *(f"{graph}{variant}.onnx" for graph in graphs for variant in ("", ".int8")),
        "golden.npz",
        "novelty.npz",
        "README.md",
    }


def test_half_weights_are_half_the_bytes_compute_nearly_the_same_and_name_no_folder(halved):
    jepa, folder = halved
    stored = onnx.load(folder / "predictor.onnx").graph.initializer
    large = [weight for weight in stored if np.prod(weight.dims) >= 256]
    assert large
    assert all(weight.data_type == onnx.TensorProto.FLOAT16 for weight in large)
    assert b"site-packages" not in (folder / "context_encoder.onnx").read_bytes()
    with torch.no_grad():
        expected = jepa.context_encoder(jepa.encoding(torch.from_numpy(ROWS))).numpy()
    answered = run(folder / "context_encoder.onnx", features=ROWS)
    np.testing.assert_allclose(answered, expected, atol=5e-3)


def test_without_rows_to_fit_them_to_there_are_no_int8_graphs(halved):
    about = json.loads((halved.folder / "bundle.json").read_text())
    assert "precision" not in about
    assert not [*halved.folder.glob("*.int8.onnx")]


def judged(golden, pytorch):
    """As if the context encoder had answered more by .01."""
    served = Served(torch.nn.Identity(), {"features": golden["features"]}, "embedding")
    return Judged("context_encoder", served, golden["context_embedding"] + np.float32(0.01), pytorch)


def test_a_graph_that_differs_is_refused(exported):
    _jepa, folder = exported
    golden = np.load(folder / "golden.npz")
    complaint = r"context_encoder.onnx differs from the trained network by \d.\d+e-02 of the spread of its answers"
    with pytest.raises(ValueError, match=complaint):
        check_graph(folder / "context_encoder.onnx", judged(golden, 1e-5))


def test_a_graph_that_is_about_as_far_off_as_pytorch_itself_is_not_refused(exported):
    _jepa, folder = exported
    golden = np.load(folder / "golden.npz")
    off = check_graph(folder / "context_encoder.onnx", judged(golden, 0.005))
    assert off == pytest.approx(0.01 / spread(golden["context_embedding"]), rel=0.01)


def test_bundle_json_says_how_far_the_graphs_and_pytorch_are_from_float64(exported):
    jepa, folder = exported
    parity = json.loads((folder / "bundle.json").read_text())["parity"]
    golden = np.load(folder / "golden.npz")
    rows = torch.from_numpy(golden["features"])
    with torch.no_grad():
        exact = embed(deepcopy(jepa.encoding).double(), deepcopy(jepa.context_encoder).double(), SCHEMA, rows.double())
        pytorch = embed(jepa.encoding, jepa.context_encoder, SCHEMA, rows)
    np.testing.assert_array_equal(golden["context_embedding"], exact.numpy().astype(np.float32))
    assert parity["context_encoder"]["pytorch"] > 0.9 * distance(pytorch.numpy(), exact.numpy()) > 0
    assert parity.keys() == {"context_encoder", "target_encoder", "predictor"}
    for distances in parity.values():
        assert 0 < distances["pytorch"] < 1e-5
        assert 0 < distances["float32"] < 1e-5


class Raised(ContextEncoder):
    def forward(self, *inputs):
        return super().forward(*inputs) + 1


def test_a_served_network_that_differs_from_the_trained_one_is_refused(tmp_path):
    checkpoint = toy(GROUPS)
    checkpoint.jepa.target_encoder.__class__ = Raised
    complaint = r"target_encoder\.onnx differs from the trained network by \d\.\d+e\+00 of the spread .* not written"
    with pytest.raises(ValueError, match=complaint):
        export_bundle(checkpoint, tmp_path, "toy")
    assert not [*tmp_path.rglob("*.onnx")]
