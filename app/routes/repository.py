"""The model repository extension of the Open Inference Protocol, as Triton has it: which models, load, unload."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response

from app import cards
from app.errors import MalformedBody
from app.routes.reading import read_body, service_of


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
    return JSONResponse(cards.index(service_of(request), ready=question.ready))


@router.post("/models/{name}/load")
async def load(request: Request, name: str) -> Response:
    """Serves the highest version on disk or, with `{"parameters": {"version": "3"}}`, that one until told otherwise."""
    service = service_of(request)
    service.check_control()
    await service.watcher.load(name, (await _question(request)).parameters.version)
    return Response()


@router.post("/models/{name}/unload")
async def unload(request: Request, name: str) -> Response:
    """Takes the model out of service until it is loaded again."""
    service = service_of(request)
    service.check_control()
    await _question(request)
    await service.watcher.unload(name)
    return Response()


async def _question(request: Request) -> Question:
    max_bytes = service_of(request).settings.max_body_bytes
    content = await read_body(dict(request.scope["headers"]), request.receive, max_bytes)
    return checked_question(content.strip() or b"{}")


def checked_question(source: bytes | dict[str, Any]) -> Question:
    """Of JSON, or of the document that it would be."""
    try:
        return Question.model_validate_json(source) if isinstance(source, bytes) else Question.model_validate(source)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the body"
        raise MalformedBody(f'{field}: {first["msg"]}; send nothing, or {{"parameters": {{"version": "3"}}}}') from None
