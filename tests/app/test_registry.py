import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.batcher import Workers
from app.errors import InvalidInput, NotReady, UnknownModel
from app.registry import Registry
from app.settings import Settings
from app.telemetry import Telemetry
from tests.support.bundles import TinyModel, write_manifest


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(1)
    yield workers
    workers.close()


def loaded(models: Path, workers: Workers, **settings: object) -> Registry:
    registry = Registry(Settings(models=models, **settings), workers, Telemetry())
    registry.load_all()
    return registry


def spoil(folder: Path) -> None:
    (folder / "predictor.onnx").write_bytes(b"half a file")


def test_the_highest_version_is_served(tmp_path: Path, workers: Workers) -> None:
    for version in (1, 9, 10):
        TinyModel(version=version).write(tmp_path)
    model = loaded(tmp_path, workers).get("tiny")
    assert model.bundle.manifest.version == 10
    assert model.versions == [10, 9, 1]


def test_a_bundle_that_fails_is_refused_with_its_reason_and_the_others_go_on(
    tmp_path: Path, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    TinyModel(version=1).write(tmp_path)
    spoil(TinyModel(version=2).write(tmp_path))
    spoil(TinyModel(name="broken").write(tmp_path))
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").touch()
    with caplog.at_level(logging.ERROR):
        registry = loaded(tmp_path, workers)
    assert [*registry.models] == ["tiny"]
    assert registry.get(None).bundle.manifest.version == 1
    assert {refused.folder for refused in registry.refused} == {tmp_path / "tiny" / "2", tmp_path / "broken" / "1"}
    assert "has 11 bytes" in caplog.text


def test_a_model_that_computes_something_else_here_is_refused(tmp_path: Path, workers: Workers) -> None:
    folder = TinyModel().write(tmp_path)
    golden = dict(np.load(folder / "golden.npz"))
    golden["prediction"] += 0.01
    np.savez(folder / "golden.npz", **golden)
    write_manifest(folder, TinyModel().manifest())
    (refused,) = loaded(tmp_path, workers).refused
    assert "predictor.onnx does not reproduce its golden rows: largest difference 0.01" in refused.reason


def test_a_folder_must_be_named_as_its_bundle(tmp_path: Path, workers: Workers) -> None:
    TinyModel().write(tmp_path).parent.rename(tmp_path / "other")
    (refused,) = loaded(tmp_path, workers).refused
    assert "holds version 1 of 'tiny'" in refused.reason


def test_int8_needs_graphs_in_int8(models: Path, workers: Workers) -> None:
    (refused,) = loaded(models, workers, precision="int8").refused
    assert "serve it with precision float32" in refused.reason


def test_no_name_means_the_only_model_or_the_default_one(tmp_path: Path, workers: Workers) -> None:
    TinyModel(name="one").write(tmp_path)
    assert loaded(tmp_path, workers).get(None).bundle.manifest.name == "one"
    TinyModel(name="two").write(tmp_path)
    with pytest.raises(InvalidInput, match="several models are loaded, so name one: 'one', 'two'"):
        loaded(tmp_path, workers).get(None)
    assert loaded(tmp_path, workers, default_model="two").get(None).bundle.manifest.name == "two"


def test_an_unknown_name_is_answered_with_those_there_are(models: Path, workers: Workers) -> None:
    with pytest.raises(UnknownModel, match="loaded: 'tiny'"):
        loaded(models, workers).get("chess")


def test_without_any_model_the_service_is_not_ready(tmp_path: Path, workers: Workers) -> None:
    with pytest.raises(NotReady):
        loaded(tmp_path, workers).get(None)


def test_a_limit_on_batches_that_is_set_holds_for_every_graph(models: Path, workers: Workers) -> None:
    queues = loaded(models, workers, max_batch_rows=3).get(None).engine.queues
    assert {queue.pace.max_rows for _, queue in queues.items()} == {3}
