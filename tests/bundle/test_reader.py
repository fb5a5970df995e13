import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.folders import BundleError, locate, versions
from bundle.manifest import schema_hash
from bundle.reader import read_bundle
from tests.support.bundles import TinyModel, write_manifest
from tests.support.mutations import mutated


@pytest.fixture
def folder(models: Path, tmp_path: Path, tiny: TinyModel) -> Path:
    """A bundle to spoil."""
    return Path(shutil.copytree(models / tiny.name / "1", tmp_path / tiny.name / "1"))


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads((folder / "bundle.json").read_text())
    edit(document)
    (folder / "bundle.json").write_text(json.dumps(document))


def test_a_whole_bundle_is_read(folder: Path, tiny: TinyModel) -> None:
    bundle = read_bundle(folder)
    assert bundle.manifest.input_dim == tiny.input_dim
    assert bundle.manifest.loss_quantiles[6][50] == pytest.approx(0.5)
    assert bundle.golden.features.shape == (5, tiny.input_dim)
    assert bundle.graph("predictor", "float32") == folder / "predictor.onnx"


def test_the_schema_hash_is_that_of_the_contract() -> None:
    schema = {"names": ["b", "a"], "groups": [{"name": "g", "start": 0, "stop": 2}]}
    # sha256 of {"groups":[{"name":"g","start":0,"stop":2}],"names":["b","a"]}
    assert schema_hash(schema) == "0df3f7930ce4c087c797dbed3aaceddec33542ceb77efd937200c2cc3a1897f4"


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda d: d.update(format=2), "has format 2; this program reads format 1"),
        (lambda d: d.pop("input_dim"), "input_dim Field required"),
        (lambda d: d.update(input_dim=11), "schema names 10 columns, but input_dim is 11"),
        (lambda d: d.update(version=0), "version Input should be greater than or equal to 1"),
        (lambda d: d.update(name="../up"), "name String should match pattern"),
        (lambda d: d.update(horizons=[]), "horizons List should have at least 1 item"),
        (lambda d: d["schema"]["groups"].pop(), "schema groups must cut the columns 0 … 10 into consecutive parts"),
        (lambda d: d["schema"]["groups"].reverse(), "schema groups must cut the columns"),
        (lambda d: d["patches"].pop(), "patches must hold every group of the schema exactly once"),
        (lambda d: d["loss_quantiles"].update({"6": [0.0]}), "loss_quantiles.6 List should have at least 101 items"),
        (lambda d: d["files"].pop("golden.npz"), "files lacks golden.npz"),
        (lambda d: d["schema"]["names"].reverse(), "the schema hashes to"),
        (lambda d: d["files"].update({"../x": d["files"]["golden.npz"]}), "not a plain file name"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    folder: Path, edit: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    change(folder, edit)
    with pytest.raises(BundleError) as refusal:
        read_bundle(folder)
    assert complaint in str(refusal.value)
    assert str(folder) in str(refusal.value)


def test_keys_of_a_later_program_are_ignored(folder: Path) -> None:
    change(folder, lambda d: d.update(something_new={"a": 1}))
    read_bundle(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "\0", "[" * 10**5, '{"x": NaN}', '{"x": 1e999}', r'{"x": "\ud800"}'])
def test_a_manifest_that_is_half_written_or_no_json_is_refused(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        read_bundle(folder)


@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # the same folder, over and over
def test_whatever_is_changed_in_a_manifest_it_is_read_or_refused(
    data: st.DataObject, folder: Path, models: Path, tiny: TinyModel
) -> None:
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


def test_only_positive_integers_are_versions(tmp_path: Path) -> None:
    for name in ("1", "2", "10", "0", "-1", "01", "x", ".tmp-3", "1.5", "²"):
        (tmp_path / name).mkdir()
    (tmp_path / "3").touch()
    assert [*versions(tmp_path)] == [10, 2, 1]


def test_a_bundle_is_found_by_version_folder_model_folder_or_the_word_default(models: Path, tmp_path: Path) -> None:
    model = models / "tiny"
    assert locate(str(model / "1"), tmp_path) == model / "1"
    assert locate(str(model), tmp_path) == model / "1"
    assert locate("default", model) == model / "1"
    with pytest.raises(BundleError, match="is not a folder"):
        locate(str(tmp_path / "nowhere"), model)
    with pytest.raises(BundleError, match=r"is no bundle: it holds neither bundle\.json nor folders named 1, 2"):
        locate(str(tmp_path), model)
