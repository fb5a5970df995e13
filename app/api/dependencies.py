"""What endpoints are given."""

from starlette.requests import Request

from app.service import Service


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
