"""`bundle.json`: what a bundle says of itself, read and checked."""

from pathlib import Path
from typing import Annotated, Any, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from bundle.folders import FORMAT, MANIFEST, NAME_PATTERN, BundleError
from bundle.schema import Schema, schema_hash

GRAPHS = ("context_encoder", "target_encoder", "predictor")
REQUIRED_FILES = (*(f"{graph}.onnx" for graph in GRAPHS), "golden.npz")

Width = Annotated[int, Field(ge=1)]


class PatchEntry(BaseModel):
    """A token of the encoder, and the names of the groups that it stands for."""

    name: str
    groups: list[str]


class FileEntry(BaseModel):
    """What a file must be for the bundle to be whole."""

    sha256: str
    bytes: int


class Cost(BaseModel):
    """How far the answers of a number format are from those of float32, of whichever graph is worst.

    Measured at export on `rows` held-out rows, except `golden_cosine`, which is measured on the golden rows so that
    the machine that serves the bundle can repeat it.
    """

    rows: int
    # The variance of the difference over the variance of the embedding.
    noise: float
    least_cosine: float
    largest_difference: float
    golden_cosine: float


class Manifest(BaseModel):
    """`bundle.json` of format FORMAT. Unknown keys are ignored, so that older services read newer bundles."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: Width
    created: str
    input_dim: Width
    embed_dim: Width
    feature_schema: Annotated[Schema, PlainValidator(Schema.from_dict)] = Field(alias="schema")
    schema_hash: str
    patches: Annotated[list[PatchEntry], Field(min_length=1)]
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
        if schema.input_dim != self.input_dim:
            raise ValueError(f"schema names {len(schema.names)} columns, but input_dim is {self.input_dim}")
        grouped = [name for patch in self.patches for name in patch.groups]
        if sorted(grouped) != sorted(group.name for group in schema.groups):
            raise ValueError("patches must hold every group of the schema exactly once")
        if missing := [name for name in REQUIRED_FILES if name not in self.files]:
            raise ValueError(f"files lacks {', '.join(missing)}")
        return self


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`; BundleError names what is wrong with it."""
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
        where, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise BundleError(f"{path}: {where} {what}" if where else f"{path}: {what}") from error
    if manifest.schema_hash != (actual := schema_hash(document["schema"])):
        raise BundleError(f"{path}: schema_hash is {manifest.schema_hash}, but the schema hashes to {actual}")
    return manifest
