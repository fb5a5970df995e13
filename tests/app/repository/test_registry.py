import gc
import logging
import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from app.errors import InvalidInput, NotReady, UnknownModel
from app.inference.threads import BatchThreads
from app.repository.registry import HIGHEST, Registry
from tests.support.bundles import TinyModel, write_manifest
from tests.support.models import loaded


@pytest.fixture
def threads() -> Iterator[BatchThreads]:
    threads = BatchThreads(1)
    yield threads
    threads.close()


def spoil(folder: Path) -> None:
    (folder / "predictor.onnx").write_bytes(b"half a file")


def test_the_highest_version_is_served(tmp_path: Path, threads: BatchThreads) -> None:
    for version in (1, 9, 10):
        TinyModel(version=version).write(tmp_path)
    model = loaded(tmp_path, threads).get("tiny")
    assert model.bundle.manifest.version == 10
    assert model.versions == [10, 9, 1]


def test_a_bundle_that_fails_is_refused_with_its_reason_and_the_others_go_on(
    tmp_path: Path, threads: BatchThreads, caplog: pytest.LogCaptureFixture
) -> None:
    TinyModel(version=1).write(tmp_path)
    spoil(TinyModel(version=2).write(tmp_path))
    spoil(TinyModel(name="broken").write(tmp_path))
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").touch()
    with caplog.at_level(logging.ERROR):
        registry = loaded(tmp_path, threads)
    assert [*registry.models] == ["tiny"]
    assert registry.get(None).bundle.manifest.version == 1
    assert {refused.folder for refused in registry.refused} == {tmp_path / "tiny" / "2", tmp_path / "broken" / "1"}
    assert "has 11 bytes" in caplog.text


def test_a_model_that_computes_something_else_here_is_refused(tmp_path: Path, threads: BatchThreads) -> None:
    folder = TinyModel().write(tmp_path)
    golden = dict(np.load(folder / "golden.npz"))
    golden["prediction"] += 0.01
    np.savez(folder / "golden.npz", **golden)
    write_manifest(folder, TinyModel().manifest())
    (refused,) = loaded(tmp_path, threads).refused
    assert "predictor.onnx does not reproduce its golden rows: it is off by 0.03" in refused.reason


def test_a_folder_must_be_named_as_its_bundle(tmp_path: Path, threads: BatchThreads) -> None:
    TinyModel().write(tmp_path).parent.rename(tmp_path / "other")
    (refused,) = loaded(tmp_path, threads).refused
    assert "holds version 1 of 'tiny'" in refused.reason


def test_int8_needs_graphs_in_int8(models: Path, threads: BatchThreads) -> None:
    (refused,) = loaded(models, threads, precision="int8").refused
    assert "serve it with precision float32" in refused.reason


def test_no_name_means_the_only_model_or_the_default_one(tmp_path: Path, threads: BatchThreads) -> None:
    TinyModel(name="one").write(tmp_path)
    assert loaded(tmp_path, threads).get(None).bundle.manifest.name == "one"
    TinyModel(name="two").write(tmp_path)
    with pytest.raises(InvalidInput, match="several models are loaded, so name one: 'one', 'two'"):
        loaded(tmp_path, threads).get(None)
    assert loaded(tmp_path, threads, default_model="two").get(None).bundle.manifest.name == "two"


def test_the_first_model_stays_the_default_when_others_come(
    tmp_path: Path, threads: BatchThreads, caplog: pytest.LogCaptureFixture
) -> None:
    TinyModel(name="one").write(tmp_path)
    registry = loaded(tmp_path, threads)
    for name in ("another", "two"):
        TinyModel(name=name).write(tmp_path)
        for _ in range(2):
            look(registry)
        assert registry.get(None).bundle.manifest.name == "one"
    assert caplog.text.count("requests that name no model still go to 'one'") == 1
    registry.unload("one")
    with pytest.raises(InvalidInput, match="several models are loaded, so name one: 'another', 'two'"):
        registry.get(None)
    registry.unload("two")
    assert registry.get(None).bundle.manifest.name == "another"
    registry.serve("two", HIGHEST, registry.fetch("two", None))
    assert registry.get(None).bundle.manifest.name == "another"


