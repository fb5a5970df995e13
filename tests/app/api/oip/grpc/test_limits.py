"""What a peer of the gRPC port can make large, slow or wrong, and what becomes of it."""

import gzip
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from app.api.oip.grpc.fields import check_fields, parts_of
from app.api.oip.grpc.messages import SERVICE, message
from app.api.validation import MAX_MEMBERS
from app.errors import InvalidInput, MalformedBody
from tests.support import http2
from tests.support.bundles import TinyModel
from tests.support.changes import until
from tests.support.serving import Server

KEY = "key-0123456789abcdef"
MAX_CONNECTIONS = 8
MAX_BODY_BYTES = 2**20
# Their embeddings take 320 kB.
MAX_ROWS = 20_000
Request, Answer = message("ModelInferRequest"), message("ModelInferResponse")
PARTS = parts_of(Request.DESCRIPTOR)
# A tensor of no bytes, as `inputs` of ModelInferRequest.
EMPTY_TENSOR = b"\x2a\0"


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    flags = ["--models", str(models), "--workers", "1", "--grpc-port", "0", "--max-connections", str(MAX_CONNECTIONS)]
    flags += ["--max-rows", str(MAX_ROWS), "--max-queue-rows", str(MAX_ROWS)]
    flags += ["--max-body-bytes", str(MAX_BODY_BYTES), "--max-buffered-bytes", str(MAX_BODY_BYTES)]
    flags += ["--read-timeout-s", "1", "--keep-alive-s", "2"]
    with Server(*flags, "--api-keys", KEY) as server:
        yield server
        assert server.stop() == 0
    assert "Traceback" not in server.log
    assert "ERROR" not in server.log


def port(server: Server) -> int:
    return int(re.findall(r"gRPC on [\d.]+:(\d+)", server.log)[0])


@contextmanager
def connected(server: Server, *sent: bytes) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, port(server)), timeout=10) as connection:
        for data in sent:
            connection.sendall(data)
        yield connection


def received(connection: socket.socket, until: bytes = b"grpc-status") -> bytes:
    """What the server sends, up to the frame that holds `until`, or to the end."""
    data = b""
    while until not in data and (part := connection.recv(2**16)):
        data += part
    return data


def status(data: bytes) -> tuple[int, bytes]:
    """The code and the text of a call's end."""
    (code,) = re.findall(rb"grpc-status.(\d+)", data, re.DOTALL)
    return int(code), data


def code(named: grpc.StatusCode) -> int:
    return int(named.value[0])


