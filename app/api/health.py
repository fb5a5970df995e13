"""Liveness, readiness and metrics, for orchestrators and dashboards."""

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from app.api.dependencies import service_of
from app.api.openapi import problems

router = APIRouter(tags=["health"])


@router.get("/livez", response_class=PlainTextResponse)
async def livez() -> Response:
    """200 while the event loop runs; nothing else is checked, so that a busy model never gets the process killed."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", response_class=PlainTextResponse, responses=problems(503))
async def readyz(request: Request) -> Response:
    """200 when all models are loaded and answer; 503 while starting or draining, without a model, or when one fails.

    What keeps the models from changing is said in lines after the first one: those that are served go on."""
    service = service_of(request)
    await service.check_ready()
    return PlainTextResponse("".join(f"{line}\n" for line in ("ok", *service.registry.loads.troubles)))


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Metrics in the Prometheus text format."""
    telemetry = service_of(request).telemetry
    await telemetry.grpc_connections.refresh()
    return Response(telemetry.text(), media_type=CONTENT_TYPE_LATEST)
