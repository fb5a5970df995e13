"""What the endpoints of the Open Inference Protocol take and answer: pydantic checks by these, and /docs shows them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

Integer = Literal["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]
Datatype = Literal["FP32", "FP64", "FP16", "BF16", "BOOL", Integer, "BYTES"]


class TensorParameters(BaseModel):
    binary_data_size: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Bytes of this input behind the JSON, in place of data"
    )
    shared_memory_region: Any = Field(default=None, description="Not offered")


class InferInput(BaseModel):
    name: str
    shape: list[Annotated[int, Field(ge=0)]]
    datatype: Datatype
    parameters: TensorParameters = TensorParameters()
    data: Annotated[Any, WithJsonSchema({"type": "array", "items": {}})] = Field(
        default=None, description="Row-major, flat or nested"
    )


class OutputParameters(BaseModel):
    binary_data: bool | None = Field(
        default=None, description="Whether it comes behind the JSON; else as binary_data_output"
    )
    shared_memory_region: Any = Field(default=None, description="Not offered")
    classification: Any = Field(default=None, description="Not offered")


class InferOutput(BaseModel):
    name: str
    parameters: OutputParameters = OutputParameters()


class InferParameters(BaseModel):
    """Beside these what the model takes: `hidden` or `horizon`."""

    model_config = ConfigDict(extra="allow")

    binary_data_output: bool = Field(default=False, description="Whether outputs come behind the JSON")
    timeout: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        default=0, description="Microseconds after which the answer is worthless: 504, and nothing is computed; 0: none"
    )
    priority: Any = Field(default=None, description="Taken, and without effect: there is one queue")
    sequence_id: Any = Field(default=None, description="Taken, and without effect: no model has a state")
    sequence_start: Any = None
    sequence_end: Any = None
    headers: Any = None


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("id has half a surrogate pair in it; send whole characters") from None
    return text


class InferRequest(BaseModel):
    """The Open Inference Protocol's; binary inputs follow it in the body, and `Inference-Header-Content-Length` says
    where."""

    id: Annotated[str, AfterValidator(_whole)] | None = Field(None, description="Comes back")
    inputs: list[InferInput]
    outputs: list[InferOutput] | None = Field(None, description="Which to answer; all without it")
    parameters: InferParameters = InferParameters()


class InferAnswer(BaseModel):
    """Binary outputs follow it in the body, and `Inference-Header-Content-Length` says where."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[dict[str, Any]] = Field(description="name, datatype, shape, and data or the size of binary data")


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
    """What the Open Inference Protocol's clients read."""

    error: str


def _number(value: object) -> object:
    """Triton writes versions as text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


_WRITTEN_VERSION = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^0*[1-9][0-9]*$"}]}
Version = Annotated[int, Field(ge=1), BeforeValidator(_number), WithJsonSchema(_WRITTEN_VERSION)]


class RepositoryParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    version: Version | None = Field(default=None, description="Serve and pin this one; the highest without it")
    unload_dependents: bool = Field(default=False, description="Taken, and without effect: no model depends on another")


class RepositoryRequest(BaseModel):
    """Of all three requests to the model repository; none needs a body."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ready: bool = Field(default=False, description="Whether the index leaves out what is not served")
    parameters: RepositoryParameters = RepositoryParameters()


class RepositoryEntry(BaseModel):
    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = Field(description="Why it is not served")
