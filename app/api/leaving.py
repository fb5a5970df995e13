"""A client that leaves while its rows wait: on the ASGI way nobody would notice before its answer is sent."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Scope

from app.errors import ClientLeft

LEAVING = "jepa.leaving"


class Leaving:
    """In the scope of a request, under LEAVING: what the connection tells that its client has left."""

    def __init__(self) -> None:
        # Of the request, while it may be dropped.
        self.task: asyncio.Task[object] | None = None
        self.has_left = False

    def leave(self) -> None:
        if self.task is not None:
            self.has_left = True
            self.task.cancel()


@contextmanager
def dropped_if_left(scope: Scope) -> Iterator[None]:
    """Ends whatever is done meanwhile by ClientLeft as soon as the client leaves; rows that wait are not computed."""
    leaving: Leaving | None = scope.get(LEAVING)
    if leaving is None:
        yield
        return
    leaving.task = asyncio.current_task()
    try:
        yield
    except asyncio.CancelledError:
        if not leaving.has_left or leaving.task is None:
            raise
        leaving.task.uncancel()
        raise ClientLeft from None
    finally:
        leaving.task = None
