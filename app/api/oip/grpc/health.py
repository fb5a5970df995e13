"""Standard health checks (grpc.health.v1), as Kubernetes' `grpc:` probes, Envoy and grpcurl ask for them.

The name that is asked for is empty for the service, as for /readyz, or that of a model as in ModelReady.
"""

import asyncio
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from app.api.guard import HEALTH
from app.api.oip.grpc.calls import Asked, Calls
from app.api.oip.grpc.fields import parts_of
from app.api.oip.grpc.messages import SERVICE
from app.api.oip.grpc.servicer import Metadata
from app.api.oip.models import find
from app.auth import Keys
from app.errors import Draining, ServiceError, UnknownModel
from app.service import Service

# How soon a change of the status is told to those who watch it.
WATCH_EVERY_S = 1.0
# The names of the service as a whole.
WHOLE = ("", SERVICE)
Status = health_pb2.HealthCheckResponse
ASKED = Asked(health_pb2.HealthCheckRequest.FromString, parts_of(health_pb2.HealthCheckRequest.DESCRIPTOR))


class Health:
    """The two methods of the protocol."""

    def __init__(self, calls: Calls, service: Service, keys: Keys) -> None:
        self._calls, self._service, self._keys = calls, service, keys

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        return {
            f"{HEALTH}/Check": grpc.stream_unary_rpc_method_handler(self._check),
            f"{HEALTH}/Watch": grpc.stream_stream_rpc_method_handler(self._watch),
        }

    async def _check(self, _: object, context: Any) -> bytes:
        async with self._calls.attended(f"{HEALTH}/Check", context) as metadata:
            name = (await self._calls.message(context, ASKED)).service
            with self._calls.owing():
                status = await self._status(name, metadata)
                if status == Status.SERVICE_UNKNOWN:
                    raise UnknownModel("there is no model of that name; ask for one, or for the service by no name")
                return bytes(Status(status=status).SerializeToString())

    async def _watch(self, _: object, context: Any) -> None:
        """Tells the status, and each one that is another, until the client leaves or the service stops."""
        async with self._calls.attended(f"{HEALTH}/Watch", context) as metadata:
            name, told = (await self._calls.message(context, ASKED)).service, None
            while True:
                is_last = self._calls.ending.is_set()
                if (status := await self._status(name, metadata)) != told:
                    await self._calls.write(context, Status(status=status))
                    told = status
                if is_last:
                    raise Draining("the service is stopping; watch another replica if there is one")
                with suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_EVERY_S):
                        await self._calls.ending.wait()

    async def _status(self, name: str, metadata: Metadata) -> int:
        if name not in WHOLE:
            # Which models there are is told to those alone who may use them.
            self._keys.check(metadata.headers)
        try:
            if name in WHOLE:
                await self._service.check_ready()
            else:
                self._service.admit()
                find(self._service.registry, name, None)
        except UnknownModel:
            return int(Status.SERVICE_UNKNOWN)
        except ServiceError:
            return int(Status.NOT_SERVING)
        return int(Status.SERVING)
