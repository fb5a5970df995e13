"""Peers of the gRPC port that take as much as they can, while bots ask over HTTP."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from app.api.oip.grpc.messages import SERVICE
from tests.conftest import Survived
from tests.support.fuzz import limits_memory
from tests.support.load import Load
from tests.support.serving import Server

MAX_CONNECTIONS = 64
# Eight million tensors of no bytes each; parsed, they would take 720 MiB.
MANY_TENSORS = b"\x0a\x04tiny" + b"\x2a\0" * (2**23 - 10)


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    flags = ("--models", str(models), "--workers", "1", "--grpc-port", "0", "--max-connections", str(MAX_CONNECTIONS))
    with Server(*flags) as server:
        yield server
        assert server.stop() == 0


def grpc_port(server: Server) -> int:
    return int(re.findall(r"gRPC on [\d.]+:(\d+)", server.log)[0])


def test_messages_of_millions_of_fields_cost_little_and_hold_nobody_up(server: Server, survived: Survived) -> None:
    refused = 0
    with (
        limits_memory(server),
        Load(server) as load,
        grpc.insecure_channel(f"{server.host}:{grpc_port(server)}") as channel,
    ):
        asked = channel.unary_unary(f"/{SERVICE}/ModelInfer", request_serializer=bytes, response_deserializer=bytes)
        for answer in [asked.future(MANY_TENSORS, timeout=30) for _ in range(6)]:
            refused += answer.code() is grpc.StatusCode.INVALID_ARGUMENT
        load.go_on()
    assert refused == 6
    assert load.refused.total() == load.cut == load.lost == 0
    survived("6 messages of 16 MiB over gRPC, of two bytes a field", load)


def test_silent_connections_to_the_grpc_port_leave_http_its_own(server: Server, survived: Survived) -> None:
    address = server.host, grpc_port(server)
    with ExitStack() as stack, Load(server) as load:
        for _ in range(8 * MAX_CONNECTIONS):
            stack.enter_context(socket.create_connection(address, timeout=10))
        load.go_on()
        assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 3 * MAX_CONNECTIONS
    assert load.refused.total() == load.cut == load.lost == 0
    survived(f"{8 * MAX_CONNECTIONS} silent connections to gRPC, the limit is {MAX_CONNECTIONS}", load)
