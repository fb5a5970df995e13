"""An answer as bytes, before it is known which way it goes to the client."""

from typing import NamedTuple

from starlette.types import Send

from app.api.headers import to_pairs


class Answer(NamedTuple):
    status: int
    # Of its headers, each with the end of its line.
    lines: bytes
    body: bytes

    async def send(self, send: Send) -> None:
        """As ASGI."""
        await send({"type": "http.response.start", "status": self.status, "headers": to_pairs(self.lines)})
        await send({"type": "http.response.body", "body": self.body})
