import os
from pathlib import Path

import pytest

from app.system.cores import available_cores


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
