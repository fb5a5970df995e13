"""Who may ask: keys, and the middleware that lets nobody in without one."""

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Unauthorized, render

# An orchestrator's probes have no key to send, and learn nothing.
OPEN = frozenset(("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"))


class Keys:
    """Those that open the service; none at all leave it open."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises Unauthorized unless `Authorization: Bearer KEY` or `X-API-Key: KEY` has one of them."""
        if not self._digests:
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            given = headers.get(b"x-api-key", b"")
        if not given:
            raise Unauthorized("this service wants a key; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        digest = sha256(given.strip()).digest()
        # Each is compared, and in constant time: how long it takes tells nothing.
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise Unauthorized("the key is not one of this service's; it may have been replaced")


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
