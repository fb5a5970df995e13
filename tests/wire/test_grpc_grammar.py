"""Calls over gRPC, drawn from the grammar of their messages and from what is nearly that: each is answered or refused
in few words, whatever lies in between, and the service stays as large as it was."""

import random
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from app.api.oip.grpc.messages import METHODS, SERVICE, message
from tests.support import http2
from tests.support.bundles import TinyModel
from tests.support.fuzz import ROUNDS, fuzzed
from tests.support.serving import Server

TINY = TinyModel()
CALLS, CONNECTIONS = 400, 40
MAX_REFUSAL_CHARS = 5000
# An answer that takes longer does not come.
MAX_WAIT_S = 10
KINDS = {method.name: GetMessageClass(method.input_type) for method in METHODS if not method.name.startswith("Server")}
Request, Answer = message("ModelInferRequest"), message("ModelInferResponse")
VARINT, DELIMITED = 0, 2
NUMBERS = (0, 1, 2, 127, 2**31, 2**63 - 1, 2**64 - 1)
TEXTS = ("", "tiny", "tiny.predictor", "features", "FP32", "INT64", "x" * 3000, "é", "\0", "1", "99999999999999999999")
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([number])


class Grammar:
    """Draws messages, as bytes."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def draw(self) -> tuple[str, bytes]:
        """The name of a method, and a message for it."""
        if self._rng.random() < 0.6:
            name, content = "ModelInfer", self._infer()
        else:
            name = self._rng.choice([*KINDS])
            content = self._fields(KINDS[name].DESCRIPTOR)
        return name, self._damaged(content) if self._rng.random() < 0.2 else content

    def _infer(self) -> bytes:
        """A right request, with a few things changed or added."""
        rows = TINY.rows(self._rng.choice((1, 1, 2, 9, 200)), self._rng.randint(0, 3))
        features: dict[str, Any] = {"name": "features", "datatype": "FP32", "shape": rows.shape}
        request: dict[str, Any] = {"model_name": "tiny", "inputs": [features]}
        if self._rng.random() < 0.5:
            features["contents"] = {"fp32_contents": rows.ravel().tolist()}
        else:
            request["raw_input_contents"] = [rows.tobytes()]
        changes: tuple[Callable[[], object], ...] = (
            lambda: None,
            lambda: None,
            lambda: features.update(shape=self._rng.choices((-(2**63), -1, 0, 1, 2**62), k=self._rng.randint(0, 2000))),
            lambda: features.update(name=self._rng.choice(TEXTS)),
            lambda: features.update(datatype=self._rng.choice(("INT64", "BOOL", "BYTES", "", "x" * 999))),
            lambda: features.update(contents={"int64_contents": [1] * self._rng.choice((1, 10, 50_000))}),
            lambda: features.update(contents={"bool_contents": [True] * self._rng.choice((1, 10, 50_000))}),
            lambda: features.update(parameters={self._rng.choice(TEXTS): {"int64_param": -1}}),
            lambda: request.update(inputs=[{"name": "features"}] * self._rng.choice((0, 2, 90, 2000))),
            lambda: request.update(raw_input_contents=[b"abc"] * self._rng.choice((0, 1, 2, 2000))),
            lambda: request.update(outputs=[{"name": self._rng.choice(TEXTS)}] * self._rng.choice((1, 3, 2000))),
            lambda: request.update(parameters={"timeout": {"int64_param": self._rng.choice((1, -1, 2**62))}}),
            lambda: request.update(parameters={str(i): {"string_param": "x" * 99} for i in range(500)}),
            lambda: request.update(id="x" * self._rng.choice((1, 9999)), model_version=self._rng.choice(TEXTS)),
            lambda: request.update(model_name=self._rng.choice(TEXTS)),
        )
        for change in self._rng.choices(changes, k=2):
            change()
        content: bytes = Request(**request).SerializeToString()
        return content + (self._fields(Request.DESCRIPTOR) if self._rng.random() < 0.1 else b"")

    def _fields(self, described: Any, depth: int = 0) -> bytes:
        """A message of fields that are right in kind, or not, or unknown."""
        fields = [*described.fields]
        content = b""
        for _ in range(self._rng.choice((0, 1, 2, 4))):
            field = self._rng.choice([*fields, None])
            if field is None or self._rng.random() < 0.1:
                content += self._stray()
                continue
            one = varint(field.number << 3 | (DELIMITED if self._is_delimited(field) else VARINT))
            value = self._value(field, depth)
            content += (one + value) * self._rng.choice((1, 1, 1, 1, 1, 1, 2, 30, 1500 if depth < 2 else 1))
        return content[:20_000]

    def _is_delimited(self, field: Any) -> bool:
        return field.is_repeated or field.type in (
            FieldDescriptor.TYPE_MESSAGE,
            FieldDescriptor.TYPE_STRING,
            FieldDescriptor.TYPE_BYTES,
        )

    def _value(self, field: Any, depth: int) -> bytes:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = self._fields(field.message_type, depth + 1) if depth < 4 else b""
        elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            inner = self._rng.choice((*(text.encode() for text in TEXTS), b"\xff\xfe"))
        elif field.is_repeated:
            inner = varint(self._rng.choice(NUMBERS)) * self._rng.choice((0, 1, 10, 2000))
        else:
            return varint(self._rng.choice(NUMBERS))
        return varint(len(inner)) + inner

    def _stray(self) -> bytes:
        """A field of any number in any way, whether or not its value follows."""
        key = varint(self._rng.choice((0, 1, 5, 15, 1000, 2**29 - 1, 2**40)) << 3 | self._rng.randrange(8))
        return key + self._rng.randbytes(self._rng.choice((0, 1, 4, 8)))

    def _damaged(self, content: bytes) -> bytes:
        at = self._rng.randint(0, len(content))
        return content[:at] + self._rng.randbytes(self._rng.choice((0, 1, 3))) + content[at + self._rng.randint(0, 2) :]


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with fuzzed(models, "--max-rows", "100", "--grpc-port", "0", "--max-body-bytes", str(2**20)) as server:
        yield server


def port(server: Server) -> int:
    return int(re.findall(r"gRPC on [\d.]+:(\d+)", server.log)[0])


def asked(channel: grpc.Channel, name: str, content: bytes) -> tuple[grpc.StatusCode, str]:
    """The status of a call, and its text."""
    path, codec = f"/{SERVICE}/{name}", {"request_serializer": bytes, "response_deserializer": bytes}
    try:
        if name == "ModelStreamInfer":
            (_,) = channel.stream_stream(path, **codec)(iter([content]), timeout=MAX_WAIT_S)
        else:
            channel.unary_unary(path, **codec)(content, timeout=MAX_WAIT_S)
    except grpc.RpcError as refused:
        return refused.code(), refused.details()
    return grpc.StatusCode.OK, ""


def answers(channel: grpc.Channel) -> bool:
    """Whether a right request gets the right answer."""
    features = {"name": "features", "datatype": "FP32", "shape": (1, TINY.input_dim)}
    request = Request(model_name="tiny", inputs=[features], raw_input_contents=[TINY.rows(1).tobytes()])
    infer = channel.unary_unary(f"/{SERVICE}/ModelInfer", Request.SerializeToString, Answer.FromString)
    (raw,) = infer(request, timeout=MAX_WAIT_S).raw_output_contents
    return np.allclose(np.frombuffer(raw, "<f4"), TINY.encode(TINY.rows(1)), atol=1e-5)


def test_whatever_comes_close_to_a_message_is_answered_or_refused_in_few_words(
    server: Server, record_property: Callable[[str, object], None]
) -> None:
    statuses = set()
    with grpc.insecure_channel(f"{server.host}:{port(server)}") as channel:
        for seed in range(CALLS * ROUNDS):
            status, text = asked(channel, *Grammar(random.Random(seed)).draw())
            statuses.add(status)
            if status is not grpc.StatusCode.OK:
                assert status in REFUSALS, (seed, status, text)
                # It is the service that gives up on a request, not this client on the service.
                assert text != "Deadline Exceeded", seed
                assert 0 < len(text) < MAX_REFUSAL_CHARS, seed
        assert answers(channel)
    assert statuses >= {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    record_property("bad inputs", CALLS * ROUNDS)


def session(rng: random.Random) -> bytes:
    """What a client sends on one connection, with a few bytes or frames of it changed."""
    name, content = Grammar(rng).draw()
    parts = [http2.hello(rng.choice((None, 0, 2**31 - 1)))]
    for stream in range(1, 2 * rng.randint(1, 4), 2):
        path: bytes | str = rng.choice((name, name, b"/\xff", b"", f"/{SERVICE}/".encode(), rng.randbytes(20)))
        parts += [http2.call(path, stream, x_api_key=rng.randbytes(9)), http2.message(content[:9000], stream)]
        parts.append(http2.frame(http2.DATA, http2.END_STREAM, stream))
    if rng.random() < 0.5:
        kind, flags, stream = rng.randrange(12), rng.randrange(256), rng.choice((0, 1, 2, 2**31))
        strange = struct.pack(">I", rng.choice((0, 8, 2**14)))[1:] + struct.pack(">BBI", kind, flags, stream)
        parts.insert(rng.randint(1, len(parts)), strange + rng.randbytes(rng.choice((0, 8))))
    sent = b"".join(parts)
    if rng.random() < 0.5:
        at = rng.randrange(len(sent))
        sent = sent[:at] + rng.randbytes(rng.randint(0, 3)) + sent[at + 1 :]
    return sent


def hang_up(connection: socket.socket) -> None:
    """Sends no more, if the service has not hung up already."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def test_no_bytes_on_a_connection_end_anything_but_that(
    server: Server, record_property: Callable[[str, object], None]
) -> None:
    with grpc.insecure_channel(f"{server.host}:{port(server)}") as channel:
        for seed in range(CONNECTIONS * ROUNDS):
            connection = socket.create_connection((server.host, port(server)), timeout=MAX_WAIT_S)
            with connection, suppress(ConnectionError):
                connection.sendall(session(random.Random(seed)))
                hang_up(connection)
                while connection.recv(2**16):
                    pass
            assert answers(channel), seed
    record_property("bad inputs", CONNECTIONS * ROUNDS)
