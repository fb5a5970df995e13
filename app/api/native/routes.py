"""The endpoints of the native dialect: /embed, /predict, /forecast, /loss, /stream, and those that describe models."""

import asyncio
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.answer import Answer
from app.api.dependencies import service_of
from app.api.headers import BINARY, JSON
from app.api.native import schemas
from app.api.native.drift import DriftReport
from app.api.native.handler import Endpoint
from app.api.native.models import card, details, sample_of
from app.api.native.openapi import HEADERS, query_parameters
from app.api.native.request import NativeRequest
from app.api.openapi import header_parameters, problems
from app.errors import InvalidInput, UpgradeRequired
from app.inference.batcher import Batcher
from app.inference.engine import Queues
from app.repository.folder import as_text
from app.rows import Array, json_bytes
from app.telemetry.drift import described

router = APIRouter()
SAMPLE: dict[int | str, dict[str, Any]] = {
    200: {"content": {BINARY.decode(): {"schema": {"type": "string", "format": "binary"}}}, "description": "The frames"}
}


async def embed(request: NativeRequest[schemas.EmbedOptions]) -> Answer:
    """Computes the embeddings of rows of features."""
    options = request.options
    (features,) = request.rows(request.model.forms.features)
    rows, timing = await request.model.engine.embed(
        features, encoder=options.encoder, hidden=options.hidden or (), ticket=request.ticket
    )
    return request.answer(rows, timing, embeddings=request.ranked(rows))


async def predict(request: NativeRequest[schemas.PredictQuery | schemas.PredictRequest]) -> Answer:
    """Predicts the embeddings of hidden groups or later frames, from features or from context embeddings."""
    options, engine = request.options, request.model.engine
    given, actions = _features_or_context(request)
    if options.input == "context":
        rows, timing = await engine.predict_from_context(
            given, targets=options.targets, horizon=options.horizon, actions=actions, ticket=request.ticket
        )
    else:
        rows, timing = await engine.predict(
            given,
            hidden=options.hidden or (),
            targets=options.targets,
            horizon=options.horizon,
            actions=actions,
            ticket=request.ticket,
        )
    return request.answer(rows, timing, predictions=request.ranked(rows))


async def forecast(request: NativeRequest[schemas.ForecastQuery | schemas.ForecastRequest]) -> Answer:
    """Computes the values of the model's heads, now or at a later frame, and how novel each frame is."""
    options, engine = request.options, request.model.engine
    given, actions = _features_or_context(request)
    if options.input == "context":
        if options.novelty:
            raise InvalidInput((("novelty",), "novelty goes with features; send the frames that it is to judge"))
        found = await engine.forecast_from_context(
            given, heads=options.heads, horizon=options.horizon, actions=actions, ticket=request.ticket
        )
    else:
        found = await engine.forecast(
            given,
            heads=options.heads,
            horizon=options.horizon,
            hidden=options.hidden or (),
            actions=actions,
            novelty=options.novelty,
            ticket=request.ticket,
        )
    return request.answer(
        found.flat(), found.timing, outputs=found.outputs, values=request.ranked(found.values), novelty=found.novelty
    )


async def loss(request: NativeRequest[schemas.LossOptions]) -> Answer:
    """Computes the loss of predictions, and how surprising it is compared with the losses of held-out rows."""
    options, engine = request.options, request.model.engine
    if isinstance(options, schemas.LossRequest) and options.predicted is not None:
        predicted, target = request.rows(request.model.forms.embeddings)
        result = engine.loss_of_embeddings(predicted, target, horizon=options.horizon)
    else:
        features, later = request.rows(request.model.forms.frames)
        result = await engine.loss(features, later, horizon=options.horizon, ticket=request.ticket)
    return request.answer(
        result.losses,
        result.timing,
        loss=float(result.losses.mean(dtype=np.float64)),
        losses=result.losses,
        percentiles=result.percentiles,
    )


