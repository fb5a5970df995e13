"""The standard services beside the protocol's own: health checks, reflection, and pings that keep a connection."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from app.api.guard import HEALTH, Guard
from app.api.oip.grpc.messages import SERVICE
from app.api.oip.grpc.server import serving
from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.support import http2

pytestmark = pytest.mark.anyio
KEY = "key-0123456789abcdef"
WITH_KEY = (("x-api-key", KEY),)
Status = health_pb2.HealthCheckResponse
REFLECTION = "/grpc.reflection.{}.ServerReflection/ServerReflectionInfo"


@asynccontextmanager
async def answering(models: Path, **settings: Any) -> AsyncIterator[tuple[grpc.aio.Channel, Service, int]]:
    """A channel to a server in this process, and its port."""
    service = create_app(Settings(models=models, grpc_port=0, **settings)).state.service
    service.open()
    async with serving(service, Guard(service)) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, service, port
    service.close()


async def check(channel: grpc.aio.Channel, name: str, **options: Any) -> int:
    asked = health_pb2.HealthCheckRequest(service=name)
    return int((await health_pb2_grpc.HealthStub(channel).Check(asked, **options)).status)


async def test_the_service_and_each_of_its_models_say_whether_they_serve(models: Path) -> None:
    async with answering(models) as (channel, service, _):
        for name in ("", SERVICE, "tiny", "tiny.predictor"):
            assert await check(channel, name) == Status.SERVING
        for name in ("nope", "tiny.nope", "x" * 1000):
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await check(channel, name)
            assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
        service.registry.unload("tiny")
        assert await check(channel, "") == Status.NOT_SERVING
        text = service.telemetry.text().decode()
        assert HEALTH not in text


async def test_a_watch_tells_each_change_and_ends_with_the_service(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.oip.grpc.health.WATCH_EVERY_S", 0.01)
    async with answering(models) as (channel, service, _):
        watched = {
            name: health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name))
            for name in ("", "tiny", "other")
        }
        first = {name: (await watch.read()).status for name, watch in watched.items()}
        assert first == {"": Status.SERVING, "tiny": Status.SERVING, "other": Status.SERVICE_UNKNOWN}
        service.registry.unload("tiny")
        assert (await watched[""].read()).status == Status.NOT_SERVING
        assert (await watched["tiny"].read()).status == Status.NOT_SERVING
        service.drain()
        assert (await watched["other"].read()).status == Status.NOT_SERVING
        for watch in watched.values():
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await watch.read()
            assert ended.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_probe_needs_no_key_but_what_tells_or_holds_more_does(models: Path) -> None:
    async with answering(models, api_keys=KEY) as (channel, _, _):
        assert await check(channel, "") == Status.SERVING
        assert await check(channel, "tiny", metadata=WITH_KEY) == Status.SERVING
        for name in ("tiny", "nope"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await check(channel, name)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as unwatched:
            await stub.Watch(health_pb2.HealthCheckRequest()).read()
        assert unwatched.value.code() == grpc.StatusCode.UNAUTHENTICATED
        watch = stub.Watch(health_pb2.HealthCheckRequest(), metadata=WITH_KEY)
        assert (await watch.read()).status == Status.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unreflected:
            await reflected(channel, "v1", list_services="")
        assert unreflected.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def reflected(channel: grpc.aio.Channel, version: str, **asked: Any) -> Any:
    call = channel.stream_stream(
        REFLECTION.format(version),
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()
    await call.write(reflection_pb2.ServerReflectionRequest(**asked))
    answer = await call.read()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    return answer


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_the_service_describes_its_methods_and_messages_itself(models: Path, version: str) -> None:
    async with answering(models) as (channel, _, _):
        listed = await reflected(channel, version, list_services="")
        names = {each.name for each in listed.list_services_response.service}
        assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
        for name in names:
            answer = await reflected(channel, version, file_containing_symbol=name)
            (described,) = answer.file_descriptor_response.file_descriptor_proto
            file = FileDescriptorProto.FromString(described)
            assert name in {f"{file.package}.{service.name}" for service in file.service}
        unknown = await reflected(channel, version, file_containing_symbol="no.such.Thing")
        assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_a_silent_stream_of_reflection_is_ended(models: Path) -> None:
    async with answering(models, keep_alive_s=1) as (channel, _, _):
        call = channel.stream_stream(REFLECTION.format("v1"))()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert ended.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("has_call", [True, False], ids=["within a stream", "without a call"])
async def test_a_client_may_ping_a_silent_connection_now_and_then(
    models: Path, monkeypatch: pytest.MonkeyPatch, has_call: bool
) -> None:
    """At most two pings in a row may come too soon; here 20 come, each a little later than the limit."""
    monkeypatch.setattr("app.api.oip.grpc.server.MIN_PING_EVERY_S", 0.01)
    async with answering(models) as (_, _, port):
        assert await asyncio.to_thread(pings_answered, port, has_call) == 20


def pings_answered(port: int, has_call: bool) -> int:
    answered, data = 0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(http2.hello() + (http2.call("ModelStreamInfer") if has_call else b""))
        for number in range(20):
            connection.sendall(http2.frame(http2.PING, 0, 0, struct.pack(">Q", number + 1)))
            while answered == number:
                data += connection.recv(2**16)
                found = [*http2.frames(data)]
                assert http2.GOAWAY not in {kind for kind, _, _ in found}
                answered = sum(kind == http2.PING for kind, _, _ in found)
            # As a client's clock has it; the wait is what is tested.
            connection.settimeout(0.02)
            with suppress(TimeoutError):
                data += connection.recv(2**16)
            connection.settimeout(10)
    return answered
