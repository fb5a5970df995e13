"""The gRPC server: it has its own port and shares the event loop with HTTP. Needs jepa-serve[grpc].

Each call passes the same guard as an HTTP request, and errors become gRPC status codes.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from app.api.guard import Guard
from app.api.oip.grpc.messages import METHODS, SERVICE, message
from app.api.oip.grpc.servicer import ANSWERS, Message, Metadata, infer
from app.errors import ServiceError, Superseded
from app.service import Service

CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
Streamed = message("ModelStreamInferResponse")


def code_of(error: ServiceError) -> grpc.StatusCode:
    """The gRPC status code for an error."""
    if isinstance(error, Superseded):
        return grpc.StatusCode.ABORTED
    return CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)


@asynccontextmanager
async def serving(service: Service, guard: Guard) -> AsyncIterator[int]:
    """Serves on `grpc_port`, which the workers share, and yields the port; on exit calls in progress may finish."""
    settings = service.settings
    options = {
        "grpc.so_reuseport": 1,
        "grpc.max_receive_message_length": settings.max_body_bytes,
        "grpc.max_send_message_length": -1,
        "grpc.max_connection_idle_ms": settings.keep_alive_s * 1000,
    }
    server = grpc.aio.server(options=[*options.items()], maximum_concurrent_rpcs=service.max_connections)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, _handlers(service, guard)),))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.grpc_port}"
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        port = server.add_insecure_port(address)
    else:
        pair = settings.tls_key_file.read_bytes(), settings.tls_cert_file.read_bytes()
        port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield port
    finally:
        service.drain()
        await server.stop(service.grace_s)


def _handlers(service: Service, guard: Guard) -> dict[str, grpc.RpcMethodHandler]:
    handlers = {}
    for method in METHODS:
        answers = GetMessageClass(method.output_type)
        codec = GetMessageClass(method.input_type).FromString, answers.SerializeToString
        if method.name == "ModelStreamInfer":
            handlers[method.name] = grpc.stream_stream_rpc_method_handler(_stream_infer(service, guard), *codec)
        elif method.name == "ModelInfer":
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(_unary_infer(service, guard), *codec)
        else:
            unary = _unary(service, guard, method.name, answers)
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(unary, *codec)
    return handlers


def _unary(service: Service, guard: Guard, name: str, answers: Any) -> Callable[[Message, Any], Awaitable[Message]]:
    async def handle(request: Message, context: Any) -> Message:
        async with _attended(guard, name, context) as metadata:
            return ParseDict(await ANSWERS[name](service, request, metadata), answers(), ignore_unknown_fields=True)

    return handle


def _unary_infer(service: Service, guard: Guard) -> Callable[[Message, Any], Awaitable[Message]]:
    async def handle(request: Message, context: Any) -> Message:
        async with _attended(guard, "ModelInfer", context) as metadata:
            answer, trailing = await infer(service, request, metadata)
            context.set_trailing_metadata((*context.trailing_metadata(), *trailing))
            return answer

    return handle


def _stream_infer(service: Service, guard: Guard) -> Callable[[AsyncIterator[Message], Any], AsyncIterator[Message]]:
    """Answers the requests of a stream one after another; an error is a message in the stream, which goes on."""

    async def handle(requests: AsyncIterator[Message], context: Any) -> AsyncIterator[Message]:
        async with _attended(guard, "ModelStreamInfer", context) as metadata:
            async for request in requests:
                try:
                    answer, _ = await infer(service, request, metadata)
                except ServiceError as error:
                    service.telemetry.count_rejection(error)
                    yield Streamed(error_message=error.detail, infer_response={"id": request.id})
                else:
                    yield Streamed(infer_response=answer)

    return handle


@asynccontextmanager
async def _attended(guard: Guard, name: str, context: Any) -> AsyncIterator[Metadata]:
    """Takes a call through the guard; an error aborts it with the matching status code."""
    given = context.invocation_metadata() or ()
    headers = {key.encode(): value if isinstance(value, bytes) else value.encode() for key, value in given}
    path = f"/{SERVICE}/{name}"
    visit = guard.visit(headers, "GRPC", path, monotonic(), route=guard.telemetry.route("GRPC", path))
    if guard.counts(path):
        context.set_trailing_metadata((("x-request-id", visit.context.request_id.decode()),))
    try:
        with visit:
            yield Metadata(headers, context.time_remaining())
    except ServiceError as error:
        await context.abort(code_of(error), error.detail)
