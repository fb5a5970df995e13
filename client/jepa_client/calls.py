"""Builds the request for each endpoint and reads its response. Sends nothing itself."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar, get_args
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike

from jepa_client.answers import Answer
from jepa_client.errors import UnexpectedAnswer
from jepa_client.inputs import Inputs, beside, to_inputs
from jepa_client.rows import FLOAT32_LE, Rows, check_alike, from_bytes, ranked, side_by_side, to_rows

T = TypeVar("T")
BINARY = "application/octet-stream"
JSON = "application/json"
Document = dict[str, Any]
Encoder = Literal["target", "context"]
# What a stream answers its frames with.
Answered = Literal["embed", "predict", "forecast"]
ANSWERS = get_args(Answered)


class Loss(NamedTuple):
    """How far predictions were from what happened, and how surprising that is."""

    # Mean over the rows.
    loss: float
    # [B]
    losses: Rows
    # [B], the share of held-out rows that were predicted better, 0–100; None if the bundle has no quantiles.
    percentiles: Rows | None


class Forecast(NamedTuple):
    """What the heads of a model say of frames, now or later."""

    # A head's name, or `head=class` for each class of a head with classes.
    outputs: list[str]
    # [O] or [B, O]: probabilities, and numbers in their unit.
    values: Rows
    # [B], the share of held-out frames that lie nearer to those of training, 0–100; None unless it was asked for.
    novelty: Rows | None


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
    return Call("POST", "/forecast", partial(_forecast, sent=sent.shape), params, _binary(rows, JSON), sent.content)


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
        return Call("POST", "/loss", partial(_loss, rows=_count(pairs)), params, headers, pairs.tobytes())
    if fields.keys() == {"predicted", "target"}:
        check_alike(**fields)
        # /loss reads a binary body as features, so embeddings go as JSON.
        document = {name: rows.tolist() for name, rows in fields.items()} | options
        read = partial(_loss, rows=_count(fields["target"]))
        return Call("POST", "/loss", read, {}, {"Content-Type": JSON, "Accept": JSON}, json.dumps(document).encode())
    raise TypeError("loss takes either features and target_features, or predicted and target")


def models() -> Call[list[Document]]:
    return Call("GET", "/models", _models)


def model(name: str | None) -> Call[Document]:
    return Call("GET", "/models", _only_model) if name is None else Call("GET", f"/models/{quote(name, '')}", _document)


def ready() -> Call[bool]:
    return Call("GET", "/readyz", lambda _: True, once=True)


def _rows_for_rows(path: str, rows: Rows, inputs: Rows | None = None, **options: object) -> Call[Rows]:
    headers, sent = _binary(rows, BINARY), beside(rows, inputs)
    return Call("POST", path, partial(_rows, sent=sent.shape), _params(**options) | sent.params, headers, sent.content)


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


def _rows(answer: Answer, sent: Sequence[int]) -> Rows:
    whole = answer.content and len(answer.content) % FLOAT32_LE.itemsize == 0
    if answer.headers.get("content-type") != BINARY or not whole:
        raise _unexpected(answer)
    return from_bytes(answer.content, sent)


def _document(answer: Answer) -> Document:
    document = answer.document()
    if document is None:
        raise _unexpected(answer)
    return document


def _loss(answer: Answer, rows: int) -> Loss:
    document = _document(answer)
    try:
        losses, percentiles = document["losses"], document["percentiles"]
        loss = Loss(
            float(document["loss"]),
            np.array(losses, np.float32),
            None if percentiles is None else np.array(percentiles, np.float32),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _unexpected(answer) from None
    if any(each is not None and each.shape != (rows,) for each in (loss.losses, loss.percentiles)):
        raise _unexpected(answer)
    return loss


def _forecast(answer: Answer, sent: Sequence[int]) -> Forecast:
    document = _document(answer)
    try:
        outputs, novelty = document["outputs"], document["novelty"]
        values = np.array(document["values"], np.float32)
        if values.ndim != 2 or values.shape[1] != len(outputs) or not all(isinstance(name, str) for name in outputs):
            raise ValueError
        judged = None if novelty is None else np.array(novelty, np.float32)
        if judged is not None and judged.shape != values.shape[:1]:
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _unexpected(answer) from None
    return Forecast(outputs, ranked(values.ravel(), sent), judged)


def _models(answer: Answer) -> list[Document]:
    models = _document(answer).get("models")
    if not isinstance(models, list) or not all(isinstance(each, dict) and "name" in each for each in models):
        raise _unexpected(answer)
    return models


def _only_model(answer: Answer) -> Document:
    models = _models(answer)
    if len(models) != 1:
        names = ", ".join(repr(each["name"]) for each in models)
        raise ValueError(f"the service has {len(models)} models ({names}); name one: model(name)")
    return models[0]


def _unexpected(answer: Answer) -> UnexpectedAnswer:
    found = answer.headers.get("content-type", "nothing that it names")
    return UnexpectedAnswer(
        f"{answer.url} answered with {found}, which is no answer of a jepa-serve; is base_url right?",
        status=answer.status,
    )
