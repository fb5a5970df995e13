"""Reads and checks a model bundle, `<models>/<name>/<version>/`: the only thing training and serving share."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from bundle.files import open_regular, read_file, sha256_of
from bundle.folders import MANIFEST, BundleError
from bundle.golden import MAX_GOLDEN_BYTES, Golden, parse_golden
from bundle.heads import MAX_HEADS_BYTES, Heads, parse_heads
from bundle.manifest import GRAPHS, HEADS, Manifest, read_manifest
from bundle.novelty import MAX_NOVELTY_BYTES, NOVELTY_FILE, Novelty, parse_novelty

# Of all files of a bundle together, unless the caller says otherwise.
MAX_BUNDLE_BYTES = 2**31


class Bundle:
    """A bundle whose manifest makes sense and whose files are those the manifest lists."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @cached_property
    def golden(self) -> Golden:
        path = self.folder / "golden.npz"
        return parse_golden(read_file(path, MAX_GOLDEN_BYTES), path, self.manifest)

    @cached_property
    def heads(self) -> Heads | None:
        """None where the bundle has none."""
        if not self.manifest.heads:
            return None
        path, embed_dim, horizons = self.folder / HEADS, self.manifest.embed_dim, len(self.manifest.horizons)
        return parse_heads(read_file(path, MAX_HEADS_BYTES), path, self.manifest.listed_heads(), embed_dim, horizons)

    @cached_property
    def novelty(self) -> Novelty | None:
        """None where the bundle does not say how far from training a frame is."""
        if NOVELTY_FILE not in self.manifest.files:
            return None
        path = self.folder / NOVELTY_FILE
        content = read_file(path, MAX_NOVELTY_BYTES)
        return parse_novelty(content, path, self.manifest.embed_dim, self.manifest.input_dim)

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


def read_bundle(folder: Path, max_bytes: int = MAX_BUNDLE_BYTES) -> Bundle:
    """Raises BundleError unless the folder holds a whole bundle of at most that many bytes: a half-written one never
    gets through, and of one that is too large no file but bundle.json is read."""
    manifest = read_manifest(folder)
    if (size := sum(entry.bytes for entry in manifest.files.values())) > max_bytes:
        raise BundleError(f"the files of {folder} have {size} bytes; a bundle may have {max_bytes}")
    for problem in file_problems(folder, manifest):
        raise BundleError(problem)
    return Bundle(folder, manifest)


def file_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """What is wrong with the files the manifest lists, one sentence each."""
    for name, entry in manifest.files.items():
        path = folder / name
        if Path(name).name != name:
            yield f"{folder / MANIFEST} lists '{name}', which is not a plain file name"
            continue
        try:
            with open_regular(path) as (file, size):
                if size != entry.bytes:
                    yield f"{path} has {size} bytes, {MANIFEST} says {entry.bytes}; copy the bundle again"
                elif sha256_of(file, size) != entry.sha256:
                    yield f"{path} does not have the SHA-256 that {MANIFEST} says; copy the bundle again"
        except FileNotFoundError:
            yield f"{path} is missing"
        except BundleError as error:
            yield str(error)
