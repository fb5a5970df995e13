"""What happens to each request on the long way, whatever answers it."""

import logging
from time import monotonic

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import render, render_http
from app.auth import Keys
from app.errors import Unauthorized
from app.telemetry.metrics import Telemetry
from app.telemetry.request_context import calling

logger = logging.getLogger(__name__)

METHODS = frozenset(("GET", "HEAD", "POST"))
PROBES = frozenset(("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"))


# An orchestrator's probes have no key to send, and learn nothing.
OPEN = frozenset(("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"))


class TelemetryMiddleware:
    """Counts and times requests, gives each an id, and answers for what fails."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self.app = app
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self.app(scope, receive, send)
            return
        started = monotonic()
        caller = self.telemetry.arrived(dict(scope["headers"]), scope["method"], scope["path"], started)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", caller.request_id))
            await send(message)

        token = calling.set(caller)
        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            if status:  # half of an answer is out
                raise
            logger.exception("the service failed on a request to %s", scope["path"])
            answer = render_http(500, "the service failed on this request; its log has the reason", path=scope["path"])
            await answer(scope, receive, send_with_id)
        finally:
            calling.reset(token)
            # Labels must not grow with what clients send: the template of the route, never the path.
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if route != "unmatched" and scope["method"] in METHODS else "other"
            metrics = self.telemetry.route(method, route)
            self.telemetry.answered(
                caller, metrics, scope["method"], scope["path"], status or 500, monotonic() - started
            )


class KeyMiddleware:
    """Before everything but probes and, where they are left open, metrics."""

    def __init__(self, app: ASGIApp, keys: Keys, open_metrics: bool) -> None:
        self.app = app
        self._keys = keys
        self._open = OPEN | ({"/metrics"} if open_metrics else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open:
            try:
                self._keys.check(dict(scope["headers"]))
            except Unauthorized as error:
                scope["app"].state.service.telemetry.count_rejection(error)
                await render(error, scope["path"])(scope, receive, send)
                return
        await self.app(scope, receive, send)
