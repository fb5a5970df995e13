import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.folders import BundleError
from bundle.reader import read_bundle
from tests.support.bundles import TinyModel, write_manifest
from tests.support.mutations import mutated


def test_a_whole_bundle_is_read(folder: Path, tiny: TinyModel) -> None:
    bundle = read_bundle(folder)
    assert bundle.manifest.input_dim == tiny.input_dim
    assert bundle.manifest.loss_quantiles[6][50] == pytest.approx(0.5)
    assert bundle.golden.features.shape == (5, tiny.input_dim)
    assert bundle.graph("predictor", "float32") == folder / "predictor.onnx"


@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_changed_in_a_manifest_it_is_read_or_refused(
    data: st.DataObject, folder: Path, models: Path, tiny: TinyModel
) -> None:
    # Every example writes over the manifest of the one before, in the same folder.
    right = json.loads((models / tiny.name / "1" / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(data.draw(mutated(right))))
    with suppress(BundleError):
        read_bundle(folder)


def test_files_that_are_not_those_of_the_manifest_are_refused(folder: Path) -> None:
    graph = folder / "predictor.onnx"
    content = graph.read_bytes()
    graph.write_bytes(content[:-1])
    with pytest.raises(
        BundleError, match=r"predictor\.onnx has \d+ bytes, bundle\.json says \d+; copy the bundle again"
    ):
        read_bundle(folder)
    graph.write_bytes(content[:-1] + b"\0")
    with pytest.raises(BundleError, match="does not have the SHA-256"):
        read_bundle(folder)
    graph.unlink()
    with pytest.raises(BundleError, match=r"predictor\.onnx is missing"):
        read_bundle(folder)


def test_a_file_outside_the_folder_is_refused(folder: Path) -> None:
    document = json.loads((folder / "bundle.json").read_text())
    document["files"]["../x"] = document["files"]["golden.npz"]
    (folder / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"bundle\.json lists '\.\./x', which is not a plain file name"):
        read_bundle(folder)


def test_golden_rows_must_be_all_there(folder: Path, tiny: TinyModel) -> None:
    np.savez(folder / "golden.npz", features=tiny.rows(1))
    write_manifest(folder, tiny.manifest())
    with pytest.raises(BundleError, match="lacks context_embedding, target_embedding, targets, horizon, prediction"):
        _ = read_bundle(folder).golden


def test_a_precision_the_bundle_lacks_is_refused(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"has no predictor\.int8\.onnx; serve it with precision float32"):
        read_bundle(folder).graph("predictor", "int8")


def test_a_bundle_has_a_precision_when_it_has_every_graph_in_it(folder: Path, tmp_path: Path) -> None:
    assert read_bundle(folder).has("float32")
    assert not read_bundle(folder).has("int8")
    rounded = TinyModel(int8_steps=127).write(tmp_path / "rounded")
    assert read_bundle(rounded).has("int8")
    (rounded / "context_encoder.int8.onnx").unlink()
    write_manifest(rounded, TinyModel().manifest())
    assert not read_bundle(rounded).has("int8")
