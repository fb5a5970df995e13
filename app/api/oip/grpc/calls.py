"""Calls over gRPC: each passes the same guard as an HTTP request, and errors become gRPC status codes.

The guard sees the metadata of a call before any message is read: grpcio would read and parse a message first where a
method takes just one, so here all of them are streams of bytes for grpcio.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from time import monotonic
from typing import Any, NamedTuple

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from app.api.guard import Guard
from app.api.oip.grpc.fields import Parts, check_fields, parts_of
from app.api.oip.grpc.messages import METHODS, SERVICE, message
from app.api.oip.grpc.servicer import ANSWERS, Message, Metadata, infer
from app.api.validation import MAX_MEMBERS
from app.errors import BuffersFull, Draining, MalformedBody, ServiceError, Superseded, TooSlow
from app.service import Service
from app.system.buffers import FREE_BYTES, Share

CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
Streamed = message("ModelStreamInferResponse")
# No message of a frame or two has too many fields: each takes at least two bytes.
SMALL_BYTES = 2 * MAX_MEMBERS
# When the service stops, a message may still arrive for this long, so that its sender gets an answer.
FAREWELL_S = 0.25
# How long the status of a call that failed may take to be sent.
LINGER_S = 1.0
# How soon grpcio cancels a call whose message it refuses: one that is too large, or cannot be unpacked. Reading such a
# message gives the same as the end of them all.
REFUSAL_S = 0.05
FULL = "answers that are not read take all the memory that there is for them; read yours, and call again later"

Handle = Callable[[Any, Any], Awaitable[bytes]]


class Asked(NamedTuple):
    """The messages that a method takes."""

    parse: Callable[[bytes], Message]
    parts: Parts


def code_of(error: ServiceError) -> grpc.StatusCode:
    """The gRPC status code for an error."""
    if isinstance(error, Superseded):
        return grpc.StatusCode.ABORTED
    return CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)


class Calls:
    """The calls of one server."""

    def __init__(self, service: Service, guard: Guard) -> None:
        self._service, self._guard, self._settings = service, guard, service.settings
        self._loop = asyncio.get_running_loop()
        # Of the calls that wait for a message.
        self._limits: set[asyncio.Timeout] = set()
        # When messages are no longer waited for (`loop.time`); set when the service stops.
        self._ends_at: float | None = None
        self.ending = asyncio.Event()
        # Messages that were read and are not answered, and when there last was one (`time.monotonic`).
        self._owed, self._owed_at = 0, 0.0
        service.when_draining(lambda: self._loop.call_soon_threadsafe(self._stop))

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """By the paths of their methods; they take bytes, and return bytes."""
        handlers = {}
        for method in METHODS:
            kind = GetMessageClass(method.input_type)
            asked, answers = Asked(kind.FromString, parts_of(kind.DESCRIPTOR)), GetMessageClass(method.output_type)
            if method.name == "ModelStreamInfer":
                handler = grpc.stream_stream_rpc_method_handler(self._stream_infer(asked))
            elif method.name == "ModelInfer":
                handler = grpc.stream_unary_rpc_method_handler(self._infer(asked))
            else:
                handler = grpc.stream_unary_rpc_method_handler(self._unary(method.name, asked, answers))
            handlers[f"/{SERVICE}/{method.name}"] = handler
        return handlers

    async def ended(self) -> float:
        """Returns when whatever was let in before the service stopped is answered, or its time is over; and how many
        seconds are left to the others, which do not read their answers or have sent half a message."""
        while self._owed and self._service.grace_s:
            await asyncio.sleep(0.01)
        return max(0.0, max(self._owed_at, self._service.drained_at) + FAREWELL_S - monotonic())

    def _stop(self) -> None:
        self._ends_at = self._loop.time() + FAREWELL_S
        self.ending.set()
        for limit in self._limits:
            limit.reschedule(min(limit.when() or self._ends_at, self._ends_at))

    def _unary(self, name: str, asked: Asked, answers: Any) -> Handle:
        async def handle(_: object, context: Any) -> bytes:
            async with self.attended(f"/{SERVICE}/{name}", context) as metadata:
                request = await self.message(context, asked)
                with self.owing():
                    document = await ANSWERS[name](self._service, request, metadata)
                    answer = ParseDict(document, answers(), ignore_unknown_fields=True)
                    return self._held(answer.SerializeToString(), context)

        return handle

    def _infer(self, asked: Asked) -> Handle:
        async def handle(_: object, context: Any) -> bytes:
            async with self.attended(f"/{SERVICE}/ModelInfer", context) as metadata:
                request = await self.message(context, asked)
                with self.owing():
                    answer, trailing = await infer(self._service, request, metadata)
                    context.set_trailing_metadata((*context.trailing_metadata(), *trailing))
                    return self._held(answer.SerializeToString(), context)

        return handle

    def _stream_infer(self, asked: Asked) -> Callable[[Any, Any], Awaitable[None]]:
        """Answers the requests of a stream one after another; an error is a message in the stream, which goes on."""

        async def handle(_: object, context: Any) -> None:
            async with self.attended(f"/{SERVICE}/ModelStreamInfer", context) as metadata:
                while (content := await self.read(context, self._settings.keep_alive_s)) is not None:
                    await self.write(context, await self._answer(content, asked, metadata))

        return handle

    async def _answer(self, content: bytes, asked: Asked, metadata: Metadata) -> Message:
        """To one message of a stream."""
        number = ""
        try:
            with self.owing():
                request = self.parsed(content, asked)
                number = request.id
                answer, _ = await infer(self._service, request, metadata)
        except ServiceError as error:
            self._service.telemetry.count_rejection(error)
            return Streamed(error_message=error.detail, infer_response={"id": number})
        return Streamed(infer_response=answer)

    async def message(self, context: Any, asked: Asked) -> Message:
        """The one message of a call."""
        content = await self.read(context, self._settings.read_timeout_s)
        if content is None:
            raise MalformedBody("the call came without a message; send one")
        return self.parsed(content, asked)

    def parsed(self, content: bytes, asked: Asked) -> Message:
        if len(content) > SMALL_BYTES:
            check_fields(content, asked.parts, self._settings.max_body_bytes)
        try:
            return asked.parse(content)
        except DecodeError:
            raise MalformedBody("the message is none of this method; let a protobuf library write it") from None

    async def read(self, context: Any, limit_s: float) -> bytes | None:
        """The next message, None if there will be none; raises if it does not come within the limit."""
        ends_at = self._loop.time() + limit_s
        limit = asyncio.timeout_at(ends_at if self._ends_at is None else min(ends_at, self._ends_at))
        self._limits.add(limit)
        try:
            async with limit:
                content = await context.read()
        except TimeoutError:
            if self._ends_at is not None:
                raise Draining("the service is stopping; call again, another replica if there is one") from None
            raise TooSlow(f"no message had come to its end after {limit_s} s") from None
        finally:
            self._limits.discard(limit)
        if content is not grpc.aio.EOF:
            return bytes(content)
        await asyncio.sleep(REFUSAL_S)
        return None

    async def write(self, context: Any, answer: Message) -> None:
        limit_s, share = self._settings.read_timeout_s, Share(self._service.buffers)
        content = answer.SerializeToString()
        if not share.fits(len(content)):
            raise BuffersFull(FULL)
        try:
            async with asyncio.timeout(limit_s):
                await context.write(content)
        except TimeoutError:
            raise TooSlow(f"an answer had not been read after {limit_s} s") from None
        finally:
            share.fits(0)

    def _held(self, answer: bytes, context: Any) -> bytes:
        """The answer, counted among those that are not read until it is."""
        if len(answer) > FREE_BYTES:
            share = Share(self._service.buffers)
            if not share.fits(len(answer)):
                raise BuffersFull(FULL)
            context.add_done_callback(lambda _: share.fits(0))
        return answer

    @contextmanager
    def owing(self) -> Iterator[None]:
        self._owed += 1
        try:
            yield
        finally:
            self._owed -= 1
            self._owed_at = monotonic()

    @asynccontextmanager
    async def attended(self, path: str, context: Any) -> AsyncIterator[Metadata]:
        """Takes a call of a method through the guard; an error aborts it with the matching status code."""
        given = context.invocation_metadata() or ()
        headers = {key.encode(): value if isinstance(value, bytes) else value.encode() for key, value in given}
        guard = self._guard
        route = guard.telemetry.route("GRPC", path) if guard.counts(path) else None
        visit = guard.visit(headers, "GRPC", path, monotonic(), route=route)
        if guard.counts(path):
            context.set_trailing_metadata((("x-request-id", visit.context.request_id.decode()),))
        try:
            with visit:
                yield Metadata(headers, context.time_remaining())
        except ServiceError as error:
            # A client that reads nothing gets no status either.
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await context.abort(code_of(error), error.detail)
