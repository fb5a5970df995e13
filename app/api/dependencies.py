"""What endpoints take from the application that serves them."""

from starlette.requests import Request
from starlette.types import Scope

from app.service import Service


def service_of(request: Request) -> Service:
    """The service that `create_app` built."""
    service: Service = request.app.state.service
    return service


def path_of(scope: Scope) -> str:
    """The path of a request without the prefix that a proxy puts before all of them."""
    root, path = scope.get("root_path", ""), scope["path"]
    if root and (path == root or path.startswith(f"{root}/")):
        return path[len(root) :] or "/"
    return str(path)
