from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.inference.parallelism import MIN_HEAVY_ROW_S, RESERVED_FILES, Layout, files_for, plan, ports_of
from app.settings import Settings

LIGHT_S, HEAVY_S = MIN_HEAVY_ROW_S / 2, MIN_HEAVY_ROW_S


@pytest.mark.parametrize(
    ("settings", "row_s", "processes", "threads"),
    [
        ({}, LIGHT_S, 4, 1),  # a process a core
        ({}, HEAVY_S, 1, 4),  # one process, a thread a core
        ({"workers": 2}, LIGHT_S, 2, 2),
        ({"workers": 2}, HEAVY_S, 2, 2),
        ({"workers": 8}, LIGHT_S, 8, 1),
        ({"workers": 1, "batch_threads": 3}, LIGHT_S, 1, 3),
        ({"intra_op_threads": 2}, LIGHT_S, 1, 2),
        ({"intra_op_threads": 8}, LIGHT_S, 1, 1),
    ],
)
def test_cores_are_shared_out_by_how_long_a_row_takes(
    settings: dict[str, Any], row_s: float, processes: int, threads: int
) -> None:
    found = plan(Settings(**settings), cores=4, row_s=row_s, may_fork=True)
    assert (found.processes, found.batch_threads) == (processes, threads)


def test_where_nothing_may_be_forked_there_is_one_process_with_everything() -> None:
    settings = Settings(workers=3, max_queue_rows=5000, max_connections=100, max_buffered_bytes=2**25)
    assert plan(settings, cores=4, row_s=LIGHT_S, may_fork=False) == Layout(
        processes=1,
        batch_threads=4,
        intra_op_threads=1,
        max_queue_rows=5000,
        max_connections=100,
        max_buffered_bytes=2**25,
    )


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 5000), st.integers(0, 5000), st.integers(1, 5000))
def test_processes_share_the_queue_and_the_connections_and_each_can_hold_a_request(
    workers: int, cores: int, max_rows: int, more_queue_rows: int, max_connections: int
) -> None:
    settings = Settings(
        workers=workers, max_rows=max_rows, max_queue_rows=max_rows + more_queue_rows, max_connections=max_connections
    )
    found = plan(settings, cores=cores, row_s=LIGHT_S, may_fork=True)
    assert found.max_queue_rows >= max_rows
    assert found.max_queue_rows * workers <= settings.max_queue_rows or found.max_queue_rows == max_rows
    assert 0 <= found.max_connections * workers - max_connections < workers
    assert found.max_buffered_bytes == max(settings.max_body_bytes, settings.max_buffered_bytes // workers)
    assert found.batch_threads >= 1


@given(st.sampled_from([None, 0]), st.integers(1, 5000), st.integers(RESERVED_FILES + 2, 10_000))
def test_connections_to_no_port_use_up_the_files_of_another(
    grpc_port: int | None, max_connections: int, files: int
) -> None:
    settings = Settings(workers=1, max_connections=max_connections, grpc_port=grpc_port)
    found = plan(settings, cores=4, row_s=LIGHT_S, may_fork=True, files=files)
    assert 1 <= found.max_connections <= max_connections
    assert files_for(found.max_connections, ports_of(settings)) <= files
    assert found.max_connections == max_connections or files_for(max_connections, ports_of(settings)) > files


def test_users_are_told_of_processes_and_threads() -> None:
    found = plan(Settings(workers=2), cores=4, row_s=LIGHT_S, may_fork=True)
    assert found.shown() == {"processes": 2, "batch_threads": 2, "intra_op_threads": 1}
