"""What endpoints take from the application that serves them."""

from starlette.requests import Request

from app.service import Service


def service_of(request: Request) -> Service:
    """The service that `create_app` built."""
    service: Service = request.app.state.service
    return service
