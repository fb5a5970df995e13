"""A predictor that takes the player's own inputs, from the frames to the bundle."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from bundle.folders import BundleError
from bundle.golden import parse_golden
from bundle.reader import read_bundle
from model.export.bundle import export_bundle
from model.export.graphs import ServedPredictor, predict
from model.networks.actions import ActionEncoding
from model.networks.config import Config
from model.networks.predictor import Predictor
from tests.model.conftest import GROUPS, toy
from tests.model.networks.test_actions import SEEN

NAMES = ("stick", "class", "button", "rare", "constant")
FRAMES, HORIZONS = 8, (2, 6, 30)
NAN = np.float32("nan")


class Made(NamedTuple):
    predictor: Predictor
    folder: object


def trained(patches):
    torch.manual_seed(0)
    config = Config(20, 32, 16, 1, 2, num_heads=4, patches=patches, horizons=HORIZONS, actions=5, max_actions=FRAMES)
    made = Predictor(config, ActionEncoding.fit(SEEN)).eval()
    for weight in made.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return made


def asked(patches, count=32, seed=0):
    """Questions with inputs that are known, unknown, partly known, beyond the clip and of unknown classes."""
    rng = np.random.default_rng(seed)
    actions = ActionEncoding.fit(SEEN).draw(count, FRAMES, rng)
    actions[::4] = np.nan
    actions[1::4][rng.random(actions[1::4].shape) < 0.5] = np.nan
    actions[2::4, :, 0] *= 100
    actions[3::8, :, 1] = 9
    targets = np.zeros((count, patches), np.float32)
    targets[np.arange(count), rng.integers(patches, size=count)] = 1
    return {
        "context": rng.normal(size=(count, 32)).astype(np.float32),
        "targets": targets,
        "horizon": rng.choice(HORIZONS, count).astype(np.float32),
        "actions": actions,
    }


@pytest.fixture(scope="module", params=[{"row": GROUPS}, GROUPS], ids=["one patch", "three patches"])
def made(request, tmp_path_factory):
    checkpoint = toy(request.param)
    predictor = trained(request.param)
    checkpoint.jepa.predictor, checkpoint.actions = predictor, NAMES
    return Made(predictor, export_bundle(checkpoint, tmp_path_factory.mktemp("models"), "toy"))


def run(folder, inputs, variant=""):
    session = ort.InferenceSession(folder / f"predictor{variant}.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@pytest.mark.parametrize("patches", [{"row": GROUPS}, GROUPS], ids=["one patch", "three patches"])
def test_the_served_predictor_computes_what_was_trained(patches):
    predictor = trained(patches)
    inputs = [torch.from_numpy(each) for each in asked(len(predictor.config.patches)).values()]
    with torch.no_grad():
        expected = predict(predictor, *inputs)
        torch.testing.assert_close(ServedPredictor(predictor).eval()(*inputs), expected, atol=1e-4, rtol=1e-4)


def test_the_graph_answers_as_the_trained_predictor_in_any_batch(made):
    inputs = asked(len(made.predictor.config.patches), seed=1)
    with torch.no_grad():
        expected = predict(made.predictor, *map(torch.from_numpy, inputs.values())).numpy()
    for rows in (slice(0, 1), slice(5, 12), slice(None)):
        found = run(made.folder, {name: values[rows] for name, values in inputs.items()})
        np.testing.assert_allclose(found, expected[rows], atol=2e-4, rtol=1e-3)


def test_without_known_inputs_the_graph_answers_as_one_that_has_no_such_input(made):
    config = replace(made.predictor.config, actions=0)
    plain = Predictor(config).eval()
    weights = {name: value for name, value in made.predictor.state_dict().items() if not name.startswith("actions.")}
    plain.load_state_dict(weights)
    inputs = asked(len(config.patches))
    inputs["actions"][:] = np.nan
    found = run(made.folder, inputs)
    del inputs["actions"]
    with torch.no_grad():
        expected = predict(plain, *map(torch.from_numpy, inputs.values())).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-3)


def test_inputs_that_lead_beyond_the_horizon_do_not_count_in_the_graph(made):
    inputs = asked(len(made.predictor.config.patches))
    inputs["horizon"][:] = 2
    before = run(made.folder, inputs)
    inputs["actions"][:, 2:] = 1
    np.testing.assert_array_equal(run(made.folder, inputs), before)
    inputs["actions"][:, 1] = 1
    assert not np.allclose(run(made.folder, inputs), before, atol=1e-4)


def test_no_number_that_float32_holds_makes_the_answer_infinite(made):
    inputs = asked(len(made.predictor.config.patches))
    for extreme in (3.4e38, -3.4e38):
        inputs["actions"][:] = extreme
        assert np.isfinite(run(made.folder, inputs)).all()


def test_bundle_json_and_the_golden_rows_say_what_the_predictor_takes(made):
    bundle = read_bundle(made.folder)
    assert bundle.manifest.actions == [*NAMES]
    assert bundle.manifest.max_actions == FRAMES
    assert bundle.manifest.action_values == {"class": [0, 1, 2, 3, 4]}
    assert not {"actions", "max_actions"} & bundle.manifest.options.keys()
    golden = bundle.golden
    assert golden.actions.shape == (len(golden.features), FRAMES, len(NAMES))
    unknown = np.isnan(golden.actions)
    assert unknown[::3].all()
    assert unknown[1::3].any()
    assert not unknown[1::3].all()
    assert not unknown[2::3].any()
    asked = {name: getattr(golden, name) for name in ("targets", "horizon", "actions")}
    found = run(made.folder, {"context": golden.context_embedding, **asked})
    np.testing.assert_allclose(found, golden.prediction, atol=1e-4, rtol=1e-3)
    assert bundle.manifest.parity["predictor"].float32 < 1e-4


def test_a_golden_file_without_the_inputs_that_the_predictor_takes_is_refused(made, tmp_path):
    arrays = dict(np.load(made.folder / "golden.npz"))
    del arrays["actions"]
    np.savez(tmp_path / "golden.npz", **arrays)
    path = tmp_path / "golden.npz"
    with pytest.raises(BundleError, match="lacks actions"):
        parse_golden(path.read_bytes(), path, read_bundle(made.folder).manifest)


def test_the_int8_predictor_takes_inputs_too(made):
    inputs = asked(len(made.predictor.config.patches))
    exact, rounded = (run(made.folder, inputs, variant) for variant in ("", ".int8"))
    assert ((exact - rounded).var(0).sum() / exact.var(0).sum()) < 0.05
    layers = [
        [node.op_type for node in onnx.load(made.folder / f"predictor{variant}.onnx").graph.node].count("Gemm")
        for variant in ("", ".int8")
    ]
    assert layers[0] == layers[1]


def test_names_that_are_not_one_a_number_are_refused(tmp_path):
    checkpoint = toy(GROUPS)
    checkpoint.jepa.predictor, checkpoint.actions = trained(GROUPS), NAMES[:2]
    with pytest.raises(ValueError, match="actions names 2 numbers of an input; the predictor takes 5"):
        export_bundle(checkpoint, tmp_path, "toy")
