"""ONNX Runtime sessions: no thread that spins, no arena that only grows."""

from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import onnxruntime as ort

from app.inference.devices import PROVIDERS, runs_on
from app.rows import Array
from app.settings import Device
from bundle.folders import BundleError
from bundle.graph_file import check_graph
from bundle.manifest import Manifest
from bundle.reader import Bundle


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


class Stop:
    """Ends what ONNX Runtime does for one load, from any thread: making a session, or a run."""

    def __init__(self) -> None:
        self.run_options = ort.RunOptions()
        self._opening: list[ort.SessionOptions] = []
        self._is_set = False

    def watch(self, options: ort.SessionOptions) -> None:
        """The session that is about to be made with these options ends as well."""
        self._opening.append(options)
        if self._is_set:
            options.set_load_cancellation_flag(True)

    def set(self) -> None:
        self._is_set = True
        self.run_options.terminate = True
        for options in self._opening:
            options.set_load_cancellation_flag(True)


# Of the load that runs in this thread.
current_stop: ContextVar[Stop | None] = ContextVar("current_stop", default=None)


class Graph:
    """One ONNX graph: float32 rows in, float32 rows out."""

    def __init__(
        self,
        path: Path,
        inputs: Mapping[str, list[int]],
        output: str,
        width: int,
        threads: int,
        device: Device = "cpu",
    ) -> None:
        """`inputs` maps names to the dimensions after the batch; what the file says otherwise is a BundleError."""
        options, stop = session_options(threads), current_stop.get()
        if stop is not None:
            stop.watch(options)
        self._run_options = None if stop is None else stop.run_options
        check_graph(path)
        try:
            # By its path: of a graph given as bytes ONNX Runtime's wrapper keeps those bytes as well.
            # Without the fallback, by which the wrapper would print what a bad file holds, and open it once more.
            self._session = ort.InferenceSession(path, options, providers=PROVIDERS[device], enable_fallback=False)
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types for a bad file
            raise BundleError(f"{path} cannot be loaded: {error}") from error
        if not runs_on(self._session, device):
            raise BundleError(f"{path} cannot be opened on the GPU; ONNX Runtime would run it on the CPU instead")
        found = {node.name: node.shape for node in self._session.get_inputs()}
        found_output = {node.name: node.shape for node in self._session.get_outputs()}
        _check_shapes(path, "input", found, inputs)
        _check_shapes(path, "output", found_output, {output: [width]})
        self._inputs = tuple(inputs)
        self._outputs = [output]

    def run(self, *inputs: Array) -> Array:
        """Arrays in the order of `inputs`, [B, …] each → [B, width]. Safe in several threads; frees the GIL."""
        feeds = dict(zip(self._inputs, inputs, strict=True))
        output: Array = self._session.run(self._outputs, feeds, self._run_options)[0]
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

    def __init__(self, bundle: Bundle, precision: str = "float32", threads: int = 1, device: Device = "cpu") -> None:
        manifest = bundle.manifest
        self.context_encoder = _encoder("context_encoder", bundle, precision, threads, device)
        self.target_encoder = _encoder("target_encoder", bundle, precision, threads, device)
        predictor_inputs = {"context": [manifest.embed_dim], "targets": [len(manifest.patches)], "horizon": []}
        if manifest.actions:
            predictor_inputs["actions"] = [manifest.max_actions, len(manifest.actions)]
        self.predictor = Graph(
            bundle.graph("predictor", precision), predictor_inputs, "prediction", manifest.embed_dim, threads, device
        )
        self._unknown = np.full((1, *predictor_inputs.get("actions", ())), np.nan, np.float32)

    def predict(self, context: Array, targets: Array, horizon: Array) -> Array:
        """A run of the predictor on [B, embed_dim], [B, patches] and [B], none of the player's own inputs known."""
        if self._unknown.ndim == 1:
            return self.predictor.run(context, targets, horizon)
        return self.predictor.run(context, targets, horizon, np.repeat(self._unknown, len(context), axis=0))


def _encoder(role: str, bundle: Bundle, precision: str, threads: int, device: Device) -> Graph:
    manifest: Manifest = bundle.manifest
    path = bundle.graph(role, precision)
    return Graph(path, {"features": [manifest.input_dim]}, "embedding", manifest.embed_dim, threads, device)
