import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.service import Service
from app.settings import Settings
from tests.support.bundles import TinyModel


@pytest.fixture
def laid_out(models: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Service]:
    """A service on a machine of four cores; `heavy_s` is what a row may take at most for a process a core."""

    def lay_out(heavy_s: float = 1e9, **settings: Any) -> Service:
        monkeypatch.setattr("app.service.available_cores", lambda: 4)
        monkeypatch.setattr("app.inference.parallelism.MIN_HEAVY_ROW_S", heavy_s)
        service = Service(Settings(models=models, **settings))
        service.load(may_fork=True)
        return service

    return lay_out


@pytest.mark.parametrize(
    ("settings", "processes", "threads"),
    [
        ({}, 4, 1),  # a process a core
        ({"heavy_s": 0}, 1, 4),  # one process, a thread a core
        ({"workers": 2}, 2, 2),
        ({"workers": 8}, 8, 1),
        ({"workers": 1, "batch_threads": 3}, 1, 3),
        ({"intra_op_threads": 2}, 1, 2),
    ],
)
def test_cores_are_shared_out_by_how_long_a_row_takes(
    laid_out: Callable[..., Service], settings: dict[str, float], processes: int, threads: int
) -> None:
    service = laid_out(**settings)
    assert service.layout == {
        "processes": processes,
        "batch_threads": threads,
        "intra_op_threads": settings.get("intra_op_threads", 1),
    }
    assert service.threads.count == threads


def test_processes_share_the_queue_and_each_can_hold_a_request(laid_out: Callable[..., Service]) -> None:
    for max_queue_rows, each in ((400, 100), (80, 64)):
        service = laid_out(max_rows=64, max_queue_rows=max_queue_rows)
        for _, queue in service.registry.get("tiny").engine.queues.items():
            assert queue.max_queue_rows == each


def test_without_a_model_there_is_a_layout_too(
    tmp_path: Path,
) -> None:
    service = Service(Settings(models=tmp_path))
    service.load(may_fork=True)
    assert service.processes >= 1


def test_a_service_that_is_not_forked_is_one_process_with_all_there_is(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.service.available_cores", lambda: 4)
    service = Service(Settings(models=models, workers=2, max_queue_rows=2000, max_connections=70))
    service.load()
    assert service.layout == {"processes": 1, "batch_threads": 4, "intra_op_threads": 1}
    assert service.max_connections == 70
    queues = service.registry.get("tiny").engine.queues
    assert {queue.max_queue_rows for _, queue in queues.items()} == {2000}


def test_a_model_that_comes_later_gets_the_layout_of_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.service.available_cores", lambda: 4)
    service = Service(Settings(models=tmp_path, workers=2, max_rows=64, max_queue_rows=2000))
    service.load(may_fork=True)
    TinyModel(version=1).write(tmp_path)
    service.registry.take(service.registry.look())
    first = service.registry.get("tiny").engine.queues.target_encoder
    TinyModel(version=2).write(tmp_path)
    service.registry.take(service.registry.look())
    second = service.registry.get("tiny").engine.queues.target_encoder
    assert (first.max_queue_rows, second.max_queue_rows) == (1000, 1000)
    assert service.layout == {"processes": 2, "batch_threads": 2, "intra_op_threads": 1}


def test_nothing_that_would_not_survive_a_fork_is_started_while_models_are_loaded(models: Path) -> None:
    before = threading.active_count()
    Service(Settings(models=models)).load(may_fork=True)
    assert threading.active_count() == before
