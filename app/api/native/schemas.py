"""Schemas of requests and answers: pydantic validates the options with them, and /docs shows them.

Rows are `Any` to pydantic, which sees only whether each field of `ROWS` is present. `app.rows` checks the numbers once
the model, and with it the width of a row, is known.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from app.api.validation import OrNull

ROWS = ("features", "target_features", "context", "predicted", "target", "actions")
_NUMBERS = {"type": "array", "items": {"type": "number", "format": "float"}, "minItems": 1}
# Lua has one kind of empty table, which its encoders of JSON write as an object.
Names = Annotated[list[str], BeforeValidator(lambda names: [] if names == {} else names)]
_NUMBER_OR_NULL = {"type": ["number", "null"], "format": "float"}
_INPUTS = {
    "type": "array",
    "items": {"anyOf": [{"type": "array", "items": _NUMBER_OR_NULL, "minItems": 1}, {"type": "null"}]},
    "minItems": 1,
}
Actions = Annotated[Any, WithJsonSchema({"anyOf": [_INPUTS, {"type": "array", "items": _INPUTS, "minItems": 1}]})]
Rows = Annotated[Any, WithJsonSchema({"anyOf": [_NUMBERS, {"type": "array", "items": _NUMBERS, "minItems": 1}]})]


class Options(BaseModel):
    """The options of every request; with a binary body they go in the query string, lists separated by commas."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="Name of the model (default: JEPA_DEFAULT_MODEL, or the only one)")
    schema_hash: str | None = Field(None, description="Answer 409 unless the model's feature schema has this hash")


class EmbedOptions(Options):
    encoder: Annotated[Literal["target", "context"], OrNull("target")] = Field(
        "target", description="Which of the two encoders computes the embeddings"
    )
    hidden: Names | None = Field(None, description="Groups that the bot cannot see")


class InputQuery(Options):
    input: Literal["features", "context"] = Field(
        "features", description="Whether the rows of the body are features or context embeddings"
    )
    actions: int | None = Field(
        None,
        ge=1,
        description="Behind each row stand the player's own inputs of so many frames that follow it, NaN where unknown",
    )
    candidates: int | None = Field(
        None, ge=1, description="Behind the one row stand so many candidates, each with the inputs of `actions` frames"
    )

    @model_validator(mode="after")
    def _candidates_are_of_actions(self) -> Self:
        if self.candidates is not None and self.actions is None:
            raise ValueError("candidates are lists of inputs; say with actions of how many frames each has them")
        return self


class InputRows(Options):
    """Holds either features or context."""

    features: Rows = Field(None, description="One row of input_dim numbers, or a list of rows")
    context: Rows = Field(None, description="One row of embed_dim numbers from the context encoder, or a list of rows")
    actions: Actions = Field(
        None,
        description="The player's own inputs of the frames that follow a row, null where unknown: one list of inputs "
        "for each row; or for one row a list of such lists, candidates with an answer each",
    )

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if (self.features is None) == (self.context is None):
            raise ValueError("send either features or context")
        return self

    @property
    def input(self) -> Literal["features", "context"]:
        return "features" if self.context is None else "context"


class PredictOptions(Options):
    hidden: Names | None = Field(None, description="Groups that the bot cannot see")
    targets: Names | None = Field(None, description="Groups to predict (default: all)")
    horizon: float | None = Field(None, description="Frames ahead: one of the model's horizons (default: the first)")


class PredictQuery(PredictOptions, InputQuery): ...


class ForecastOptions(Options):
    hidden: Names | None = Field(None, description="Groups that the bot cannot see")
    heads: Names | None = Field(None, description="Heads whose values are wanted (default: all)")
    horizon: float | None = Field(
        None, description="Frames ahead: one of the model's horizons, or 0 for the frame itself (default: 0)"
    )
    novelty: Annotated[bool, OrNull(False)] = Field(
        False, description="Whether to say how far each frame lies from those of training"
    )


class ForecastQuery(ForecastOptions, InputQuery): ...


class EmbedStream(EmbedOptions):
    answer: Literal["embed", "predict", "forecast"] = Field("embed", description="What each frame is answered with")


class PredictStream(PredictQuery):
    answer: Literal["predict"]


class ForecastStream(ForecastQuery):
    answer: Literal["forecast"]


