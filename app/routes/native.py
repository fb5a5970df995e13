"""The service's own dialect: /embed, /predict and /loss in JSON or in bare float32, and the models that answer."""

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from app import schemas, wire
from app.batcher import Batcher
from app.documentation import documented, problems
from app.errors import InvalidInput
from app.registry import ServedModel
from app.routes.exchange import JSON, receive
from app.routes.reading import located_in, service_of

router = APIRouter()


@router.post("/embed", **documented(schemas.EmbedOptions, schemas.EmbedRequest, schemas.EmbedAnswer))
async def embed(request: Request) -> Response:
    """Turns rows of features into embeddings."""
    call = await receive(request, schemas.EmbedOptions, schemas.EmbedRequest)
    (features,) = call.rows(call.features(can_hide=True))
    with located_in(call.options_source):
        rows, timing = await call.model.engine.embed(
            np.atleast_2d(features), encoder=call.options.encoder, hidden=call.options.hidden or (), ticket=call.ticket
        )
    return call.answer(rows, timing, embeddings=rows.reshape(*features.shape[:-1], -1))


@router.post("/predict", **documented(schemas.PredictQuery, schemas.PredictRequest, schemas.PredictAnswer))
async def predict(request: Request) -> Response:
    """Predicts the embedding of hidden or later parts, from features or from what the context encoder made of them."""
    call = await receive(request, schemas.PredictQuery, schemas.PredictRequest)
    options, engine = call.options, call.model.engine
    from_context = options.input == "context"
    (given,) = call.rows(call.embeddings("context") if from_context else call.features(can_hide=True))
    with located_in(call.options_source):
        if from_context and options.hidden:
            raise InvalidInput(
                (("hidden",), "hidden goes with features; context rows were made with their groups hidden")
            )
        if from_context:
            rows, timing = await engine.predict_from_context(
                np.atleast_2d(given), targets=options.targets, horizon=options.horizon, ticket=call.ticket
            )
        else:
            rows, timing = await engine.predict(
                np.atleast_2d(given),
                hidden=options.hidden or (),
                targets=options.targets,
                horizon=options.horizon,
                ticket=call.ticket,
            )
    return call.answer(rows, timing, predictions=rows.reshape(*given.shape[:-1], -1))


@router.post("/loss", **documented(schemas.LossOptions, schemas.LossRequest, schemas.LossAnswer))
async def loss(request: Request) -> Response:
    """Says how far predictions were off, and how surprising that is beside the held-out rows."""
    call = await receive(request, schemas.LossOptions, schemas.LossRequest)
    options, engine = call.options, call.model.engine
    if isinstance(options, schemas.LossRequest) and options.predicted is not None:
        predicted, target = map(np.atleast_2d, call.rows(call.embeddings("predicted"), call.embeddings("target")))
        with located_in(call.options_source):
            result = engine.loss_of_embeddings(predicted, target, horizon=options.horizon)
    else:
        features, later = map(np.atleast_2d, call.rows(call.features(), call.features("target_features")))
        with located_in(call.options_source):
            result = await engine.loss(features, later, horizon=options.horizon, ticket=call.ticket)
    return call.answer(
        result.losses,
        result.timing,
        loss=float(result.losses.mean(dtype=np.float64)),
        losses=result.losses,
        percentiles=result.percentiles,
    )


@router.get("/models", response_model=schemas.ModelList, tags=["models"])
async def models(request: Request) -> Response:
    """Every loaded model."""
    registry = service_of(request).registry
    return _json({"models": [card(model) for model in registry.models.values()]})


@router.get("/models/{name}", response_model=schemas.ModelCard, tags=["models"], responses=problems(404, 503))
async def model(request: Request, name: str) -> Response:
    """One loaded model."""
    return _json(card(service_of(request).registry.get(name)))


def card(model: ServedModel) -> dict[str, Any]:
    """What `schemas.ModelCard` says of a model."""
    manifest = model.bundle.manifest
    queues = model.engine.queues
    return {
        **manifest.model_dump(
            include={"name", "version", "created", "input_dim", "embed_dim", "schema_hash", "patches", "horizons"}
            | {"options", "training", "licence", "data"}
        ),
        **manifest.feature_schema.model_dump(),
        "versions": model.versions,
        "precision": model.precision,
        "precision_reason": model.precision_reason,
        "metrics": manifest.training.get("metrics", {}),
        "serving": {name: _pace(queue) for name, queue in queues.items()},
    }


def _pace(queue: Batcher) -> dict[str, Any]:
    """Rows and milliseconds."""
    return {
        "max_batch_rows": queue.pace.max_rows,
        "inline_rows": queue.pace.inline_rows,
        "measured_ms": {str(rows): round(seconds * 1e3, 3) for rows, seconds in queue.pace.measured_s.items()},
    }


def _json(document: Any) -> Response:
    return Response(wire.json_bytes(document), media_type=JSON)
