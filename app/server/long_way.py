"""uvicorn's way from bytes to ASGI and back, for all requests that the front door does not answer itself."""

import asyncio
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.api.leaving import LEAVING, Leaving


class LongWay(HttpToolsProtocol):
    """uvicorn's protocol as it is, but that whoever feeds it hears of each answer's end, and closes what is idle; and
    that a request hears of its client's leaving."""

    def __init__(
        self,
        answered: Callable[[], None],
        transport: asyncio.Transport,
        config: uvicorn.Config,
        state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        """Serves this connection. The server keeps counting and closing the front door, not this protocol."""
        super().__init__(config, state, app_state)
        self._answered, self._leaving = answered, Leaving()
        self.app = self._attended
        self.connection_made(transport)
        self.connections.discard(self)

    async def _attended(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[LEAVING] = self._leaving
        await self.config.loaded_app(scope, receive, send)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._leaving.leave()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._answered()

    def drop(self) -> bool:
        """Drops the request that is under way; False if its answer has begun."""
        if self.cycle is None or self.cycle.response_started:
            return False
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        return True

    def timeout_keep_alive_handler(self) -> None:
        """Does nothing: the front door closes idle connections."""