def test_whatever_cannot_be_read_keeps_no_other_model_from_being_served(
    tmp_path: Path, threads: BatchThreads, caplog: pytest.LogCaptureFixture
) -> None:
    TinyModel(version=1).write(tmp_path)
    # Also for the superuser, who may list every folder.
    for name in ("lost+found", "melee"):
        (tmp_path / name).symlink_to(name)
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "tiny" / "2").symlink_to("2")
    (tmp_path / "tiny" / "notes").symlink_to("nowhere")
    registry = loaded(tmp_path, threads)
    look(registry)
    assert registry.get(None).bundle.manifest.version == 1
    reasons = {refused.folder.name: refused.reason for refused in registry.refused}
    loops = "cannot be read: Too many levels of symbolic links"
    assert reasons == {
        "melee": f"melee {loops}",
        "gone": "gone cannot be read: it is a link to nothing",
        "2": f"tiny/2 {loops}",
    }
    for line in ("skipped ", "refused "):
        assert caplog.text.count(f"{line}{tmp_path}/") == (1 if line == "skipped " else 3)


def test_a_served_version_that_cannot_be_read_for_a_moment_is_served_on(tmp_path: Path, threads: BatchThreads) -> None:
    TinyModel(version=1).write(tmp_path)
    elsewhere = TinyModel(version=2).write(tmp_path / "volume")
    (tmp_path / "tiny" / "2").symlink_to(elsewhere)
    registry = loaded(tmp_path, threads)
    served = registry.get(None)
    assert served.bundle.manifest.version == 2
    away = elsewhere.rename(elsewhere.with_name("away"))
    look(registry)
    assert registry.get(None).engine is served.engine
    away.rename(elsewhere)
    look(registry)
    assert registry.get(None).engine is served.engine
    assert registry.refused == []


def test_an_unknown_name_is_answered_with_those_there_are(models: Path, threads: BatchThreads) -> None:
    with pytest.raises(UnknownModel, match="loaded: 'tiny'"):
        loaded(models, threads).get("chess")


def test_without_any_model_the_service_is_not_ready(tmp_path: Path, threads: BatchThreads) -> None:
    with pytest.raises(NotReady):
        loaded(tmp_path, threads).get(None)


def look(registry: Registry) -> None:
    registry.take(registry.look())


def test_a_look_without_a_change_loads_nothing(tmp_path: Path, threads: BatchThreads) -> None:
    TinyModel().write(tmp_path)
    registry = loaded(tmp_path, threads)
    served = registry.get(None)
    look(registry)
    assert registry.get(None) is served


def test_lower_versions_on_disk_are_listed_as_they_come_and_go(tmp_path: Path, threads: BatchThreads) -> None:
    TinyModel(version=2).write(tmp_path)
    registry = loaded(tmp_path, threads)
    engine = registry.get(None).engine
    TinyModel(version=1).write(tmp_path)
    look(registry)
    assert registry.get(None).versions == [2, 1]
    assert registry.get(None).engine is engine


def test_a_refused_bundle_is_tried_again_when_its_files_change_and_not_before(
    tmp_path: Path, threads: BatchThreads, caplog: pytest.LogCaptureFixture
) -> None:
    TinyModel(version=1).write(tmp_path)
    folder = TinyModel(version=2).write(tmp_path)
    whole = (folder / "predictor.onnx").read_bytes()
    spoil(folder)
    registry = loaded(tmp_path, threads)
    for _ in range(3):
        look(registry)
    assert caplog.text.count("has 11 bytes") == 1
    (folder / "predictor.onnx").write_bytes(whole)
    look(registry)
    assert registry.get(None).bundle.manifest.version == 2
    assert registry.refused == []


