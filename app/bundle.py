"""Reads and checks a model bundle, `<models>/<name>/<version>/`: the only thing training and serving share."""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FORMAT = 1
MANIFEST = "bundle.json"
GRAPHS = ("context_encoder", "target_encoder", "predictor")
REQUIRED_FILES = (*(f"{graph}.onnx" for graph in GRAPHS), "golden.npz")

Width = Annotated[int, Field(ge=1)]


class BundleError(Exception):
    """The folder is not a bundle that can be trusted; says what is wrong and where."""


class Group(BaseModel):
    """A named run of columns, `start` included, `stop` not."""

    name: str
    start: int
    stop: int


class FeatureSchema(BaseModel):
    """Names of the columns, and the groups that cut them into consecutive parts."""

    names: list[str]
    groups: list[Group]


class Patch(BaseModel):
    """One token of the encoder: one or more whole groups."""

    name: str
    groups: list[str]


class FileEntry(BaseModel):
    sha256: str
    bytes: int


class Cost(BaseModel):
    """How far a format's answers are from float32's, measured at export on `rows` held-out rows: of the worst graph
    the variance of the difference over that of the embedding, the least cosine, the largest difference; and the least
    cosine on the golden rows, which another machine must come near."""

    rows: int
    noise: float
    least_cosine: float
    largest_difference: float
    golden_cosine: float


class Manifest(BaseModel):
    """`bundle.json`. Keys that are not listed here are ignored, so that older services read newer bundles."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    format: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    version: Width
    created: str
    input_dim: Width
    embed_dim: Width
    feature_schema: FeatureSchema = Field(alias="schema")
    schema_hash: str
    patches: Annotated[list[Patch], Field(min_length=1)]
    horizons: Annotated[list[int], Field(min_length=1)]
    options: dict[str, Any] = {}
    statistics: dict[str, list[float]] = {}
    training: dict[str, Any] = {}
    history: dict[str, list[float]] = {}
    loss_quantiles: dict[int, Annotated[list[float], Field(min_length=101, max_length=101)]] = {}
    licence: str = ""
    data: dict[str, Any] = {}
    precision: dict[str, Cost] = {}
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        schema = self.feature_schema
        if len(schema.names) != self.input_dim:
            raise ValueError(f"schema names {len(schema.names)} columns, but input_dim is {self.input_dim}")
        edges = [0, *(group.stop for group in schema.groups)]
        if (
            [group.start for group in schema.groups] != edges[:-1]
            or edges[-1] != self.input_dim
            or edges != sorted(set(edges))
        ):
            raise ValueError(f"schema groups must cut the columns 0 … {self.input_dim} into consecutive parts")
        grouped = [name for patch in self.patches for name in patch.groups]
        if sorted(grouped) != sorted(group.name for group in schema.groups):
            raise ValueError("patches must hold every group of the schema exactly once")
        if missing := [name for name in REQUIRED_FILES if name not in self.files]:
            raise ValueError(f"files lacks {', '.join(missing)}")
        return self


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


def read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        # Stricter than json.loads: what it lets through, such as NaN or half a surrogate pair, /models could not show.
        document = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise BundleError(
            f"{folder} has no {MANIFEST}; a bundle is a folder <models>/<name>/<version>/ with one"
        ) from None
    except (ValueError, OSError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if isinstance(document, dict) and document.get("format") != FORMAT:
        raise BundleError(f"{path} has format {document.get('format')!r}; this program reads format {FORMAT}")
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise BundleError(f"{path}: {'.'.join(map(str, first['loc']))} {first['msg']}".replace(":  ", ": ")) from error
    if manifest.schema_hash != (actual := schema_hash(document["schema"])):
        raise BundleError(f"{path}: schema_hash is {manifest.schema_hash}, but the schema hashes to {actual}")
    return manifest


def schema_hash(schema: dict[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON: bot and model agree on a row's layout if they agree on this."""
    return hashlib.sha256(json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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


def versions(model_folder: Path) -> dict[int, Path]:
    """The version folders of one model, highest first; names that are no positive integer are none of ours."""
    numbered = {
        int(folder.name): folder
        for folder in model_folder.iterdir()
        if folder.is_dir() and folder.name.isdecimal() and str(int(folder.name)) == folder.name != "0"
    }
    return dict(sorted(numbered.items(), reverse=True))


def locate(bundle: str, default: Path) -> Path:
    """The version folder that BUNDLE on the command line means: itself, a model's highest version, or `default`'s."""
    folder = default if bundle == "default" else Path(bundle)
    if not folder.is_dir():
        raise BundleError(f"{bundle} is not a folder; name a bundle's folder, or 'default' for the bundled model")
    if (folder / MANIFEST).is_file():
        return folder
    if found := versions(folder):
        return next(iter(found.values()))
    raise BundleError(f"{folder} is no bundle: it holds neither {MANIFEST} nor folders named 1, 2, … that do")
