"""`bundle.json`: what a bundle says of itself, read and checked."""

from pathlib import Path
from typing import Annotated, Any, Self

import orjson
from pydantic import BaseModel, ConfigDict, FailFast, Field, PlainValidator, ValidationError, model_validator

from bundle.files import read_file
from bundle.folders import FORMAT, MANIFEST, MAX_VERSION, NAME_PATTERN, BundleError
from bundle.heads import Head, Kind
from bundle.sample import SAMPLE
from bundle.schema import MAX_ACTION_COLUMNS, MAX_ACTION_FRAMES, MAX_ACTION_NUMBERS, Schema, schema_hash

GRAPHS = ("context_encoder", "target_encoder", "predictor")
REQUIRED_FILES = (*(f"{graph}.onnx" for graph in GRAPHS), "golden.npz")
HEADS = "heads.npz"

# That of a row of 60,000 columns with all that is known of them; parsed it takes up to twenty times as much.
MAX_MANIFEST_BYTES = 2**23
# Columns of a row, and numbers of an embedding.
MAX_WIDTH = 2**17
# Keys of a part of the manifest that is described key by key, such as the files.
MAX_KEYS = 1000
# What training says of itself, written as JSON: every answer of /models repeats it.
MAX_ABOUT_BYTES = 2**18
ABOUT = ("created", "options", "training", "licence", "data", "sample")
# Of all heads together: every answer that asks for none by name has as many numbers a row.
MAX_OUTPUTS = 10_000
# What the heads say of themselves, written as JSON.
MAX_HEADS_ABOUT_BYTES = 2**20
# Heads are named in query strings, in lists with commas, and before the = of a class.
HEAD_NAME_PATTERN = r"^[^\s,=]{1,64}$"

Distance = Annotated[float, Field(ge=0)]
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
# pydantic takes about a kilobyte for each of the items that are wrong, so it stops at the first one.
Numbers = Annotated[list[float], FailFast()]
Quantiles = Annotated[list[float], FailFast(), Field(min_length=101, max_length=101)]


class PatchEntry(BaseModel):
    """A token of the encoder, and the names of the groups that it stands for."""

    name: str
    groups: Annotated[list[str], FailFast()]


class FileEntry(BaseModel):
    """What a file must be for the bundle to be whole."""

    sha256: str
    bytes: Annotated[int, Field(ge=0)]


class HeadEntry(BaseModel):
    """A head of heads.npz: what it answers, where its labels came from, and how well it did on held-out games."""

    name: Annotated[str, Field(pattern=HEAD_NAME_PATTERN)]
    kind: Kind
    # As answers name them: the head's name, or `head=class` for each class.
    outputs: Annotated[list[str], FailFast(), Field(min_length=1, max_length=MAX_OUTPUTS)]
    # The formula over columns that made its labels, and what its values 0, 1, … are called where it gives numbers.
    labels: str = ""
    classes: Annotated[list[str], FailFast()] = []
    table: dict[str, Any] = {}

    @model_validator(mode="after")
    def _outputs_are_those_of_its_kind(self) -> Self:
        if self.kind != "classes" and self.outputs != [self.name]:
            raise ValueError(f"outputs of the {self.kind} head '{self.name}' must be its name alone")
        if self.kind == "classes" and not all(output.startswith(f"{self.name}=") for output in self.outputs):
            raise ValueError(f"outputs of the head '{self.name}' must be written '{self.name}=class'")
        return self


class Cost(BaseModel):
    """How far the answers of a number format are from those of float32, of whichever graph is worst, on `rows` held-out
    rows."""

    rows: int
    # The variance of the difference over the variance of the embedding.
    noise: float
    least_cosine: float
    largest_difference: float


class Parity(BaseModel):
    """How far a graph's answers to the golden rows were at export from those of the trained network in float64, as
    `bundle.parity.distance` measures it."""

    # Those of the trained network in float32; None where nobody measured them.
    pytorch: Distance | None = None
    float32: Distance
    # None where there is no such graph.
    int8: Distance | None = None


class Sample(BaseModel):
    """`sample.npz`: consecutive frames of one game to look at, as the array `features` [rows, input_dim]."""

    rows: Annotated[int, Field(ge=1)]
    # Frames a second.
    rate: Annotated[float, Field(gt=0)]
    # Where the frames come from, in words for a reader.
    source: str


class Map(BaseModel):
    """The two principal components of embeddings: a point's place is (embedding − mean) · component."""

    mean: Numbers
    components: Annotated[list[Numbers], Field(min_length=2, max_length=2)]
    # The share of the variance along each.
    explained: Annotated[list[float], Field(min_length=2, max_length=2)]
    # What the components were computed from, in words.
    source: str


