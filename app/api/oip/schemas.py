"""Schemas of the Open Inference Protocol: pydantic validates requests with them, and /docs shows them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from app.api.validation import OrNull

Integer = Literal["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]
Datatype = Literal["FP32", "FP64", "FP16", "BF16", "BOOL", Integer, "BYTES"]


class TensorParameters(BaseModel):
    binary_data_size: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Size in bytes of this input's data behind the JSON, instead of data"
    )
    shared_memory_region: Any = Field(default=None, description="Not offered")


# What most tensors and requests say, made once: nobody changes it.
_NO_TENSOR_PARAMETERS = TensorParameters()


class InferInput(BaseModel):
    name: str
    shape: list[Annotated[int, Field(ge=0)]]
    datatype: Datatype
    parameters: Annotated[TensorParameters, OrNull({})] = Field(default_factory=lambda: _NO_TENSOR_PARAMETERS)
    data: Annotated[Any, WithJsonSchema({"type": "array", "items": {}})] = Field(
        default=None, description="Row-major, flat or nested"
    )


class OutputParameters(BaseModel):
    binary_data: bool | None = Field(
        default=None, description="Whether this output follows the JSON as binary data (default: binary_data_output)"
    )
    shared_memory_region: Any = Field(default=None, description="Not offered")
    classification: Any = Field(default=None, description="Not offered")


class InferOutput(BaseModel):
    name: str
    parameters: Annotated[OutputParameters, OrNull({})] = Field(default_factory=OutputParameters)


class InferParameters(BaseModel):
    """Parameters of the protocol; the models take some of `hidden`, `horizon`, `heads` and `novelty` as well."""

    model_config = ConfigDict(extra="allow")

    binary_data_output: Annotated[bool, OrNull(False)] = Field(
        default=False, description="Whether outputs follow the JSON as binary data"
    )
    timeout: Annotated[int, OrNull(0), Field(ge=0, lt=2**63)] = Field(
        default=0,
        description="Deadline in microseconds, 0 for none; a request that misses it gets 504 and is not computed",
    )
    priority: Any = Field(default=None, description="Accepted, without effect: there is one queue")
    sequence_id: Any = Field(default=None, description="Accepted, without effect: the models are stateless")
    sequence_start: Any = None
    sequence_end: Any = None
    headers: Any = None


_NO_PARAMETERS = InferParameters()


def _whole(text: str) -> str:
    """Refuses lone surrogates, which JSON can hold and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("id has half a surrogate pair in it; send whole characters") from None
    return text


class InferRequest(BaseModel):
    """An inference request; binary inputs follow it at `Inference-Header-Content-Length` bytes into the body."""

    id: Annotated[str, AfterValidator(_whole)] | None = Field(None, description="Repeated in the answer")
    inputs: list[InferInput]
    outputs: list[InferOutput] | None = Field(None, description="Outputs to return (default: all)")
    parameters: Annotated[InferParameters, OrNull({})] = Field(default_factory=lambda: _NO_PARAMETERS)


class InferAnswer(BaseModel):
    """An inference answer; binary outputs follow it at `Inference-Header-Content-Length` bytes into the body."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[dict[str, Any]] = Field(
        description="name, datatype, shape, and either data or the size of the binary data"
    )


class TensorCard(BaseModel):
    name: str
    datatype: str
    shape: list[int] = Field(description="-1 stands for any number of rows")


class InferModelCard(BaseModel):
    """A model as the Open Inference Protocol describes it."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorCard]
    outputs: list[TensorCard]


class InferRefusal(BaseModel):
    """An error of the Open Inference Protocol."""

    error: str


def _number(value: object) -> object:
    """A version as an integer; Triton's clients send text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


_WRITTEN_VERSION = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^0*[1-9][0-9]*$"}]}
Version = Annotated[int, Field(ge=1), BeforeValidator(_number), WithJsonSchema(_WRITTEN_VERSION)]


class RepositoryParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    version: Version | None = Field(
        default=None, description="Version to serve and pin (default: the highest, not pinned)"
    )
    unload_dependents: bool = Field(default=False, description="Accepted, without effect: no model depends on another")


class RepositoryRequest(BaseModel):
    """The optional body of all three requests to the model repository."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ready: bool = Field(default=False, description="Whether the index leaves out versions that are not served")
    parameters: RepositoryParameters = RepositoryParameters()


class RepositoryEntry(BaseModel):
    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = Field(description="Why the version is not served; empty if it is")
