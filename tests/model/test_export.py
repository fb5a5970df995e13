import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from model.checkpoint import Checkpoint
from model.config import Config
from model.encoding import FeatureEncoding, column_statistics
from model.export import _check_parity, export_bundle
from model.jepa import JEPA
from model.schema import Group, Schema

GROUPS = (Group("own", 0, 8), Group("opponent", 8, 16), Group("stage", 16, 20))
NAMES = (*(f"c{i}" for i in range(19)), "action_id")
ROWS = np.random.default_rng(0).normal(3, 5, (64, 20)).astype(np.float32)
ROWS[:, 19] = np.arange(64) % 7
STATISTICS = column_statistics(ROWS)


@pytest.fixture(scope="module", params=["flat", "tokens"])
def exported(request, tmp_path_factory):
    torch.manual_seed(0)
    schema = Schema(NAMES, GROUPS)
    encoding = FeatureEncoding.fit(ROWS, schema, STATISTICS)
    patches = {"row": GROUPS} if request.param == "flat" else GROUPS
    config = Config(20, 32, 16, 2, 1, num_heads=4, patches=patches, horizons=(6, 30))
    jepa = JEPA(config, encoding).eval()
    checkpoint = Checkpoint(jepa, schema, STATISTICS, {}, 0, {"licence": "CC0", "rows": 64}, {})
    models = tmp_path_factory.mktemp("models")
    folder = export_bundle(checkpoint, models, "toy", half=True, card="# Toy")
    return jepa, folder


def run(path, **inputs):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def test_the_graphs_normalise_raw_rows_themselves(exported):
    jepa, folder = exported
    with torch.inference_mode():
        expected = jepa.context_encoder(jepa.encoding(torch.from_numpy(ROWS))).numpy()
    np.testing.assert_allclose(run(folder / "context_encoder.onnx", features=ROWS), expected, atol=1e-5, rtol=1e-4)


def test_a_nan_hides_its_group_and_rows_of_a_batch_do_not_mix(exported):
    jepa, folder = exported
    rows = ROWS[:3].copy()
    rows[1, 9] = np.nan
    visible = torch.ones(3, 3, dtype=torch.bool)
    visible[1, 1] = False
    with torch.inference_mode():
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


def test_bundle_json_says_what_is_served(exported):
    _jepa, folder = exported
    about = json.loads((folder / "bundle.json").read_text())
    assert about["schema_hash"] == Schema(NAMES, GROUPS).hash
    assert about["horizons"] == [6, 30]
    assert about["licence"] == "CC0"
    assert about["input_dim"] == 20
    assert about["options"]["embed_dim"] == 32
    assert about["training"]["rows"] == 64
    assert set(about["files"]) == {
        "context_encoder.onnx",
        "target_encoder.onnx",
        "predictor.onnx",
        "golden.npz",
        "README.md",
    }


def test_half_weights_are_half_the_bytes_and_name_no_folder(exported):
    _, folder = exported
    stored = onnx.load(folder / "predictor.onnx").graph.initializer
    large = [weight for weight in stored if np.prod(weight.dims) >= 256]
    assert large
    assert all(weight.data_type == onnx.TensorProto.FLOAT16 for weight in large)
    assert b"site-packages" not in (folder / "context_encoder.onnx").read_bytes()


def test_a_graph_that_differs_is_refused(exported):
    jepa, folder = exported
    golden = np.load(folder / "golden.npz")

    class Shifted(torch.nn.Module):
        def forward(self, features):
            return jepa.context_encoder(jepa.encoding(features)) + 0.01

    with pytest.raises(ValueError, match=r"context_encoder.onnx differs from PyTorch by 1.*e-02 at batch 1"):
        _check_parity(Shifted(), {"features": np.nan_to_num(golden["features"])}, folder / "context_encoder.onnx")