class Manifest(BaseModel):
    """`bundle.json` of format FORMAT. Unknown keys are ignored, so that older services read newer bundles."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: Annotated[int, Field(ge=1, le=MAX_VERSION)]
    created: str
    input_dim: Width
    embed_dim: Width
    feature_schema: Annotated[Schema, PlainValidator(Schema.from_dict)] = Field(alias="schema")
    schema_hash: str
    patches: Annotated[list[PatchEntry], FailFast(), Field(min_length=1)]
    horizons: Annotated[list[int], FailFast(), Field(min_length=1, max_length=MAX_KEYS)]
    options: dict[str, Any] = {}
    statistics: dict[str, Numbers] = {}
    training: dict[str, Any] = {}
    history: dict[str, Numbers] = {}
    # The player's own inputs of a frame, and of how many frames the predictor takes them; none where it knows of none.
    actions: Annotated[list[str], FailFast(), Field(max_length=MAX_ACTION_COLUMNS)] = []
    max_actions: Annotated[int, Field(ge=0, le=MAX_ACTION_FRAMES)] = 0
    # The values of an input that is one of several classes; the others are numbers.
    action_values: dict[str, Numbers] = {}
    loss_quantiles: dict[int, Quantiles] = {}
    licence: str = ""
    data: dict[str, Any] = {}
    precision: dict[str, Cost] = {}
    heads: Annotated[list[HeadEntry], FailFast(), Field(max_length=MAX_KEYS)] = []
    parity: dict[str, Parity] = {}
    sample: Sample | None = None
    map: Map | None = None
    files: dict[str, FileEntry]

    @model_validator(mode="before")
    @classmethod
    def _parts_are_of_a_size_that_makes_sense(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for key in ("statistics", "history", "action_values", "loss_quantiles", "precision", "parity", "files"):
            if isinstance(part := values.get(key), dict) and len(part) > MAX_KEYS:
                raise ValueError(f"{key} has {len(part)} keys; it may have {MAX_KEYS}")
        if (size := _json_bytes([values.get("heads")])) > MAX_HEADS_ABOUT_BYTES:
            raise ValueError(f"heads take {size} bytes; they may take {MAX_HEADS_ABOUT_BYTES}")
        if (size := _json_bytes([values.get(key) for key in ABOUT])) > MAX_ABOUT_BYTES:
            raise ValueError(f"{', '.join(ABOUT)} take {size} bytes; together they may take {MAX_ABOUT_BYTES}")
        return values

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
        self._check_actions()
        self._check_heads()
        if self.sample is not None and SAMPLE not in self.files:
            raise ValueError(f"files lacks {SAMPLE}, which sample tells of")
        if self.map is not None and {len(self.map.mean), *map(len, self.map.components)} != {self.embed_dim}:
            raise ValueError(f"map needs {self.embed_dim} numbers, embed_dim, in its mean and in each component")
        return self

    def _check_actions(self) -> None:
        if len({*self.actions}) < len(self.actions):
            raise ValueError("actions repeat a name; each number of an input must have a name of its own")
        if bool(self.actions) != bool(self.max_actions):
            raise ValueError(
                f"actions names {len(self.actions)} numbers and max_actions is {self.max_actions}; a predictor takes "
                "both or neither"
            )
        if (count := len(self.actions) * self.max_actions) > MAX_ACTION_NUMBERS:
            raise ValueError(f"actions times max_actions is {count}; it may be {MAX_ACTION_NUMBERS}")
        if unknown := self.action_values.keys() - {*self.actions}:
            raise ValueError(f"action_values has {min(unknown)!r:.80}, which actions does not name")

    def _check_heads(self) -> None:
        names = [head.name for head in self.heads]
        outputs = [output for head in self.heads for output in head.outputs]
        if len({*names}) < len(names) or len({*outputs}) < len(outputs):
            raise ValueError("heads repeat a name; heads and outputs must each have a name of their own")
        if len(outputs) > MAX_OUTPUTS:
            raise ValueError(f"heads have {len(outputs)} outputs; together they may have {MAX_OUTPUTS}")
        if self.heads and HEADS not in self.files:
            raise ValueError(f"files lacks {HEADS}, which heads tell of")

    def listed_heads(self) -> list[Head]:
        """The heads in the order of the columns of heads.npz."""
        return [Head(entry.name, entry.kind, tuple(entry.outputs)) for entry in self.heads]


def _json_bytes(parts: list[Any]) -> int:
    try:
        return len(orjson.dumps(parts))
    except orjson.JSONEncodeError:
        # It reads what is nested deeper than it writes.
        raise ValueError(f"{', '.join(ABOUT)} or heads are nested too deep; write them flatter") from None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`; BundleError names what is wrong with it."""
    path = folder / MANIFEST
    try:
        # Stricter than json.loads: what it lets through, such as NaN or half a surrogate pair, /models could not show.
        document = orjson.loads(read_file(path, MAX_MANIFEST_BYTES))
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
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise BundleError(f"{path}: {where} {what}" if where else f"{path}: {what}") from error
    if manifest.schema_hash != (actual := schema_hash(document["schema"])):
        raise BundleError(f"{path}: schema_hash is {manifest.schema_hash}, but the schema hashes to {actual}")
    return manifest
