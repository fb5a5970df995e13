"""What a client is told that asks where nothing is, or by a method that nobody answers."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Match

from app.api.dependencies import path_of

# Of a path, in a message.
MAX_PATH_CHARS = 64


class Direction(NamedTuple):
    status: int
    detail: str
    headers: Mapping[str, str] | None


def direction(request: Request, error: HTTPException, routes: Sequence[BaseRoute]) -> Direction:
    """What to answer where Starlette raised this error: for a path with a slash too many or too few the right
    one, and else what there is."""
    path, headers = path_of(request.scope), error.headers
    if error.status_code == 405:
        allowed = (headers or {}).get("Allow", "").replace("GET", "GET, HEAD")
        detail = f"{request.method} is not answered at {_short(path)}; {allowed} is"
        return Direction(405, detail, {**(headers or {}), "Allow": allowed})
    if error.status_code != 404:
        return Direction(error.status_code, error.detail, headers)
    root, asked = request.scope.get("root_path", ""), request.scope["path"]
    right = f"{root}/" + "/".join(filter(None, path.split("/")))
    if right != asked and any(route.matches({**request.scope, "path": right})[0] != Match.NONE for route in routes):
        # No host, as TLS may end before the service; and without a prefix that is known what holds behind any.
        is_relative = not root and asked == f"{right}/"
        place = quote(f"../{right.rpartition('/')[2]}" if is_relative else right)
        query = request.url.query
        headers = {"Location": f"{place}?{query}" if query else place}
        return Direction(307, f"ask at {_short(right)}; slashes count", headers)
    known = {template for route in routes if isinstance(template := getattr(route, "path", None), str)}
    nearest = "".join(f"; the nearest is {each}" for each in get_close_matches(path[:MAX_PATH_CHARS].lower(), known, 1))
    return Direction(404, f"there is nothing at {_short(path)}{nearest}; /docs lists what there is", headers)


def _short(path: str) -> str:
    return path if len(path) <= MAX_PATH_CHARS else f"{path[:MAX_PATH_CHARS]}…"
