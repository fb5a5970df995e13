from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bundle.arrays import write_arrays
from cli.main import app
from model.data.files import KINDS
from tests.support.bundles import TinyModel, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return TinyModel().write(tmp_path)


def inspect(*sources: Path | str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["inspect", *map(str, sources)])
    return result.exit_code, result.output


def test_a_good_bundle_is_described_and_passes(folder: Path) -> None:
    code, text = inspect(folder)
    assert code == 0
    for fact in (
        "tiny version 1",
        "10 columns → 4 numbers",
        "own [0, 3), opponent [3, 8), stage [8, 10)",
        "6, 15 frames ahead",
        "probe_r2",
        "Apache-2.0",
        "4 files have the sizes and SHA-256 of bundle.json",
        "predictor float32: as at export",
    ):
        assert fact in text


def test_int8_graphs_are_checked_too_and_their_cost_is_said(tmp_path: Path) -> None:
    bundle = TinyModel(int8_steps=127).write(tmp_path)
    code, text = inspect(bundle)
    assert code == 0
    assert "noise 0.0001 of the variance, least cosine 0.9990, largest difference 0.05, on 100 rows" in text
    assert "predictor int8: as at export" in text
    (bundle / "predictor.int8.onnx").write_bytes(
        (TinyModel(seed=1).write(tmp_path / "o") / "predictor.onnx").read_bytes()
    )
    write_manifest(bundle, TinyModel(int8_steps=127).manifest())
    code, text = inspect(bundle)
    assert code == 1
    assert "wrong: predictor int8 does not reproduce its golden rows" in text


def test_a_model_folder_means_its_highest_version_and_default_the_bundled_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TinyModel(version=3).write(folder.parents[1])
    assert "tiny version 3" in inspect(folder.parent)[1]
    monkeypatch.setattr("bundle.folders.DEFAULT_MODEL", folder.parent)
    assert "tiny version 3" in inspect("default")[1]


def test_every_file_that_is_wrong_is_named(folder: Path) -> None:
    (folder / "golden.npz").unlink()
    (folder / "predictor.onnx").write_bytes(b"")
    code, text = inspect(folder)
    assert code == 1
    assert "golden.npz is missing" in text
    assert "predictor.onnx has 0 bytes" in text


def test_a_graph_that_computes_something_else_is_wrong(folder: Path) -> None:
    TinyModel(seed=1).write(folder.parents[1] / "other")
    (folder.parents[1] / "other" / "tiny" / "1" / "predictor.onnx").replace(folder / "predictor.onnx")
    write_manifest(folder, TinyModel().manifest())
    code, text = inspect(folder)
    assert code == 1
    assert "target_encoder float32: as at export" in text
    assert "predictor float32: NOT as at export" in text
    assert "wrong: predictor float32 does not reproduce its golden rows" in text


def test_heads_are_listed_with_their_labels_and_how_well_they_did(tmp_path: Path) -> None:
    tiny = TinyModel(heads=True)
    document = tiny.manifest()
    document["heads"][0]["table"] = {"penalty": 10.0, "0": {"rows": 9, "auc": 0.91}, "15": {"rows": 9, "auc": 0.8}}
    write_manifest(folder := tiny.write(tmp_path), document)
    code, text = inspect(folder)
    assert code == 0
    assert "head airborne binary: made up; ROC AUC now 0.910, 15 0.800" in " ".join(text.split())
    assert "classes calm, tense, wild: made up" in text


def test_heads_that_do_not_fit_the_manifest_are_wrong(tmp_path: Path) -> None:
    tiny = TinyModel(heads=True)
    folder = tiny.write(tmp_path)
    write_arrays(folder / "heads.npz", tiny.head_weights() | {"biases": np.zeros(2, np.float32)})
    (folder / "novelty.npz").write_bytes(b"no archive")
    write_manifest(folder, tiny.manifest())
    code, text = inspect(folder)
    assert code == 1
    assert "heads.npz: biases has shape [2]; it must be [6]" in text
    assert "novelty.npz is no zip archive" in text


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    assert inspect(tmp_path / "nowhere")[0] == 1
    code, text = inspect(tmp_path)
    assert code == 1
    assert "is no bundle" in text


@pytest.mark.parametrize("suffix", [*chain.from_iterable(KINDS.values()), ".CSV", ".Parquet"])
def test_inspect_knows_recordings_by_the_endings_that_are_read(suffix: str, tmp_path: Path) -> None:
    code, text = inspect(tmp_path / f"games{suffix}")
    assert code == 1
    assert "no such file, no Parquet file in it nor any other recording" in text


def test_several_recordings_are_read_together_and_a_bundle_stands_alone(folder: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("episode,x\n0,1\n0,2\n")
    code, text = inspect(tmp_path / "a.csv", tmp_path / "b.csv")
    assert code == 0
    assert "4 rows of 2 episodes" in text
    code, text = inspect(tmp_path / "a.csv", folder)
    assert code == 1
    assert f"{folder} is no recording; name one bundle" in text


def test_a_figure_that_nobody_measured_is_not_shown(folder: Path) -> None:
    document = TinyModel().manifest()
    measured = {graph: {"float32": parity["float32"]} for graph, parity in document["parity"].items()}
    write_manifest(folder, document | {"parity": measured})
    code, text = inspect(folder)
    assert code == 0
    assert "parity of predictor float32" in " ".join(text.split())
    assert "pytorch" not in text
