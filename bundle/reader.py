"""Reads and checks a model bundle, `<models>/<name>/<version>/`: the only thing training and serving share."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.folders import MANIFEST, BundleError
from bundle.manifest import GRAPHS, Manifest, read_manifest


class Golden(NamedTuple):
    """Inputs with the outputs PyTorch gave for them at export."""

    features: NDArray[np.float32]  # [n, input_dim], NaN where a group is hidden
    context_embedding: NDArray[np.float32]  # [n, embed_dim]
    target_embedding: NDArray[np.float32]  # [n, embed_dim]
    targets: NDArray[np.float32]  # [n, patches], 1 = predict it
    horizon: NDArray[np.float32]  # [n], frames ahead
    prediction: NDArray[np.float32]  # [n, embed_dim]


class Bundle:
    """A bundle whose manifest makes sense and whose files are those the manifest lists."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @cached_property
    def golden(self) -> Golden:
        with np.load(self.folder / "golden.npz", allow_pickle=False) as arrays:
            if missing := [name for name in Golden._fields if name not in arrays]:
                raise BundleError(f"{self.folder / 'golden.npz'} lacks {', '.join(missing)}")
            return Golden(*(arrays[name].astype(np.float32) for name in Golden._fields))

    def has(self, precision: str) -> bool:
        """Whether every graph is there in that precision."""
        return all(_file_name(role, precision) in self.manifest.files for role in GRAPHS)

    def graph(self, role: str, precision: str) -> Path:
        """The file of "context_encoder", "target_encoder" or "predictor" in that precision."""
        name = _file_name(role, precision)
        if name not in self.manifest.files:
            raise BundleError(f"{self.folder} has no {name}; serve it with precision float32, or export it again")
        return self.folder / name


def _file_name(role: str, precision: str) -> str:
    return f"{role}.onnx" if precision == "float32" else f"{role}.{precision}.onnx"


def read_bundle(folder: Path) -> Bundle:
    """Raises BundleError unless the folder holds a whole bundle: a half-written one never gets through."""
    manifest = read_manifest(folder)
    for problem in file_problems(folder, manifest):
        raise BundleError(problem)
    return Bundle(folder, manifest)


def file_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """What is wrong with the files the manifest lists, one sentence each."""
    for name, entry in manifest.files.items():
        path = folder / name
        if Path(name).name != name:
            yield f"{folder / MANIFEST} lists '{name}', which is not a plain file name"
        elif not path.is_file():
            yield f"{path} is missing"
        elif path.stat().st_size != entry.bytes:
            yield f"{path} has {path.stat().st_size} bytes, {MANIFEST} says {entry.bytes}; copy the bundle again"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != entry.sha256:
            yield f"{path} does not have the SHA-256 that {MANIFEST} says; copy the bundle again"
