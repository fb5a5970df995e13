"""The gRPC server: it has its own port and shares the event loop with HTTP. Needs the extra `grpc`."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from app.api.guard import Guard
from app.api.oip.grpc.calls import Calls
from app.api.oip.grpc.core import Core, is_worth_a_line
from app.api.oip.grpc.health import Health
from app.api.oip.grpc.reflection import Reflection
from app.service import Service
from app.settings import MAX_HANDSHAKE_S

# One connection may have this share of all calls, so that no client takes them all.
CALLS_SHARE = 4
# Clients ping a silent connection every ten seconds at most often, by what gRPC's libraries allow; one that pings
# faster than this is let go.
MIN_PING_EVERY_S = 5.0


@asynccontextmanager
async def serving(service: Service, guard: Guard) -> AsyncIterator[int]:
    """Serves on `grpc_port`, which the workers share, and yields the port; on exit calls in progress may finish."""
    settings, most = service.settings, service.max_connections
    logging.getLogger(grpc.__name__).getChild("_cython.cygrpc").addFilter(is_worth_a_line)
    server = Core(asyncio.get_running_loop(), None, (), (), _options(service), most)
    calls = Calls(service, guard)
    health, reflection = Health(calls, service, guard.keys), Reflection(calls, settings.keep_alive_s)
    server.add_registered_method_handlers(calls.handlers() | health.handlers() | reflection.handlers())
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.grpc_port}".encode()
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        port = server.add_insecure_port(address)
    else:
        pair = settings.tls_key_file.read_bytes(), settings.tls_cert_file.read_bytes()
        port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    await server.start()
    service.telemetry.grpc_connections.begin(port)
    try:
        yield port
    finally:
        service.drain()
        await server.shutdown(await calls.ended())


def _options(service: Service) -> tuple[tuple[str, int], ...]:
    """grpcio's limits (grpc/impl/channel_arg_names.h). It closes a connection beyond the most, and one that does not
    begin to speak HTTP/2 in time; `keepalive` closes one that has calls and does not read."""
    settings, most = service.settings, service.max_connections
    patience_ms = settings.read_timeout_s * 1000
    options = {
        "grpc.so_reuseport": 1,
        "grpc.max_receive_message_length": settings.max_body_bytes,
        "grpc.max_send_message_length": -1,
        "grpc.max_allowed_incoming_connections": most,
        "grpc.max_concurrent_streams": max(1, most // CALLS_SHARE),
        "grpc.server_handshake_timeout_ms": int(MAX_HANDSHAKE_S * 1000),
        "grpc.max_connection_idle_ms": settings.keep_alive_s * 1000,
        "grpc.keepalive_time_ms": patience_ms,
        "grpc.keepalive_timeout_ms": patience_ms,
        "grpc.http2.min_ping_interval_without_data_ms": int(MIN_PING_EVERY_S * 1000),
        "grpc.keepalive_permit_without_calls": 1,
    }
    return tuple(options.items())
