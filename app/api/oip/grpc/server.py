"""A gRPC server on a port of its own, in the event loop that answers HTTP; needs jepa-serve[grpc].

It lets in who has a key, counts and times, and turns what is refused into the codes of gRPC.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from app.api.oip.grpc.messages import METHODS, SERVICE, message
from app.api.oip.grpc.servicer import ANSWERS, Message, Metadata, infer
from app.errors import ServiceError, Superseded
from app.service import Service
from app.telemetry.request_context import calling

logger = logging.getLogger(__name__)

OPEN = frozenset(("ServerLive", "ServerReady"))
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
    if isinstance(error, Superseded):
        return grpc.StatusCode.ABORTED
    return CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[int]:
    """Answers on `grpc_port`, which worker processes share, and gives the port; ends when what has come is answered."""
    settings = service.settings
    options = {
        "grpc.so_reuseport": 1,
        "grpc.max_receive_message_length": settings.max_body_bytes,
        "grpc.max_send_message_length": -1,
        "grpc.max_connection_idle_ms": settings.keep_alive_s * 1000,
    }
    server = grpc.aio.server(options=[*options.items()], maximum_concurrent_rpcs=service.max_connections)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, _handlers(service)),))
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


def _handlers(service: Service) -> dict[str, grpc.RpcMethodHandler]:
    handlers = {}
    for method in METHODS:
        answers = GetMessageClass(method.output_type)
        codec = GetMessageClass(method.input_type).FromString, answers.SerializeToString
        if method.name == "ModelStreamInfer":
            handlers[method.name] = grpc.stream_stream_rpc_method_handler(_stream_infer(service), *codec)
        elif method.name == "ModelInfer":
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(_unary_infer(service), *codec)
        else:
            unary = _unary(service, method.name, answers)
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(unary, *codec)
    return handlers


def _unary(service: Service, name: str, answers: Any) -> Callable[[Message, Any], Awaitable[Message]]:
    async def handle(request: Message, context: Any) -> Message:
        async with _attended(service, name, context) as asked:
            return ParseDict(await ANSWERS[name](service, request, asked), answers(), ignore_unknown_fields=True)

    return handle


def _unary_infer(service: Service) -> Callable[[Message, Any], Awaitable[Message]]:
    async def handle(request: Message, context: Any) -> Message:
        async with _attended(service, "ModelInfer", context) as asked:
            answer, metadata = await infer(service, request, asked)
            context.set_trailing_metadata((*context.trailing_metadata(), *metadata))
            return answer

    return handle


def _stream_infer(service: Service) -> Callable[[AsyncIterator[Message], Any], AsyncIterator[Message]]:
    """One after the other; who is refused hears of it in the stream, which goes on."""

    async def handle(requests: AsyncIterator[Message], context: Any) -> AsyncIterator[Message]:
        async with _attended(service, "ModelStreamInfer", context) as asked:
            async for request in requests:
                try:
                    answer, _ = await infer(service, request, asked)
                except ServiceError as error:
                    service.telemetry.count_rejection(error)
                    yield Streamed(error_message=error.detail, infer_response={"id": request.id})
                else:
                    yield Streamed(infer_response=answer)

    return handle


@asynccontextmanager
async def _attended(service: Service, name: str, context: Any) -> AsyncIterator[Metadata]:
    """Lets in who has a key, counts and times, and ends the call with the code of what was refused."""
    given = context.invocation_metadata() or ()
    headers = {key.encode(): value if isinstance(value, bytes) else value.encode() for key, value in given}
    metadata = Metadata(headers, context.time_remaining())
    if name in OPEN:
        yield metadata
        return
    telemetry, began, path = service.telemetry, monotonic(), f"/{SERVICE}/{name}"
    caller, status, refusal = telemetry.arrived(headers, "GRPC", path, began), 200, None
    context.set_trailing_metadata((("x-request-id", caller.request_id.decode()),))
    token = calling.set(caller)
    try:
        service.keys.check(headers)
        yield metadata
    except ServiceError as error:
        telemetry.count_rejection(error)
        status, refusal = error.status, (code_of(error), error.detail)
    except asyncio.CancelledError:
        status = 499
        raise
    except Exception:
        logger.exception("the service failed on a call of %s", path)
        status, refusal = 500, (grpc.StatusCode.INTERNAL, "the service failed on this request; its log has the reason")
    finally:
        calling.reset(token)
        telemetry.answered(caller, telemetry.route("GRPC", path), "GRPC", path, status, monotonic() - began)
    if refusal is not None:
        await context.abort(*refusal)