def test_files_that_are_spoilt_under_a_served_version_do_not_make_it_fall_back(
    tmp_path: Path, threads: BatchThreads
) -> None:
    TinyModel(version=1).write(tmp_path)
    folder = TinyModel(version=2).write(tmp_path)
    registry = loaded(tmp_path, threads)
    served = registry.get(None)
    spoil(folder)
    look(registry)
    assert registry.get(None) is served
    assert "has 11 bytes" in registry.refused[0].reason


def test_files_that_are_replaced_under_a_served_version_are_served(tmp_path: Path, threads: BatchThreads) -> None:
    folder = TinyModel().write(tmp_path)
    registry = loaded(tmp_path, threads)
    shutil.rmtree(folder)
    TinyModel(groups=(("own", 1), ("opponent", 1), ("stage", 1))).write(tmp_path)
    look(registry)
    assert registry.get(None).bundle.manifest.input_dim == 3


def test_a_file_that_no_library_can_make_sense_of_is_a_refusal(tmp_path: Path, threads: BatchThreads) -> None:
    folder = TinyModel().write(tmp_path)
    (folder / "golden.npz").write_bytes(b"no archive")
    write_manifest(folder, TinyModel().manifest())
    (refused,) = loaded(tmp_path, threads).refused
    assert "tiny/1 cannot be loaded (ValueError: " in refused.reason


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """The folders of pytest are closed to all but its user."""
    with TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Root, who may read everything, is somebody else meanwhile."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_what_may_not_be_read_is_refused_with_that_reason_until_it_may(
    public_folder: Path, threads: BatchThreads, caplog: pytest.LogCaptureFixture
) -> None:
    file = TinyModel().write(public_folder) / "golden.npz"
    other = TinyModel(name="other").write(public_folder).parent
    file.chmod(0)
    other.chmod(0)
    with bound_by_permissions():
        registry = loaded(public_folder, threads)
    reasons = {refused.folder: refused.reason for refused in registry.refused}
    assert reasons == {
        file.parent: "tiny/1/golden.npz cannot be read: Permission denied",
        other: "other cannot be read: Permission denied",
    }
    file.chmod(0o644)
    other.chmod(0o755)
    with bound_by_permissions():
        look(registry)
    assert registry.models.keys() == {"tiny", "other"}
    public_folder.chmod(0)
    with bound_by_permissions():
        look(registry)
        look(registry)
    public_folder.chmod(0o755)
    assert registry.models.keys() == {"tiny", "other"}
    assert caplog.text.count(f"{public_folder} cannot be read: Permission denied") == 1


def test_nothing_of_a_model_stays_in_memory_when_it_was_replaced(tmp_path: Path, threads: BatchThreads) -> None:
    TinyModel(version=1).write(tmp_path)
    registry = loaded(tmp_path, threads)
    gone = []
    gc.disable()  # or a cycle that would keep sessions until somebody collects it went unseen
    try:
        for version in range(2, 7):
            served = registry.get(None)
            queues = [queue for _, queue in served.engine.queues.items()]
            graphs = [vars(queue)["_run"].__self__ for queue in queues]
            gone += [weakref.ref(each) for each in (served, served.engine, *queues, *graphs)]
            del served, queues, graphs
            shutil.rmtree(tmp_path / "tiny")
            TinyModel(version=version, seed=version).write(tmp_path)
            look(registry)
        assert [each() for each in gone] == [None] * len(gone)
    finally:
        gc.enable()


def test_a_model_loaded_later_gets_the_share_of_those_before(tmp_path: Path, threads: BatchThreads) -> None:
    registry = loaded(tmp_path, threads, max_rows=10, max_queue_rows=77)
    TinyModel().write(tmp_path)
    look(registry)
    queues = registry.get(None).engine.queues
    assert {queue.max_queue_rows for _, queue in queues.items()} == {77}


def test_a_limit_on_batches_that_is_set_holds_for_every_graph(models: Path, threads: BatchThreads) -> None:
    queues = loaded(models, threads, max_batch_rows=3).get(None).engine.queues
    assert {queue.limits.max_rows for _, queue in queues.items()} == {3}
