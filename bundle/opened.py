"""A bundle that is used from Python, without a service: rows or a table in, embeddings out."""

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bundle.folders import DEFAULT_MODEL, BundleError, locate
from bundle.graph_file import check_graph
from bundle.manifest import Manifest
from bundle.reader import Bundle, read_bundle
from bundle.rows import hide, rows_of

# Rows in one run of a graph.
ROWS_A_RUN = 256


class OpenBundle:
    """A bundle whose files are checked and whose graphs are opened when they are first asked for."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._sessions: dict[str, ort.InferenceSession] = {}

    @classmethod
    def of(cls, bundle: str | Path) -> "OpenBundle":
        return cls(read_bundle(locate(str(bundle), DEFAULT_MODEL)))

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
        rows = rows_of(source, self.manifest.feature_schema.names)
        rows = hide(rows, self.manifest.feature_schema, missing)
        session = self._session(f"{encoder}_encoder")
        embeddings = np.empty((len(rows), self.manifest.embed_dim), np.float32)
        for start in range(0, len(rows), ROWS_A_RUN):
            part = {"features": rows[start : start + ROWS_A_RUN]}
            embeddings[start : start + ROWS_A_RUN] = session.run(["embedding"], part)[0]
        return embeddings

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
