"""How many cores this process may keep busy."""

import math
import os
from collections.abc import Iterator
from pathlib import Path


def available_cores(proc_cgroup: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores this process may keep busy; ONNX Runtime reads neither affinity nor quota, and takes the host's."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = cgroup_quotas(proc_cgroup.read_text(), root) if proc_cgroup.is_file() else ()
    return min([affinity, *(math.ceil(quota) for quota in quotas)])


def cgroup_quotas(memberships: str, root: Path) -> Iterator[float]:
    """CPU limits, in cores, of the cgroups in `/proc/self/cgroup` and of all above them, version 1 and 2."""
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        own = Path(path.lstrip("/"))
        # A parent's limit binds too; and in a container the path may be the host's, with only the top mounted.
        for folder in (own, *own.parents):
            yield from _quota(top / folder, version=1 if controllers else 2)


def _quota(folder: Path, version: int) -> Iterator[float]:
    try:
        if version == 2:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{part}_us").read_text().strip() for part in ("quota", "period"))
    except OSError:
        return
    if quota not in ("max", "-1"):
        yield int(quota) / int(period)
