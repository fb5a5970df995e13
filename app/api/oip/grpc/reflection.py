"""Server reflection, by which grpcurl and Postman learn the methods and messages of a service from itself."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from app.api.oip.grpc.calls import Asked, Calls
from app.api.oip.grpc.fields import parts_of
from app.api.oip.grpc.messages import FILES, SERVICE

# Both versions have the same messages; what asks tries the one and then the other.
VERSIONS = ("v1", "v1alpha")
METHOD = "/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
Request = reflection_pb2.ServerReflectionRequest
ASKED = Asked(Request.FromString, parts_of(Request.DESCRIPTOR))
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name


class Reflection:
    """The one method of the protocol."""

    def __init__(self, calls: Calls, silence_s: float) -> None:
        """`silence_s` is how long a stream may be silent before it is ended."""
        pool = DescriptorPool()
        for file in FILES:
            pool.Add(file)
        for described in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
            pool.AddSerializedFile(described.serialized_pb)
        self._calls, self._silence_s = calls, silence_s
        self._servicer = reflection.aio.ReflectionServicer((SERVICE, HEALTH, REFLECTION), pool)

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        return {
            path: grpc.stream_stream_rpc_method_handler(self._answering(path))
            for path in (METHOD.format(version=version) for version in VERSIONS)
        }

    def _answering(self, path: str) -> Any:
        async def handle(_: object, context: Any) -> None:
            async with self._calls.attended(path, context):
                while (content := await self._calls.read(context, self._silence_s)) is not None:
                    with self._calls.owing():
                        asked = self._calls.parsed(content, ASKED)
                        async for answer in self._servicer.ServerReflectionInfo(_only(asked), context):
                            await self._calls.write(context, answer)

        return handle


async def _only(message: Any) -> AsyncIterator[Any]:
    yield message
