"""The Open Inference Protocol (KServe v2, Triton) over REST, with its binary tensors and raw requests."""

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from app import __version__, schemas
from app.documentation import FLOATS, SCHEMAS, header_parameters, v2_problems
from app.routes.exchange import BINARY, JSON, check_schema
from app.routes.inference import HEADER_LENGTH, read_asked, read_plain_body, respond, ticket
from app.routes.reading import service_of
from app.service import Service
from app.signatures import Signature, find, signatures
from app.statistics import Statistics
from app.tensors import write

EXTENSIONS = ["binary_tensor_data", "parameters", "schedule_policy", "statistics", "model_configuration"]
EXTENSIONS.append("model_repository")
PLATFORM = "onnx_onnxv1"
V2_HEADERS = {
    HEADER_LENGTH: ("integer", "Bytes of JSON before the binary tensors; 0: the body is the one input"),
    "Content-Encoding": ("string", "gzip or deflate, where the body is compressed"),
    "Accept-Encoding": ("string", "gzip or deflate, alone, where the answer shall be compressed"),
}
VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}

router = APIRouter(prefix="/v2", tags=["v2"])
Endpoint = Callable[..., Any]


def _documented(suffix: str, documented: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The path at a model and the one at a version of it, each with what FastAPI is to say of it."""
    yield f"/models/{{name}}{suffix}", documented
    extra = documented.get("openapi_extra", {})
    extra = extra | {"parameters": [VERSION, *extra.get("parameters", [])]}
    yield f"/models/{{name}}/versions/{{version}}{suffix}", documented | {"openapi_extra": extra}


def _on_model(suffix: str, **documented: Any) -> Callable[[Endpoint], Endpoint]:
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
    """Name, version, and the extensions that work."""
    return JSONResponse({"name": "jepa-serve", "version": __version__, "extensions": EXTENSIONS})


@router.get("/health/live")
async def live() -> Response:
    """As `/livez`."""
    return JSONResponse({"live": True})


@router.get("/health/ready", responses=v2_problems(503))
async def ready(request: Request) -> Response:
    """As `/readyz`."""
    await service_of(request).check_ready()
    return JSONResponse({"live": True, "ready": True})


@router.get("/models")
async def models(request: Request) -> Response:
    """The names of all models."""
    return JSONResponse({"models": [each.name for each in signatures(service_of(request).registry)]})


@router.get("/models/stats")
async def all_statistics(request: Request) -> Response:
    """Statistics of all models."""
    service = service_of(request)
    return JSONResponse({"model_stats": [_statistics(service, each) for each in signatures(service.registry)]})


# A model


@_on_model("", response_model=schemas.InferModelCard)
async def metadata(request: Request, name: str) -> Response:
    """Inputs and outputs of a model."""
    signature = _signature(request, name)
    return JSONResponse(
        {
            "name": signature.name,
            "versions": [signature.version],
            "platform": PLATFORM,
            "inputs": [_tensor(each.name, each.shape, each.datatypes[0]) for each in signature.inputs],
            "outputs": [_tensor(name, shape) for name, shape in signature.outputs.items()],
        }
    )


@_on_model("/ready")
async def model_ready(request: Request, name: str) -> Response:
    """Whether the model takes requests."""
    service_of(request).admit()
    return JSONResponse({"name": _signature(request, name).name, "ready": True})


@_on_model("/config")
async def config(request: Request, name: str) -> Response:
    """The model's configuration as Triton writes it, dims without the batch; what `perf_analyzer` asks for."""
    signature = _signature(request, name)
    return JSONResponse(
        {
            "name": signature.name,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "max_batch_size": service_of(request).settings.max_rows,
            "input": [
                {"name": each.name, "data_type": f"TYPE_{each.datatypes[0]}", "optional": each.optional}
                | _dims(each.shape)
                for each in signature.inputs
            ],
            "output": [
                {"name": name, "data_type": "TYPE_FP32"} | _dims(shape) for name, shape in signature.outputs.items()
            ],
            "dynamic_batching": {},
        }
    )


@_on_model("/stats")
async def statistics(request: Request, name: str) -> Response:
    """What the model was asked over this protocol and where the time went, in nanoseconds."""
    return JSONResponse({"model_stats": [_statistics(service_of(request), _signature(request, name))]})


def _tensor(name: str, shape: list[int], datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _dims(shape: list[int]) -> dict[str, Any]:
    """Triton has no tensor without dims, but one that is reshaped to that."""
    return {"dims": shape[1:]} if shape[1:] else {"dims": [1], "reshape": {"shape": []}}


def _statistics(service: Service, signature: Signature) -> dict[str, Any]:
    counted = Statistics(service.telemetry.ledger, signature.name).document()
    return {"name": signature.name, "version": signature.version} | counted


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


async def infer(request: Request, name: str) -> Response:
    """Computes: tensors as JSON, as binary data behind it, or, raw, the numbers of the one input alone."""
    service, arrived, headers = service_of(request), monotonic(), dict(request.scope["headers"])
    service.admit()
    signature = _signature(request, name)
    if (schema_hash := headers.get(b"x-schema-hash")) is not None:
        check_schema(signature.model, {schema_hash.decode("latin-1")})
    counted = Statistics(service.telemetry.ledger, signature.name)
    try:
        content = await read_plain_body(request, headers, service.settings.max_body_bytes)
        read_at = monotonic()
        asked = read_asked(content, headers, signature, service.settings.max_rows)
        computing_at = monotonic()
        outputs, timing = await signature.compute(asked.inputs, asked.options, ticket(asked, headers, arrived))
        writing_at = monotonic()
        about = {"model_name": signature.name, "model_version": signature.version}
        answer = write(
            about | ({} if asked.id is None else {"id": asked.id}), outputs, asked.outputs, asked.answers_binary
        )
        done_at = monotonic()
    except Exception:
        counted.failed(monotonic() - arrived)
        raise
    rows = len(next(iter(asked.inputs.values())))
    counted.succeeded(
        rows,
        signature.queue.pace.max_rows,
        timing,
        input_s=computing_at - read_at,
        output_s=done_at - writing_at,
        seconds=done_at - arrived,
    )
    return await respond(answer, timing, headers)


def infer_routes() -> list[APIRoute]:
    """FastAPI documents them and leads there, but its way to an endpoint takes longer than all that is done in it."""
    made = []
    for path, described in _documented("/infer", INFER):
        route = APIRoute(router.prefix + path, infer, methods=["POST"], **described)
        route.app = _infer
        made.append(route)
    return made


async def _infer(scope: Scope, receive: Receive, send: Send) -> None:
    response = await infer(Request(scope, receive), scope["path_params"]["name"])
    await response(scope, receive, send)
