"""ASGI middleware that takes each request through the guard, and renders errors in the dialect of its path.

It also answers HEAD as GET without the body (RFC 9110, 9.3.2), and lets a proxy pass a prefix of the path on or not.
"""

from collections.abc import Sequence
from time import monotonic

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.astray import direction
from app.api.dependencies import path_of
from app.api.guard import CLIENT_LEFT, Guard, Visit
from app.api.problems import PROBLEMS, Dialect
from app.errors import ClientLeft, ServiceError

METHODS = frozenset(("GET", "HEAD", "POST"))


class GuardMiddleware:
    """Errors are problem documents, except below the prefixes of `dialects`."""

    def __init__(self, app: ASGIApp, guard: Guard, dialects: Sequence[Dialect], root_path: str) -> None:
        self.app = app
        self._guard = guard
        self._dialects = dialects
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, is_head = self._rooted(scope), scope["method"] == "HEAD"
        visit = self._guard.visit(dict(scope["headers"]), scope["method"], path_of(scope), monotonic())
        asked = {**scope, "method": "GET"} if is_head else scope
        dialect = dialect_of(visit.path, self._dialects)
        visit.status_of = dialect.status_of
        has_begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                visit.status = message["status"]
                if self._guard.counts(visit.path):
                    message["headers"].append((b"x-request-id", visit.context.request_id))
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        try:
            with visit:
                try:
                    await self.app(asked, receive, send_with_id)
                finally:
                    self._name_route(visit, asked)
        except ServiceError as error:
            if has_begun:
                raise
            await dialect.render(error)(scope, receive, send_with_id)
        except ClientLeft:
            await Response(status_code=CLIENT_LEFT)(scope, receive, send_with_id)

    def _rooted(self, scope: Scope) -> Scope:
        """With the path as ASGI wants it: the prefix is in `root_path` and at the start of `path`, whether whatever
        stands before the service has taken it off or not."""
        root = self._root_path or scope.get("root_path", "").rstrip("/")
        path = scope["path"]
        if root and path != root and not path.startswith(f"{root}/"):
            path = root + path
        return {**scope, "root_path": root, "path": path}

    def _name_route(self, visit: Visit, scope: Scope) -> None:
        """Sets the route that is counted: its template, never the path, so that clients cannot add metric labels."""
        route = getattr(scope.get("route"), "path", "unmatched")
        method = visit.method if route != "unmatched" and visit.method in METHODS else "other"
        visit.route = self._guard.telemetry.route(method, route)


def dialect_of(path: str, dialects: Sequence[Dialect]) -> Dialect:
    """The dialect whose prefix the path has, or problem documents."""
    return next((each for each in dialects if each.speaks_at(path)), PROBLEMS)


def guard_app(
    app: FastAPI, guard: Guard, dialects: Sequence[Dialect], root_path: str, routes: Sequence[BaseRoute]
) -> None:
    """Puts the guard in front of all `routes`, and renders the errors that Starlette raises itself in each dialect."""
    app.add_middleware(GuardMiddleware, guard=guard, dialects=dialects, root_path=root_path)

    @app.exception_handler(HTTPException)
    async def refuse_http(request: Request, error: HTTPException) -> Response:
        told = direction(request, error, routes)
        return dialect_of(path_of(request.scope), dialects).render_http(*told)
