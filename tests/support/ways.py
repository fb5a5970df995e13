"""The way that requests take through the service."""

from typing import Any

import pytest

from app.api.native.handler import Handler
from app.api.oip.handler import InferHandler


def on_the_long_way(monkeypatch: pytest.MonkeyPatch, kind: type[Handler] | type[InferHandler]) -> list[str]:
    """Paths of the requests that go it to handlers of that kind, from now on."""
    taken: list[str] = []
    call = kind.__call__

    async def counted(self: Any, *arguments: Any) -> None:
        taken.append(self.path)
        await call(self, *arguments)

    monkeypatch.setattr(kind, "__call__", counted)
    return taken
