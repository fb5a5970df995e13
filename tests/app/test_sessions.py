import os
from pathlib import Path

import numpy as np
import pytest

from app.sessions import Graph, Graphs, available_cores, session_options
from bundle.folders import BundleError
from bundle.reader import read_bundle
from tests.support.bundles import TinyModel


def cores(tmp_path: Path, memberships: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Of a process on 32 cores in those cgroups."""
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "memberships").write_text(memberships)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)), raising=False)
    return available_cores(tmp_path / "memberships", tmp_path / "cgroup")


@pytest.mark.parametrize(
    ("memberships", "files", "expected"),
    [
        pytest.param("0::/\n", {}, 32, id="no limit anywhere"),
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, 32, id="v2 without a limit"),
        pytest.param("0::/\n", {"cpu.max": "200000 100000\n"}, 2, id="v2 in a container"),
        pytest.param("0::/\n", {"cpu.max": "150000 100000\n"}, 2, id="a part of a core counts as one"),
        pytest.param("0::/\n", {"cpu.max": "10000 100000\n"}, 1, id="never less than one"),
        pytest.param(
            "0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3, id="a parent's limit"
        ),
        pytest.param("0::/host/path\n", {"cpu.max": "400000 100000"}, 4, id="v2, the path being the host's"),
        pytest.param(
            "4:cpu,cpuacct:/docker/x\n1:name=systemd:/\n",
            {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3,
            id="v1 in a container",
        ),
        pytest.param(
            "4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 32, id="v1 without"
        ),
        pytest.param("7:memory:/\n", {"cpu.max": "100000 100000"}, 32, id="another controller's cgroup"),
    ],
)
def test_cores_are_what_the_container_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memberships: str, files: dict[str, str], expected: int
) -> None:
    assert cores(tmp_path, memberships, files, monkeypatch) == expected


def test_affinity_binds_where_there_is_no_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert available_cores(tmp_path / "nothing", tmp_path) == 1


def test_idle_threads_do_not_spin_and_memory_does_not_only_grow() -> None:
    options = session_options(2)
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert not options.enable_cpu_mem_arena


def test_opening_a_session_leaves_the_arithmetic_of_this_thread_alone(models: Path) -> None:
    Graphs(read_bundle(models / "tiny" / "1"))
    assert 5e-324 / 1 > 0  # ONNX Runtime's set_denormal_as_zero would make it 0 for all code in the thread


def test_graphs_compute_any_number_of_rows(models: Path, tiny: TinyModel) -> None:
    graphs = Graphs(read_bundle(models / "tiny" / "1"))
    for count in (1, 2, 7):
        rows = tiny.rows(count)
        np.testing.assert_allclose(graphs.target_encoder.run(rows), tiny.encode(rows), atol=1e-5)
        np.testing.assert_allclose(graphs.context_encoder.run(rows), tiny.encode(rows, "context"), atol=1e-5)


def test_a_graph_with_other_names_or_widths_is_refused(models: Path) -> None:
    encoder = models / "tiny" / "1" / "target_encoder.onnx"
    with pytest.raises(BundleError, match=r"has inputs \['features'\]; it must have \['pixels'\]"):
        Graph(encoder, {"pixels": [10]}, "embedding", 4, threads=1)
    with pytest.raises(BundleError, match=r"input features is \['batch', 10\]; it must be \['batch', 11\], any batch"):
        Graph(encoder, {"features": [11]}, "embedding", 4, threads=1)
    with pytest.raises(BundleError, match=r"output embedding is \['batch', 4\]; it must be \['batch', 5\]"):
        Graph(encoder, {"features": [10]}, "embedding", 5, threads=1)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not onnx")
    with pytest.raises(BundleError, match=r"x\.onnx cannot be loaded"):
        Graph(tmp_path / "x.onnx", {"features": [1]}, "embedding", 1, threads=1)
