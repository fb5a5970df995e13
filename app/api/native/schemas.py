"""What requests and answers look like: pydantic checks the options by these models, and /docs shows them.

Rows are `Any` to pydantic, which only sees whether the fields of `ROWS` are there; `app.rows` checks them, once it is
known how wide the model's rows are.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from app.telemetry.drift import SAMPLED

ROWS = ("features", "target_features", "context", "predicted", "target")
_NUMBERS = {"type": "array", "items": {"type": "number", "format": "float"}, "minItems": 1}
Rows = Annotated[Any, WithJsonSchema({"anyOf": [_NUMBERS, {"type": "array", "items": _NUMBERS, "minItems": 1}]})]


class Options(BaseModel):
    """Options of every request; beside a binary body they stand in the query string, lists separated by commas."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="Name of the model, where several are loaded")
    schema_hash: str | None = Field(None, description="Refuse with 409 unless the model's feature schema has this hash")


class EmbedOptions(Options):
    encoder: Literal["target", "context"] = Field("target", description="Which of the two encoders answers")
    hidden: list[str] | None = Field(None, description="Groups that the bot cannot see")


class PredictOptions(Options):
    hidden: list[str] | None = Field(None, description="Groups that the bot cannot see")
    targets: list[str] | None = Field(None, description="Groups to predict; all without it")
    horizon: float | None = Field(None, description="Frames ahead, one of the model's horizons; the first without it")


class PredictQuery(PredictOptions):
    input: Literal["features", "context"] = Field("features", description="What the rows of the body are")


class LossOptions(Options):
    horizon: float | None = Field(None, description="Frames ahead, one of the model's horizons; the first without it")


class EmbedRequest(EmbedOptions):
    features: Rows = Field(description="One row of input_dim numbers, or a list of rows")


class PredictRequest(PredictOptions):
    """Either features or context."""

    features: Rows = Field(None, description="One row of input_dim numbers, or a list of rows")
    context: Rows = Field(None, description="One row of embed_dim numbers from the context encoder, or a list of rows")

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if (self.features is None) == (self.context is None):
            raise ValueError("send either features or context")
        return self

    @property
    def input(self) -> Literal["features", "context"]:
        return "features" if self.context is None else "context"


class LossRequest(LossOptions):
    """Either predicted and target, or features and target_features; the two alike in rows."""

    predicted: Rows = Field(None, description="One row of embed_dim numbers from /predict, or a list of rows")
    target: Rows = Field(None, description="One row of embed_dim numbers from the target encoder, or a list of rows")
    features: Rows = Field(None, description="One row of input_dim numbers, or a list of rows")
    target_features: Rows = Field(None, description="The rows that came `horizon` frames later")

    @model_validator(mode="after")
    def _one_pair(self) -> Self:
        given = {
            name for name in ("predicted", "target", "features", "target_features") if getattr(self, name) is not None
        }
        if given not in ({"predicted", "target"}, {"features", "target_features"}):
            raise ValueError("send either predicted and target, or features and target_features")
        return self


class Answer(BaseModel):
    model: str
    version: int


class EmbedAnswer(Answer):
    embeddings: Rows = Field(description="A row of embed_dim numbers for each row of features, in the same rank")


class PredictAnswer(Answer):
    predictions: Rows = Field(description="A row of embed_dim numbers for each row sent, in the same rank")


class LossAnswer(Answer):
    loss: float = Field(description="Mean over the rows")
    losses: list[float] = Field(description="One a row")
    percentiles: list[float] | None = Field(
        description="One a row: share of the held-out rows, 0–100, that were predicted better; null without quantiles"
    )


class ModelCard(BaseModel):
    """A loaded model."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    version: int
    versions: list[int] = Field(description="On disk, highest first")
    created: str
    input_dim: int
    embed_dim: int
    precision: Literal["float32", "int8"] = Field(description="Number format of the graphs that run")
    precision_reason: str = Field(description="Why that format, in words")
    schema_hash: str
    names: list[str] = Field(description="The columns of a row")
    groups: list[dict[str, Any]]
    patches: list[dict[str, Any]]
    horizons: list[int]
    metrics: dict[str, Any]
    training: dict[str, Any]
    options: dict[str, Any]
    licence: str
    data: dict[str, Any]
    serving: dict[str, Any] = Field(description="How each graph is batched, measured at load")
    layout: dict[str, int] = Field(description="Processes of the service, and threads of each")


class FeatureDrift(BaseModel):
    """A column unlike what it was in training."""

    name: str
    column: int
    finding: Literal["outside", "still", "woken"]
    detail: str = Field(description="The finding in words, and what to look for")
    share_outside: float = Field(description="Share of rows outside the range of training")
    mean: float
    std: float
    training_mean: float
    training_std: float
    looks_like: str | None = Field(description="The column that had this mean and deviation in training, if one had")


class DriftReport(BaseModel):
    """Of the rows that came in since the model was loaded, a sample."""

    model: str
    version: int
    rows: int = Field(description=f"How many were sampled, one request in {SAMPLED}")
    features: list[FeatureDrift]


class RefusedBundle(BaseModel):
    bundle: str = Field(description="Its folder, within the models folder")
    reason: str


class ModelList(BaseModel):
    models: list[ModelCard]
    refused: list[RefusedBundle] = Field(description="Tried again when their files change")