def _features_or_context(request: NativeRequest[Any]) -> tuple[Array, Array | None]:
    """The rows, and the player's own inputs beside them."""
    options, forms = request.options, request.model.forms
    fields = forms.context if options.input == "context" else forms.features
    given, actions = request.rows_and_actions(fields, options)
    if options.input == "context" and options.hidden:
        raise InvalidInput((("hidden",), "hidden goes with features; context rows were made with their groups hidden"))
    return given, actions


def _encoder(queues: Queues, options: schemas.EmbedOptions) -> Batcher:
    return queues.encoder(options.encoder)


def _first(queues: Queues, options: schemas.PredictQuery | schemas.PredictRequest) -> Batcher:
    return queues.predictor if options.input == "context" else queues.context_encoder


def _first_of_forecast(queues: Queues, options: schemas.ForecastQuery | schemas.ForecastRequest) -> Batcher:
    if options.input == "context":
        return queues.predictor
    return queues.context_encoder if options.horizon else queues.target_encoder


def _context_encoder(queues: Queues, _: schemas.LossOptions) -> Batcher:
    return queues.context_encoder


ENDPOINTS: tuple[Endpoint[Any, Any], ...] = (
    Endpoint("/embed", schemas.EmbedOptions, schemas.EmbedRequest, schemas.EmbedAnswer, embed, _encoder),
    Endpoint("/predict", schemas.PredictQuery, schemas.PredictRequest, schemas.PredictAnswer, predict, _first),
    Endpoint(
        "/forecast",
        schemas.ForecastQuery,
        schemas.ForecastRequest,
        schemas.ForecastAnswer,
        forecast,
        _first_of_forecast,
    ),
    Endpoint("/loss", schemas.LossOptions, schemas.LossRequest, schemas.LossAnswer, loss, _context_encoder),
)


@router.get(
    "/stream",
    status_code=101,
    tags=["inference"],
    responses=problems(401, 403, 404, 409, 421, 422, 426, 503),
    openapi_extra={"parameters": [*query_parameters(*schemas.STREAMS.values()), *header_parameters(HEADERS)]},
)
async def stream() -> None:
    """Opens a WebSocket for frames. Each binary message is a uint32 number and float32 rows; the answer is a binary
    message with the same number and the embeddings or, with `answer=predict`, those of a later frame or, with
    `answer=forecast`, the values of heads. The options apply to all frames, and are those of /embed, /predict or
    /forecast."""
    raise UpgradeRequired(
        "a stream is a WebSocket; open ws://…/stream, or send single frames to POST /embed, /predict or /forecast"
    )


@router.get("/models", response_model=schemas.ModelList, tags=["models"])
async def models(request: Request) -> Response:
    """Lists all loaded models, and the bundles that are not served because they fail their checks."""
    service = service_of(request)
    folder, registry = service.settings.models, service.registry
    refused = [{"bundle": as_text(each.folder.relative_to(folder)), "reason": each.reason} for each in registry.refused]
    cards = [card(model, service.layout) for model in registry.models.values()]
    return _json({"models": cards, "refused": refused})


@router.get("/models/{name}", response_model=schemas.ModelDetails, tags=["models"], responses=problems(404, 503))
async def model(request: Request, name: str) -> Response:
    """Describes one loaded model, with the ranges of its columns and the map of its embeddings."""
    service = service_of(request)
    return _json(details(service.registry.get(name), service.layout))


@router.get("/models/{name}/sample", response_class=Response, tags=["models"], responses=SAMPLE | problems(404, 503))
async def sample(request: Request, name: str) -> Response:
    """Some seconds of a game to look at, as NumPy's .npz with the array `features`; 404 if the bundle has none."""
    model = service_of(request).registry.get(name)
    return Response(await asyncio.to_thread(sample_of, model), media_type=BINARY.decode())


@router.get("/models/{name}/drift", response_model=DriftReport, tags=["models"], responses=problems(404, 503))
async def drift(request: Request, name: str) -> Response:
    """Reports how incoming rows differ from those that the model was trained on."""
    engine = service_of(request).registry.get(name).engine
    return _json(await asyncio.to_thread(described, engine.drift, engine.manifest))


def _json(document: Any) -> Response:
    return Response(json_bytes(document), media_type=JSON.decode())
