"""The REST endpoints of the Open Inference Protocol (KServe v2, Triton), with binary tensors and raw requests."""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from app.api.dependencies import service_of
from app.api.guard import Guard
from app.api.headers import BINARY, JSON
from app.api.oip import metadata as documents
from app.api.oip import schemas
from app.api.oip.handler import InferHandler
from app.api.oip.models import Signature, find, signatures
from app.api.oip.openapi import v2_problems
from app.api.oip.request import HEADER_LENGTH
from app.api.openapi import FLOATS, SCHEMAS, header_parameters, operation_id
from app.service import Service

V2_HEADERS = {
    HEADER_LENGTH: ("integer", "Bytes of JSON before the binary tensors; 0 if the body is a single raw input"),
    "Content-Encoding": ("string", "gzip or deflate, if the body is compressed"),
    "Accept-Encoding": ("string", "Exactly gzip or deflate to get a compressed answer; a list is ignored"),
}
VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}

router = APIRouter(prefix="/v2", tags=["v2"])
Endpoint = Callable[..., Any]


def _documented(suffix: str, documented: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The path for a model and that for a version of it, each with the arguments of its FastAPI route."""
    yield f"/models/{{name}}{suffix}", documented
    extra = documented.get("openapi_extra", {})
    extra = extra | {"parameters": [VERSION, *extra.get("parameters", [])]}
    yield f"/models/{{name}}/versions/{{version}}{suffix}", documented | {"openapi_extra": extra}


def _on_model(suffix: str, **documented: Any) -> Callable[[Endpoint], Endpoint]:
    """Registers a GET endpoint for a model, with and without a version in its path."""

    def register(endpoint: Endpoint) -> Endpoint:
        for path, described in _documented(suffix, {"responses": v2_problems(404, 503)} | documented):
            router.add_api_route(path, endpoint, methods=["GET"], **described)
        return endpoint

    return register


def _signature(request: Request, name: str) -> Signature:
    return find(service_of(request).registry, name, request.path_params.get("version"))


# The service


@router.get("/", include_in_schema=False)
@router.get("")
async def server() -> Response:
    """Returns the name and version of the service, and the extensions that it supports."""
    return JSONResponse(documents.server())


@router.get("/health/live")
async def live() -> Response:
    """Same as `/livez`."""
    return JSONResponse({"live": True})


@router.get("/health/ready", responses=v2_problems(503))
async def ready(request: Request) -> Response:
    """Same as `/readyz`."""
    await service_of(request).check_ready()
    return JSONResponse({"live": True, "ready": True})


@router.get("/models")
async def models(request: Request) -> Response:
    """Lists the names of all models."""
    return JSONResponse({"models": [each.name for each in signatures(service_of(request).registry)]})


@router.get("/models/stats")
async def all_statistics(request: Request) -> Response:
    """Returns the statistics of all models."""
    service = service_of(request)
    return JSONResponse({"model_stats": documents.statistics(service, signatures(service.registry))})


# A model


@_on_model("", response_model=schemas.InferModelCard)
async def metadata(request: Request, name: str) -> Response:
    """Describes the inputs and outputs of a model."""
    return JSONResponse(documents.metadata(_signature(request, name)))


@_on_model("/ready")
async def model_ready(request: Request, name: str) -> Response:
    """Says whether the model accepts requests."""
    service_of(request).admit()
    return JSONResponse({"name": _signature(request, name).name, "ready": True})


@_on_model("/config")
async def config(request: Request, name: str) -> Response:
    """Returns the model's configuration in Triton's format, which `perf_analyzer` needs; dims leave out the batch."""
    return JSONResponse(documents.config(_signature(request, name), service_of(request).settings.max_rows))


@_on_model("/stats")
async def statistics(request: Request, name: str) -> Response:
    """Counts the requests to the model over this protocol, and says in nanoseconds where their time went."""
    return JSONResponse({"model_stats": documents.statistics(service_of(request), [_signature(request, name)])})


# Inference


INFER: dict[str, Any] = {
    "tags": ["v2"],
    "response_model": schemas.InferAnswer,
    "responses": {
        200: {"content": {BINARY.decode(): FLOATS}},
        **v2_problems(400, 404, 409, 413, 415, 429, 500, 503, 504),
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                JSON.decode(): {"schema": {"$ref": SCHEMAS + "InferRequest"}},
                BINARY.decode(): FLOATS,
            },
        },
        "parameters": [*header_parameters(), *header_parameters(V2_HEADERS)],
    },
}


async def infer(name: str) -> None:
    """Runs the model. Inputs are JSON, binary data behind JSON, or, for a model with one input, raw numbers alone."""


def infer_routes(service: Service, guard: Guard) -> list[APIRoute]:
    """Routes that FastAPI documents but does not run: its request handling takes longer than the endpoint."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await InferHandler(service, guard, **scope["path_params"])(scope, receive, send)

    made = []
    for path, described in _documented("/infer", INFER):
        route = APIRoute(
            router.prefix + path, infer, methods=["POST"], generate_unique_id_function=operation_id, **described
        )
        route.app = answer
        made.append(route)
    return made