def infer(server: Server, content: bytes, metadata: tuple[tuple[str, str], ...] = (("x-api-key", KEY),)) -> Any:
    with grpc.insecure_channel(f"{server.host}:{port(server)}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        asked = channel.unary_unary(f"/{SERVICE}/ModelInfer", request_serializer=bytes, response_deserializer=bytes)
        return asked(content, timeout=20, metadata=metadata)


def right(tiny: TinyModel) -> bytes:
    features = {"name": "features", "datatype": "FP32", "shape": (1, 10)}
    content: bytes = Request(
        model_name="tiny", inputs=[features], raw_input_contents=[tiny.rows(1).tobytes()]
    ).SerializeToString()
    return content


def answers(server: Server, tiny: TinyModel) -> None:
    (raw,) = Answer.FromString(infer(server, right(tiny))).raw_output_contents
    np.testing.assert_allclose(np.frombuffer(raw, "<f4"), tiny.encode(tiny.rows(1))[0], atol=1e-5)


def peak_mib(server: Server) -> int:
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", text)[0]) // 1024


def metric(server: Server, name: str) -> float:
    return float(re.findall(rf"^{name} (\S+)$", httpx.get(f"{server.url}/metrics").text, re.MULTILINE)[0])


# Before a message is read


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer", "ModelMetadata", "RepositoryModelUnload"])
def test_a_stranger_is_refused_before_a_message_has_arrived(server: Server, method: str) -> None:
    with connected(server, http2.hello(), http2.call(method, x_api_key=b"wrong-key-0123456789")) as connection:
        assert status(received(connection))[0] == code(grpc.StatusCode.UNAUTHENTICATED)


@pytest.mark.parametrize("path", [b"/inference.GRPCInferenceService/\xff\xfe", b"/\xff", b"", b"/a/b"])
def test_a_method_that_is_unknown_or_no_utf_8_ends_its_call_and_nothing_else(
    server: Server, tiny: TinyModel, path: bytes
) -> None:
    with connected(server, http2.hello(), http2.call(path)) as connection:
        assert status(received(connection))[0] == code(grpc.StatusCode.UNIMPLEMENTED)
    answers(server, tiny)


def test_metadata_that_is_no_utf_8_is_metadata_of_a_stranger(server: Server) -> None:
    with connected(server, http2.hello(), http2.call("ModelInfer", x_api_key=b"\xff\xfe")) as connection:
        assert status(received(connection))[0] == code(grpc.StatusCode.UNAUTHENTICATED)


# Messages


def test_a_message_of_many_short_fields_is_refused_before_they_become_objects(server: Server, tiny: TinyModel) -> None:
    before_mib = peak_mib(server)
    many = b"\x0a\x04tiny" + EMPTY_TENSOR * ((MAX_BODY_BYTES - 100) // len(EMPTY_TENSOR))
    with pytest.raises(grpc.RpcError) as refused:
        infer(server, many)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == f"the message has more than {MAX_MEMBERS} fields; pack its numbers"
    # Parsed, they take 45 MiB.
    assert peak_mib(server) - before_mib < 20
    answers(server, tiny)


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
def test_messages_are_bounded_also_by_what_they_unpack_to(server: Server, method: str) -> None:
    before_mib, bomb = peak_mib(server), gzip.compress(bytes(2**25), 9)
    # More than that would have to wait for the server to read.
    assert len(bomb) < 2**16
    head = http2.call(method, x_api_key=KEY.encode(), grpc_encoding=b"gzip")
    for sent in (http2.message(bomb, packed=True), http2.message(bytes(1000), length=MAX_BODY_BYTES + 1)):
        with connected(server, http2.hello(), head, sent) as connection:
            found, text = status(received(connection))
        assert found == code(grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert b"larger than max" in text
    assert peak_mib(server) - before_mib < 20


def test_whoever_falls_silent_is_told_so_or_closed(server: Server) -> None:
    head, half = http2.call("ModelInfer", x_api_key=KEY.encode()), http2.message(b"x" * 1000, length=100_000)
    stream = http2.call("ModelStreamInfer", x_api_key=KEY.encode())
    sent = {
        "no message had come to its end after 1 s": (
            [http2.hello(), head],
            [http2.hello(), head, half],
        ),
        "no message had come to its end after 2 s": ([http2.hello(), stream],),
        # grpcio closes a connection that does not begin.
        "": ([],),
    }
    with ExitStack() as stack:
        silent = [(text, stack.enter_context(connected(server, *each))) for text in sent for each in sent[text]]
        for text, connection in silent:
            data = received(connection)
            if text:
                assert status(data)[0] == code(grpc.StatusCode.DEADLINE_EXCEEDED)
                assert text.encode() in data


def test_a_call_without_a_message_is_told_so(server: Server) -> None:
    head = http2.call("ModelInfer", x_api_key=KEY.encode())
    with connected(server, http2.hello(), head, http2.frame(http2.DATA, http2.END_STREAM, 1)) as connection:
        assert status(received(connection))[0] == code(grpc.StatusCode.INVALID_ARGUMENT)


def test_answers_that_are_not_read_are_bounded(server: Server, tiny: TinyModel) -> None:
    features = {"name": "features", "datatype": "FP32", "shape": (MAX_ROWS, 10)}
    many = Request(
        model_name="tiny", inputs=[features], raw_input_contents=[tiny.rows(MAX_ROWS).tobytes()]
    ).SerializeToString()
    refused = b"answers that are not read take all the memory"
    # Before its settings are acknowledged, the server takes 64 KiB.
    head = http2.frame(http2.SETTINGS, http2.ACK, 0) + http2.call("ModelInfer", x_api_key=KEY.encode())
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(server, http2.hello(window=0))) for _ in range(6)]
        heads = []
        for connection in connections:
            connection.recv(2**16)
            connection.sendall(head + http2.message(many))
            # The head of an answer, or the end of a call.
            heads.append(received(connection, b"content-type"))
        assert [refused in head for head in heads] == [False] * 4 + [True] * 2
        assert metric(server, "jepa_http_buffered_bytes") > MAX_BODY_BYTES / 2
        answers(server, tiny)
    until(lambda: metric(server, "jepa_http_buffered_bytes") == 0)


# Connections


def is_taken(connection: socket.socket) -> bool:
    """Whether the server says hello."""
    try:
        return bool(connection.recv(1))
    except ConnectionResetError:
        return False


def test_connections_are_counted_and_limited_and_leave_http_alone(server: Server, tiny: TinyModel) -> None:
    until(lambda: metric(server, "jepa_grpc_connections") == 0)
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(server, http2.hello())) for _ in range(4 * MAX_CONNECTIONS)]
        assert sum(map(is_taken, connections)) == MAX_CONNECTIONS
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        until(lambda: metric(server, "jepa_grpc_connections") == MAX_CONNECTIONS)
    until(lambda: metric(server, "jepa_grpc_connections") < MAX_CONNECTIONS)
    answers(server, tiny)