# By what a stream answers its frames with.
STREAMS: dict[str, type[Options]] = {"embed": EmbedStream, "predict": PredictStream, "forecast": ForecastStream}


class LossOptions(Options):
    horizon: float | None = Field(None, description="Frames ahead: one of the model's horizons (default: the first)")


class EmbedRequest(EmbedOptions):
    features: Rows = Field(description="One row of input_dim numbers, or a list of rows")


class PredictRequest(PredictOptions, InputRows): ...


class ForecastRequest(ForecastOptions, InputRows): ...


class LossRequest(LossOptions):
    """Holds either predicted and target, or features and target_features, with the same number of rows in both."""

    predicted: Rows = Field(None, description="One row of embed_dim numbers from /predict, or a list of rows")
    target: Rows = Field(None, description="One row of embed_dim numbers from the target encoder, or a list of rows")
    features: Rows = Field(None, description="One row of input_dim numbers, or a list of rows")
    target_features: Rows = Field(None, description="The rows of the frames `horizon` later")

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
    embeddings: Rows = Field(
        description="One embedding for each row of features; without the outer list if a single row was sent"
    )


class PredictAnswer(Answer):
    predictions: Rows = Field(
        description="One embedding for each row or candidate sent; without the outer list if a single row was sent"
    )


class ForecastAnswer(Answer):
    outputs: list[str] = Field(description="A head's name, or `head=class` for each class of a head with classes")
    values: Rows = Field(
        description="For each row or candidate sent the values of the outputs: probabilities, and numbers in their "
        "unit; without the outer list if a single row was sent"
    )
    novelty: list[float] | None = Field(
        description="For each row, the percentage of held-out frames that lie nearer to those of training; null unless "
        "it was asked for"
    )


class LossAnswer(Answer):
    loss: float = Field(description="Mean of losses")
    losses: list[float] = Field(description="Loss of each row")
    percentiles: list[float] | None = Field(
        description="For each row, the percentage of held-out rows with a lower loss; null if the bundle has none"
    )


class ModelCard(BaseModel):
    """A loaded model."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    version: int
    versions: list[int] = Field(description="Versions on disk, highest first")
    created: str
    input_dim: int
    embed_dim: int
    precision: Literal["float32", "int8"] = Field(description="Number format in which the graphs run")
    precision_reason: str = Field(description="Why that format was chosen")
    schema_hash: str
    names: list[str] = Field(description="The columns of a row, in order")
    groups: list[dict[str, Any]]
    patches: list[dict[str, Any]]
    horizons: list[int]
    actions: list[str] = Field(description="The numbers of one of the player's own inputs, in order; empty: none taken")
    max_actions: int = Field(description="Of how many frames that follow a row /predict takes the inputs")
    action_values: dict[str, list[float]] = Field(
        description="The values of those inputs that are one of several classes"
    )
    heads: list[dict[str, Any]] = Field(
        description="What /forecast answers: each head's name, kind and outputs, where its labels came from, and how "
        "well it does on held-out games"
    )
    novelty: bool = Field(description="Whether /forecast can say how novel a frame is")
    metrics: dict[str, Any]
    training: dict[str, Any]
    options: dict[str, Any]
    licence: str
    data: dict[str, Any]
    serving: dict[str, Any] = Field(
        description="How each graph is batched, from measurements when the model was loaded"
    )
    layout: dict[str, int] = Field(description="The processes of the service, and the threads of each")
    sample: dict[str, Any] | None = Field(
        description="Rows, frames a second and source of the frames at /models/{name}/sample, if there are any"
    )


class ModelDetails(ModelCard):
    """A loaded model, with what is too long for a list of models."""

    statistics: dict[str, list[float]] = Field(
        description="mean, std, min and max of each column in training; empty if the bundle has none"
    )
    map: dict[str, Any] | None = Field(
        description="The two principal components of embeddings: `mean`, `components`, and `explained`, their share of "
        "the variance"
    )


class RefusedBundle(BaseModel):
    bundle: str = Field(description="Its folder, relative to the models folder")
    reason: str


class ModelList(BaseModel):
    models: list[ModelCard]
    refused: list[RefusedBundle] = Field(
        description="Bundles that failed their checks; they are tried again when their files change"
    )
