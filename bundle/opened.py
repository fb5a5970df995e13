"""A bundle that is used from Python, without a service: rows or a table in, embeddings or forecasts out."""

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bundle.folders import BundleError, locate
from bundle.graph_file import check_graph
from bundle.heads import Heads
from bundle.manifest import Manifest
from bundle.reader import Bundle, read_bundle
from bundle.rows import hide, rows_of

# Rows in one run of a graph.
ROWS_A_RUN = 256


class Forecast(NamedTuple):
    """What heads say of each row, now or later."""

    # A head's name, or `head=class` for each class of a head with classes.
    outputs: list[str]
    # [rows, outputs]: probabilities, and numbers in their unit.
    values: NDArray[np.float32]


class OpenBundle:
    """A bundle whose files are checked and whose graphs are opened when they are first asked for."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._sessions: dict[str, ort.InferenceSession] = {}

    @classmethod
    def of(cls, bundle: str | Path) -> "OpenBundle":
        return cls(read_bundle(locate(str(bundle))))

    @property
    def folder(self) -> Path:
        return self._bundle.folder

    @property
    def manifest(self) -> Manifest:
        """What bundle.json says, such as the names of the columns."""
        return self._bundle.manifest

    def __repr__(self) -> str:
        return f"<bundle {self.manifest.name} version {self.manifest.version} in {self.folder}>"

    def embed(
        self,
        source: Any,
        *,
        encoder: Literal["target", "context"] = "target",
        missing: Literal["refuse", "hide"] = "refuse",
    ) -> NDArray[np.float32]:
        """float32 [rows, embed_dim] of a DataFrame of pandas or polars, an Arrow table, a dict of arrays, or an array
        [rows, input_dim] or [input_dim].

        Of a table, columns are taken by name, and those that the model does not know are left out. ValueError for a
        column that is missing, and for a number that is, unless its group is to be hidden in that row.
        """
        if encoder not in ("target", "context"):
            raise ValueError(f"encoder is {encoder!r}; it must be target or context")
        return np.concatenate([*self._embedded(self._rows(source, missing), f"{encoder}_encoder")])

    def forecast(
        self,
        source: Any,
        *,
        heads: Sequence[str] | None = None,
        horizon: int = 0,
        actions: Any = None,
        missing: Literal["refuse", "hide"] = "refuse",
    ) -> Forecast:
        """The values of the bundle's heads, or of those named, for each row of what `embed` takes: of the row itself
        or, with a horizon that the model knows, of the frame that many later.

        `actions` [rows, n, A], or [n, A] beside one row, are the player's own inputs of the n frames that follow, in
        the order of `manifest.actions`, NaN where they are not known. ValueError.
        """
        manifest, chosen = self.manifest, self._heads(heads)
        if horizon not in (known := [0, *manifest.horizons]):
            nearest = min(known, key=lambda each: abs(each - horizon))
            raise ValueError(f"horizon is {horizon}; it must be one of {known}, of which {nearest} is the nearest")
        index = known.index(horizon)
        rows = self._rows(source, missing)
        inputs = None if actions is None else self._inputs(actions, len(rows), horizon)
        parts = self._embedded(rows, "target_encoder") if horizon == 0 else self._ahead(rows, horizon, inputs)
        return Forecast(chosen.outputs, np.concatenate([chosen.values(part, index) for part in parts]))

    def _heads(self, names: Sequence[str] | None) -> Heads:
        heads = self._bundle.heads
        if heads is None:
            raise ValueError(f"{self.folder} has no heads to forecast with; `jepa heads` makes them")
        known = [head.name for head in heads.heads]
        if isinstance(names, str):
            raise ValueError(f"heads is the text {names!r}; give a list of names: heads=[{names!r}]")
        for name in names or ():
            if name not in known:
                nearest = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean '{nearest[0]}'? " if nearest else ""
                raise ValueError(f"'{name}' is no head of {self.folder}; {hint}it has {', '.join(known)}")
        if names is not None and not names:
            raise ValueError("heads is empty; name at least one head, or leave it out for all")
        return heads if names is None else heads.select(names)

    def _rows(self, source: Any, missing: Literal["refuse", "hide"]) -> NDArray[np.float32]:
        """[rows, input_dim], NaN in hidden groups."""
        rows = rows_of(source, self.manifest.feature_schema.names)
        return hide(rows, self.manifest.feature_schema, missing)

    def _embedded(self, rows: NDArray[np.float32], role: str) -> Iterator[NDArray[np.float32]]:
        """The embeddings of some rows after the other, [n, embed_dim] each."""
        session = self._session(role)
        # At least one run, so that no rows have an answer as well, of no rows.
        for start in range(0, max(1, len(rows)), ROWS_A_RUN):
            yield session.run(["embedding"], {"features": rows[start : start + ROWS_A_RUN]})[0]

    def _ahead(
        self, rows: NDArray[np.float32], horizon: int, inputs: NDArray[np.float32] | None
    ) -> Iterator[NDArray[np.float32]]:
        """As `_embedded`, of all patches as they will be; `inputs` are [rows, max_actions, A]."""
        manifest, start = self.manifest, 0
        for context in self._embedded(rows, "context_encoder"):
            count = len(context)
            targets = np.ones((count, len(manifest.patches)), np.float32)
            feeds = {"context": context, "targets": targets, "horizon": np.full(count, horizon, np.float32)}
            if manifest.actions:
                unknown = np.full((count, manifest.max_actions, len(manifest.actions)), np.nan, np.float32)
                feeds["actions"] = unknown if inputs is None else inputs[start : start + count]
            start += count
            yield self._session("predictor").run(["prediction"], feeds)[0]

    def _inputs(self, actions: Any, rows: int, horizon: int) -> NDArray[np.float32]:
        """[rows, n, A] or [n, A] → [rows, max_actions, A]."""
        names, most = self.manifest.actions, self.manifest.max_actions
        if not names:
            raise ValueError(
                f"{self.folder} takes no actions; leave them out, or train with the columns of your inputs"
            )
        if horizon == 0:
            raise ValueError("actions go with a later frame, and horizon is 0, the frame itself; set horizon")
        given = np.asarray(actions, np.float32)
        given = given[None] if given.ndim == 2 else given
        if given.ndim != 3 or (len(given), given.shape[2]) != (rows, len(names)) or not 1 <= given.shape[1] <= most:
            raise ValueError(
                f"actions has shape {list(np.shape(actions))}; it must be [{rows}, n, {len(names)}]: for each row the "
                f"inputs {', '.join(names)} of n frames, 1 to {most}"
            )
        if np.isinf(given).any():
            raise ValueError("actions has infinite numbers; put NaN where an input is not known")
        whole = np.full((len(given), most, len(names)), np.nan, np.float32)
        whole[:, : given.shape[1]] = given
        return whole

    def _session(self, role: str) -> ort.InferenceSession:
        if role not in self._sessions:
            path = self._bundle.graph(role, "float32")
            check_graph(path)
            try:
                self._sessions[role] = ort.InferenceSession(
                    path, _options(), providers=["CPUExecutionProvider"], enable_fallback=False
                )
            # ONNX Runtime raises a dozen unrelated types for a bad file.
            except Exception as error:
                raise BundleError(f"{path} cannot be loaded: {error}") from error
        return self._sessions[role]


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    # A program that trains or plays has better uses for a core than threads that wait on it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return options
