"""Builds the request for each endpoint. Sends nothing itself."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Literal, TypedDict, TypeVar, get_args
from urllib.parse import quote

from numpy.typing import ArrayLike

from jepa_client.answers import Answer
from jepa_client.inputs import Inputs, beside, to_inputs
from jepa_client.results import (
    BINARY,
    Document,
    Forecast,
    Loss,
    document_of,
    forecast_of,
    loss_of,
    models_of,
    only_model_of,
    rows_of,
)
from jepa_client.rows import Rows, check_alike, side_by_side, to_rows

T = TypeVar("T")
JSON = "application/json"
Encoder = Literal["target", "context"]
# What a stream answers its frames with.
Answered = Literal["embed", "predict", "forecast"]
ANSWERS = get_args(Answered)


class StreamOptions(TypedDict, total=False):
    """Those of all frames of a stream; each has the meaning and the default of the method that it is an option of."""

    encoder: Encoder
    hidden: Sequence[str]
    targets: Sequence[str] | None
    heads: Sequence[str] | None
    horizon: float | None
    # Of how many frames inputs come with each frame, and for how many candidates.
    actions: int | None
    candidates: int | None
    novelty: bool
    model: str | None


@dataclass(frozen=True)
class Call(Generic[T]):
    method: str
    path: str
    # Turns a response with status 200 into the result.
    read: Callable[[Answer], T]
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    # Never retried.
    once: bool = False


def embed(features: ArrayLike, encoder: str, hidden: Sequence[str], model: str | None) -> Call[Rows]:
    rows = to_rows("features", features)
    return _rows_for_rows("/embed", rows, encoder=encoder, hidden=_names("hidden", hidden) or None, model=model)


def stream(
    answer: str,
    encoder: Encoder = "target",
    hidden: Sequence[str] = (),
    targets: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    horizon: float | None = None,
    actions: int | None = None,
    candidates: int | None = None,
    novelty: bool = False,
    model: str | None = None,
) -> dict[str, str]:
    """The query parameters that apply to every frame of a stream."""
    if answer not in ANSWERS:
        raise ValueError(f"answer is {answer!r}; a stream answers with {', '.join(map(repr, ANSWERS))}")
    ahead = _params(answer=answer, actions=actions, candidates=candidates)
    if answer != "embed" and encoder != "target":
        raise TypeError(f"encoder goes with embeddings; leave it out of a stream with answer={answer!r}")
    if answer != "forecast" and (heads is not None or novelty):
        raise TypeError("heads and novelty go with forecasts: stream(answer='forecast', …)")
    if answer != "predict" and targets is not None:
        raise TypeError("targets go with predictions: stream(answer='predict', …)")
    if answer == "forecast":
        return ahead | _forecast_params(heads, horizon, hidden, novelty, model)
    if answer == "predict":
        chosen = None if targets is None else _names("targets", targets)
        return ahead | _params(hidden=_names("hidden", hidden) or None, targets=chosen, horizon=horizon, model=model)
    if (horizon, actions, candidates) != (None, None, None):
        raise TypeError("horizon, actions and candidates go with later frames: stream(answer='predict', …)")
    return _params(encoder=encoder, hidden=_names("hidden", hidden) or None, model=model)


def predict(
    features: ArrayLike | None,
    context: ArrayLike | None,
    hidden: Sequence[str],
    targets: Sequence[str] | None,
    horizon: float | None,
    actions: Inputs | None,
    model: str | None,
) -> Call[Rows]:
    name, rows = _features_or_context("predict", features, context)
    inputs = None if actions is None else to_inputs(actions, rows)
    return _rows_for_rows(
        "/predict",
        rows,
        inputs,
        input=name,
        hidden=_names("hidden", hidden) or None,
        targets=None if targets is None else _names("targets", targets),
        horizon=horizon,
        model=model,
    )


def forecast(
    features: ArrayLike | None,
    context: ArrayLike | None,
    heads: Sequence[str] | None,
    horizon: float | None,
    actions: Inputs | None,
    hidden: Sequence[str],
    novelty: bool,
    model: str | None,
) -> Call[Forecast]:
    name, rows = _features_or_context("forecast", features, context)
    sent = beside(rows, None if actions is None else to_inputs(actions, rows))
    params = {"input": name} | _forecast_params(heads, horizon, hidden, novelty, model) | sent.params
    return Call("POST", "/forecast", partial(forecast_of, sent=sent.shape), params, _binary(rows, JSON), sent.content)


def loss(
    features: ArrayLike | None,
    target_features: ArrayLike | None,
    predicted: ArrayLike | None,
    target: ArrayLike | None,
    horizon: float | None,
    model: str | None,
) -> Call[Loss]:
    given = _given(features=features, target_features=target_features, predicted=predicted, target=target)
    fields = {name: to_rows(name, values) for name, values in given.items()}
    # JSON cannot encode NumPy numbers.
    options = _given(horizon=None if horizon is None else float(horizon), model=model)
    if fields.keys() == {"features", "target_features"}:
        params = {name: str(value) for name, value in options.items()}
        pairs, headers = side_by_side(**fields), _binary(fields["features"], JSON)
        return Call("POST", "/loss", partial(loss_of, rows=_count(pairs)), params, headers, pairs.tobytes())
    if fields.keys() == {"predicted", "target"}:
        check_alike(**fields)
        # /loss reads a binary body as features, so embeddings go as JSON.
        document = {name: rows.tolist() for name, rows in fields.items()} | options
        read = partial(loss_of, rows=_count(fields["target"]))
        return Call("POST", "/loss", read, {}, {"Content-Type": JSON, "Accept": JSON}, json.dumps(document).encode())
    raise TypeError("loss takes either features and target_features, or predicted and target")


def models() -> Call[list[Document]]:
    return Call("GET", "/models", models_of)


def model(name: str | None) -> Call[Document]:
    return (
        Call("GET", "/models", only_model_of)
        if name is None
        else Call("GET", f"/models/{quote(name, '')}", document_of)
    )


def ready() -> Call[bool]:
    return Call("GET", "/readyz", lambda _: True, once=True)


def _rows_for_rows(path: str, rows: Rows, inputs: Rows | None = None, **options: object) -> Call[Rows]:
    headers, sent = _binary(rows, BINARY), beside(rows, inputs)
    return Call(
        "POST", path, partial(rows_of, sent=sent.shape), _params(**options) | sent.params, headers, sent.content
    )


def _binary(rows: Rows, accept: str) -> dict[str, str]:
    # Bytes have no shape, so the service is told how wide a row is, and refuses others than the model takes.
    return {"Content-Type": BINARY, "Accept": accept, "X-Row-Width": str(rows.shape[-1])}


def _features_or_context(method: str, features: ArrayLike | None, context: ArrayLike | None) -> tuple[str, Rows]:
    given = _given(features=features, context=context)
    if len(given) != 1:
        raise TypeError(f"{method} takes either features or context")
    ((name, values),) = given.items()
    return name, to_rows(name, values)


def _forecast_params(
    heads: Sequence[str] | None, horizon: float | None, hidden: Sequence[str], novelty: bool, model: str | None
) -> dict[str, str]:
    return _params(
        heads=None if heads is None else _names("heads", heads),
        horizon=horizon,
        hidden=_names("hidden", hidden) or None,
        novelty="true" if novelty else None,
        model=model,
    )


def _count(rows: Rows) -> int:
    return 1 if rows.ndim == 1 else len(rows)


def _params(**options: object) -> dict[str, str]:
    return {name: str(value) for name, value in _given(**options).items()}


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _names(option: str, names: Sequence[str] | None) -> str:
    """Separated by commas; empty where there are none."""
    if isinstance(names, str):
        raise TypeError(f"{option} is the text {names!r}; send a list of names: {option}=[{names!r}]")
    listed = [] if names is None else [*names]
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"{option} holds {name!r}; a name is text, as the model's document has it")
    return ",".join(listed)
