"""The model repository extension of the Open Inference Protocol, as Triton has it: which models, load, unload."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from app.documentation import MODEL_CONTROL, SCHEMAS, v2_problems
from app.errors import MalformedBody, ModelControlOff
from app.routes.reading import read_body, service_of
from app.schemas import RepositoryEntry, RepositoryRequest
from app.service import Service

router = APIRouter(prefix="/v2/repository", tags=["repository"])
BODY = {"requestBody": {"content": {"application/json": {"schema": {"$ref": SCHEMAS + "RepositoryRequest"}}}}}


@router.post(
    "/index",
    response_model=list[RepositoryEntry],
    responses=v2_problems(400, 413, described=MODEL_CONTROL),
    openapi_extra=BODY,
)
async def index(request: Request) -> Response:
    """Every version on disk: served, or why not. With `{"ready": true}` only those that are served."""
    question = await _question(request)
    found = [*_index(service_of(request))]
    return JSONResponse([each for each in found if each["state"] == "READY" or not question.ready])


CONTROL: dict[str, Any] = {
    "response_class": Response,
    "responses": v2_problems(*MODEL_CONTROL, described=MODEL_CONTROL),
    "openapi_extra": BODY,
}


@router.post("/models/{name}/load", **CONTROL)
async def load(request: Request, name: str) -> Response:
    """Serves the highest version on disk or, with `{"parameters": {"version": "3"}}`, that one until told otherwise."""
    service = _controlled(request)
    await service.watcher.load(name, (await _question(request)).parameters.version)
    return Response()


@router.post("/models/{name}/unload", **CONTROL)
async def unload(request: Request, name: str) -> Response:
    """Takes the model out of service until it is loaded again."""
    service = _controlled(request)
    await _question(request)
    await service.watcher.unload(name)
    return Response()


def _controlled(request: Request) -> Service:
    service = service_of(request)
    if not service.settings.model_control:
        raise ModelControlOff("models are not loaded or unloaded over HTTP unless JEPA_MODEL_CONTROL is true")
    service.admit()
    return service


async def _question(request: Request) -> RepositoryRequest:
    max_bytes = service_of(request).settings.max_body_bytes
    content = await read_body(dict(request.scope["headers"]), request.receive, max_bytes)
    try:
        return RepositoryRequest.model_validate_json(content.strip() or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the body"
        raise MalformedBody(f'{field}: {first["msg"]}; send nothing, or {{"parameters": {{"version": "3"}}}}') from None


def _index(service: Service) -> list[dict[str, str]]:
    registry = service.registry
    served = {name: model.bundle.manifest.version for name, model in registry.models.items()}
    reasons = {refused.folder: refused.reason for refused in registry.refused}
    rows = []
    for name in sorted(served.keys() | registry.versions.keys()):
        for version in sorted({*registry.versions.get(name, ()), *([served[name]] if name in served else ())}):
            reason = reasons.get(service.settings.models / name / str(version), "")
            ready = served.get(name) == version
            if not ready and not reason:
                reason = f"version {served[name]} is served" if name in served else "unloaded"
            state = "READY" if ready else "UNAVAILABLE"
            rows.append({"name": name, "version": str(version), "state": state, "reason": reason})
    return rows
