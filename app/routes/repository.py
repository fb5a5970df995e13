"""The model repository extension of the Open Inference Protocol, as Triton has it: which models, load, unload."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response

from app.errors import MalformedBody, ModelControlOff
from app.routes.reading import read_body, service_of
from app.service import Service


class Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=1)] | None = None
    unload_dependents: bool = False  # which tritonclient sends; here no model depends on another


class Question(BaseModel):
    """Of all three requests; none needs a body."""

    model_config = ConfigDict(extra="forbid")

    ready: bool = False
    parameters: Parameters = Parameters()


router = APIRouter(prefix="/v2/repository", tags=["repository"])


@router.post("/index")
async def index(request: Request) -> Response:
    """Every version on disk: served, or why not. With `{"ready": true}` only those that are served."""
    question = await _question(request)
    found = [*_index(service_of(request))]
    return JSONResponse([each for each in found if each["state"] == "READY" or not question.ready])


@router.post("/models/{name}/load")
async def load(request: Request, name: str) -> Response:
    """Serves the highest version on disk or, with `{"parameters": {"version": "3"}}`, that one until told otherwise."""
    service = _controlled(request)
    await service.watcher.load(name, (await _question(request)).parameters.version)
    return Response()


@router.post("/models/{name}/unload")
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


async def _question(request: Request) -> Question:
    max_bytes = service_of(request).settings.max_body_bytes
    content = await read_body(dict(request.scope["headers"]), request.receive, max_bytes)
    try:
        return Question.model_validate_json(content.strip() or b"{}")
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
