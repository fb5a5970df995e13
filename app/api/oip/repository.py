"""The model repository extension of the Open Inference Protocol, as in Triton: list, load and unload models."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from app.api.body import read_body
from app.api.dependencies import service_of
from app.api.oip import metadata
from app.api.oip.openapi import MODEL_CONTROL, v2_problems
from app.api.oip.schemas import RepositoryEntry, RepositoryRequest
from app.api.openapi import SCHEMAS
from app.errors import MalformedBody

# A right body is a few dozen bytes long.
MAX_BODY_BYTES = 2**14

router = APIRouter(prefix="/v2/repository", tags=["repository"])
BODY = {"requestBody": {"content": {"application/json": {"schema": {"$ref": SCHEMAS + "RepositoryRequest"}}}}}


@router.post(
    "/index",
    response_model=list[RepositoryEntry],
    responses=v2_problems(400, 413, described=MODEL_CONTROL),
    openapi_extra=BODY,
)
async def index(request: Request) -> Response:
    """Lists every version on disk, with the reason if it is not served; with `{"ready": true}` only those that are."""
    wanted = await _read_request(request)
    return JSONResponse(metadata.index(service_of(request), ready=wanted.ready))


CONTROL: dict[str, Any] = {
    "response_class": Response,
    "responses": v2_problems(*MODEL_CONTROL, described=MODEL_CONTROL),
    "openapi_extra": BODY,
}


@router.post("/models/{name}/load", **CONTROL)
async def load(request: Request, name: str) -> Response:
    """Serves the highest version on disk or, with `{"parameters": {"version": "3"}}`, pins that one."""
    service = service_of(request)
    service.check_control()
    await service.watcher.load(name, (await _read_request(request)).parameters.version)
    return Response()


@router.post("/models/{name}/unload", **CONTROL)
async def unload(request: Request, name: str) -> Response:
    """Stops serving the model until it is loaded again."""
    service = service_of(request)
    service.check_control()
    await _read_request(request)
    await service.watcher.unload(name)
    return Response()


async def _read_request(request: Request) -> RepositoryRequest:
    max_bytes = min(MAX_BODY_BYTES, service_of(request).settings.max_body_bytes)
    content = await read_body(dict(request.scope["headers"]), request.receive, max_bytes)
    return check_repository_request(content.strip() or b"{}")


def check_repository_request(source: bytes | dict[str, Any]) -> RepositoryRequest:
    """Validates the body of a request, given as JSON or already parsed; raises MalformedBody."""
    try:
        if isinstance(source, bytes):
            return RepositoryRequest.model_validate_json(source)
        return RepositoryRequest.model_validate(source)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the body"
        raise MalformedBody(f'{field}: {first["msg"]}; send nothing, or {{"parameters": {{"version": "3"}}}}') from None
