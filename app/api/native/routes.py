"""The service's own dialect: /embed, /predict and /loss in JSON or in bare float32, and the models that answer."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.dependencies import service_of
from app.api.headers import JSON
from app.api.native import schemas
from app.api.native.handler import Endpoint
from app.api.native.models import card
from app.api.native.openapi import query_parameters
from app.api.native.request import Answer, Exchange
from app.api.openapi import header_parameters, problems
from app.errors import InvalidInput, UpgradeRequired
from app.rows import json_bytes
from app.telemetry.drift import described

router = APIRouter()


async def embed(call: Exchange[schemas.EmbedOptions]) -> Answer:
    """Turns rows of features into embeddings."""
    options = call.options
    (features,) = call.rows(call.model.forms.features)
    rows, timing = await call.model.engine.embed(
        features, encoder=options.encoder, hidden=options.hidden or (), ticket=call.ticket
    )
    return call.answer(rows, timing, embeddings=call.ranked(rows))


async def predict(call: Exchange[schemas.PredictQuery | schemas.PredictRequest]) -> Answer:
    """Predicts the embedding of hidden or later parts, from features or from what the context encoder made of them."""
    options, engine = call.options, call.model.engine
    from_context = options.input == "context"
    (given,) = call.rows(call.model.forms.context if from_context else call.model.forms.features)
    if from_context and options.hidden:
        raise InvalidInput((("hidden",), "hidden goes with features; context rows were made with their groups hidden"))
    if from_context:
        rows, timing = await engine.predict_from_context(
            given, targets=options.targets, horizon=options.horizon, ticket=call.ticket
        )
    else:
        rows, timing = await engine.predict(
            given,
            hidden=options.hidden or (),
            targets=options.targets,
            horizon=options.horizon,
            ticket=call.ticket,
        )
    return call.answer(rows, timing, predictions=call.ranked(rows))


async def loss(call: Exchange[schemas.LossOptions]) -> Answer:
    """Says how far predictions were off, and how surprising that is beside the held-out rows."""
    options, engine = call.options, call.model.engine
    if isinstance(options, schemas.LossRequest) and options.predicted is not None:
        predicted, target = call.rows(call.model.forms.embeddings)
        result = engine.loss_of_embeddings(predicted, target, horizon=options.horizon)
    else:
        features, later = call.rows(call.model.forms.frames)
        result = await engine.loss(features, later, horizon=options.horizon, ticket=call.ticket)
    return call.answer(
        result.losses,
        result.timing,
        loss=float(result.losses.mean(dtype=np.float64)),
        losses=result.losses,
        percentiles=result.percentiles,
    )


ENDPOINTS: tuple[Endpoint[Any, Any], ...] = (
    Endpoint("/embed", schemas.EmbedOptions, schemas.EmbedRequest, schemas.EmbedAnswer, embed),
    Endpoint("/predict", schemas.PredictQuery, schemas.PredictRequest, schemas.PredictAnswer, predict),
    Endpoint("/loss", schemas.LossOptions, schemas.LossRequest, schemas.LossAnswer, loss),
)


@router.get(
    "/stream",
    status_code=101,
    tags=["inference"],
    responses=problems(401, 403, 404, 409, 422, 426, 503),
    openapi_extra={"parameters": [*query_parameters(schemas.EmbedOptions), *header_parameters()]},
)
async def stream() -> None:
    """Opens a WebSocket for frames: a uint32 number and float32 rows in one binary message, its number and their
    embeddings in another. The options hold for all of them."""
    raise UpgradeRequired("a stream is a WebSocket; open ws://…/stream, or send single frames to POST /embed")


@router.get("/models", response_model=schemas.ModelList, tags=["models"])
async def models(request: Request) -> Response:
    """Every loaded model, and the bundles that are not served because they fail their checks."""
    service = service_of(request)
    folder, registry = service.settings.models, service.registry
    refused = [{"bundle": str(each.folder.relative_to(folder)), "reason": each.reason} for each in registry.refused]
    cards = [card(model, service.layout) for model in registry.models.values()]
    return _json({"models": cards, "refused": refused})


@router.get("/models/{name}", response_model=schemas.ModelCard, tags=["models"], responses=problems(404, 503))
async def model(request: Request, name: str) -> Response:
    """One loaded model."""
    service = service_of(request)
    return _json(card(service.registry.get(name), service.layout))


@router.get("/models/{name}/drift", response_model=schemas.DriftReport, tags=["models"], responses=problems(404, 503))
async def drift(request: Request, name: str) -> Response:
    """How the rows that come in differ from those the model was trained on."""
    engine = service_of(request).registry.get(name).engine
    return _json(described(engine.drift, engine.manifest))


def _json(document: Any) -> Response:
    return Response(json_bytes(document), media_type=JSON.decode())
