"""POST …/infer, whose requests are parsed here: called as plain ASGI by FastAPI, or by a `Call` without it."""

import re
from collections.abc import Awaitable, Callable
from time import monotonic

from starlette.types import Receive, Scope, Send

from app.api.answer import Answer
from app.api.call import RequestHead
from app.api.guard import Guard
from app.api.headers import RawHeaders
from app.api.leaving import dropped_if_left
from app.api.oip.problems import OPEN_INFERENCE
from app.api.oip.request import Body, InferHead, about, parse_large, read_call, read_plain_body, respond, run
from app.api.oip.tensors import write
from app.service import Service

# With and without a version. A name with an escape, or not in ASCII, is left to FastAPI.
PATH = re.compile(rb"/v2/models/([\w.~-]+)(?:/versions/([\w.~-]+))?/infer")
TEMPLATES = ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer")


class InferHandler:
    """Answers the inference requests to one model, as `app.api.call.Handler` says; made whenever a path names it."""

    dialect = OPEN_INFERENCE

    def __init__(self, service: Service, guard: Guard, name: str, version: str | None = None) -> None:
        self.service, self.guard = service, guard
        self._name, self._version = name, version
        self.path = f"/v2/models/{name}/infer" if version is None else f"/v2/models/{name}/versions/{version}/infer"
        self.metrics = service.telemetry.route("POST", TEMPLATES[version is not None])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived, headers = monotonic(), dict(scope["headers"])
        self.service.admit()
        with dropped_if_left(scope):
            answer = await self._answer(headers, lambda: read_plain_body(receive, headers, self.service), arrived)
        await answer.send(send)

    async def answer(self, head: RequestHead[None], content: bytes, arrived: float) -> Answer:
        """Answers a request that passed the guard and arrived at `arrived` (`time.monotonic`); raises ServiceError."""
        headers = head.headers
        return await self._answer(headers, lambda: parse_large(content, headers, self.service), arrived)

    async def _answer(self, headers: RawHeaders, receive: Callable[[], Awaitable[Body]], arrived: float) -> Answer:
        max_rows = self.service.settings.max_rows
        written, timing = await run(
            self.service,
            InferHead(self._name, self._version, headers, arrived),
            receive,
            lambda body, signature: read_call(body, signature, max_rows),
            lambda signature, call, outputs: write(about(signature, call), outputs, call.outputs, call.answers_binary),
        )
        return await respond(written, timing, headers)


def infer_handler(service: Service, guard: Guard, path: bytes) -> InferHandler | None:
    """The handler of that path, if it is one for inference."""
    if (found := PATH.fullmatch(path)) is None:
        return None
    name, version = found.groups()
    return InferHandler(service, guard, name.decode(), None if version is None else version.decode())
