"""`bundle.json`: what a bundle says of itself, read and checked."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bundle.folders import FORMAT, MANIFEST, BundleError

GRAPHS = ("context_encoder", "target_encoder", "predictor")
REQUIRED_FILES = (*(f"{graph}.onnx" for graph in GRAPHS), "golden.npz")

Width = Annotated[int, Field(ge=1)]


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