# Counting fields


def varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([number])


def test_a_right_message_passes_and_so_does_what_it_does_not_know(tiny: TinyModel) -> None:
    check_fields(right(tiny), PARTS, MAX_BODY_BYTES)
    # Fields of numbers that are not in use, in each way that a field is written.
    unknown = (b"\x78\x01", b"\x79" + bytes(8), b"\x7a\x03abc", b"\x7d" + bytes(4))
    check_fields(right(tiny) + b"".join(unknown), PARTS, MAX_BODY_BYTES)


@pytest.mark.parametrize(
    "field",
    [
        EMPTY_TENSOR,
        b"\x3a\0",  # raw_input_contents
        b"\x22\x05\x0a\x03abc",  # parameters
        b"\x78\x01",  # unknown
        b"\x2a\x02\x18\x01",  # a tensor with a dimension that is not packed
    ],
)
def test_fields_are_counted_at_any_depth(field: bytes) -> None:
    check_fields(field * (MAX_MEMBERS // 2), PARTS, MAX_BODY_BYTES)
    with pytest.raises(InvalidInput, match="more than 1000 fields"):
        check_fields(field * (MAX_MEMBERS + 1), PARTS, MAX_BODY_BYTES)
    within = b"\x2a" + varint(len(b"\x18\x01") * (MAX_MEMBERS + 1)) + b"\x18\x01" * (MAX_MEMBERS + 1)
    with pytest.raises(InvalidInput, match="more than 1000 fields"):
        check_fields(within, PARTS, MAX_BODY_BYTES)


def test_packed_integers_are_counted_by_what_they_take_when_they_are_parsed() -> None:
    def contents(integers: int) -> bytes:
        packed = b"\x1a" + varint(integers) + bytes(integers)  # int64_contents
        tensor = b"\x2a" + varint(len(packed)) + packed
        return b"\x2a" + varint(len(tensor)) + tensor

    check_fields(contents(1000), PARTS, 8000)
    with pytest.raises(InvalidInput, match="more than 1,000 integers"):
        check_fields(contents(1001), PARTS, 8000)
    # Integers of two bytes each count once.
    wide = b"\x80\x01" * 1000
    tensor = b"\x2a" + varint(len(wide) + 3) + b"\x1a" + varint(len(wide)) + wide
    check_fields(b"\x2a" + varint(len(tensor)) + tensor, PARTS, 8000)


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x2a\x05ab",  # longer than the message
        b"\x2a\x02\x0a\x05abcde",  # longer than the tensor it lies in
        b"\x2a",
        b"\xff",
        b"\x80" * 11,
        b"\x2b\x2c",  # a group
        struct.pack("<Bf", 0x7D, 1.0)[:3],
    ],
)
def test_fields_that_do_not_end_are_malformed(wrong: bytes) -> None:
    with pytest.raises(MalformedBody):
        check_fields(wrong, PARTS, MAX_BODY_BYTES)
