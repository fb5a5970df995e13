"""ONNX Runtime sessions for a container: as many threads as it may use, none that spins, no arena that only grows."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bundle.folders import BundleError
from bundle.manifest import Manifest
from bundle.reader import Bundle

Array = NDArray[np.float32]


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


def session_options(intra_op_threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    # Idle pool threads spin: 71 % of a core at 60 calls a second, against 7 % without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena keeps the memory of the largest batch it ever saw.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4  # what is less than fatal is raised, and logged as the service logs
    return options


class Graph:
    """One ONNX graph: float32 rows in, float32 rows out."""

    def __init__(self, path: Path, inputs: Mapping[str, list[int]], output: str, width: int, threads: int) -> None:
        """`inputs` maps names to the dimensions after the batch; what the file says otherwise is a BundleError."""
        try:
            self._session = ort.InferenceSession(path, session_options(threads), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types for a bad file
            raise BundleError(f"{path} cannot be loaded: {error}") from error
        found = {node.name: node.shape for node in self._session.get_inputs()}
        found_output = {node.name: node.shape for node in self._session.get_outputs()}
        _check_shapes(path, "input", found, inputs)
        _check_shapes(path, "output", found_output, {output: [width]})
        self._inputs = tuple(inputs)
        self._outputs = [output]

    def run(self, *inputs: Array) -> Array:
        """Arrays in the order of `inputs`, [B, …] each → [B, width]. Safe in several threads; frees the GIL."""
        feeds = dict(zip(self._inputs, inputs, strict=True))
        output: Array = self._session.run(self._outputs, feeds)[0]
        return output


def _check_shapes(path: Path, side: str, found: Mapping[str, list[object]], wanted: Mapping[str, list[int]]) -> None:
    if found.keys() != wanted.keys():
        raise BundleError(f"{path} has {side}s {sorted(found)}; it must have {sorted(wanted)}")
    for name, dims in wanted.items():
        batch, *rest = found[name]
        if isinstance(batch, int) or rest != dims:
            raise BundleError(f"{path}: {side} {name} is {found[name]}; it must be {['batch', *dims]}, any batch")


class Graphs:
    """The three graphs of a bundle, opened."""

    def __init__(self, bundle: Bundle, precision: str = "float32", threads: int = 1) -> None:
        manifest = bundle.manifest
        self.context_encoder = _encoder("context_encoder", bundle, precision, threads)
        self.target_encoder = _encoder("target_encoder", bundle, precision, threads)
        predictor_inputs = {"context": [manifest.embed_dim], "targets": [len(manifest.patches)], "horizon": []}
        self.predictor = Graph(
            bundle.graph("predictor", precision), predictor_inputs, "prediction", manifest.embed_dim, threads
        )


def _encoder(role: str, bundle: Bundle, precision: str, threads: int) -> Graph:
    manifest: Manifest = bundle.manifest
    path = bundle.graph(role, precision)
    return Graph(path, {"features": [manifest.input_dim]}, "embedding", manifest.embed_dim, threads)
