"""What pages of other sites may do, over every way into the service."""

import base64
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.bundles import TinyModel
from tests.support.serving import Server

EVIL = "http://evil.example"
ROW = TinyModel().rows(1).tolist()
BINARY = {"Content-Type": "application/octet-stream"}
UNLOAD = "/v2/repository/models/tiny/unload"
# Of the short way, the long way, both dialects; some endpoints change something, all of them are not safe.
POSTS = (
    "/embed",
    "/predict",
    "/forecast",
    "/loss",
    "/v2/models/tiny/infer",
    "/v2/repository/index",
    UNLOAD,
    "/nowhere",
)
# What a browser says of a page that is not the service's own.
FOREIGN: list[Mapping[str, str]] = [
    {"Origin": EVIL},
    {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site"},
    {"Origin": "null"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "evil.example"},
    {"Origin": f"{EVIL}:8000, http://127.0.0.1:8000"},
]
LOOPBACK = ("localhost", "LOCALHOST:1", "127.0.0.1:9", "127.1.2.3", "[::1]:9", "a.localhost", "localhost.", "jepa", "")
STRANGE = ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "192.168.1.5", "8.8.8.8:80", "a:b:c", "evil.")


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with Server("--models", str(models), "--workers", "1", "--model-control") as server:
        yield server


def post(server: Server, path: str, headers: Mapping[str, str], content: bytes = b"{}") -> int:
    kind = {"Content-Type": "text/plain;charset=UTF-8"}
    return httpx.post(f"{server.url}{path}", content=content, headers=kind | dict(headers)).status_code


def handshake(server: Server, headers: Mapping[str, str], host: str | None = None) -> int:
    lines = {
        "Host": host or f"{server.host}:{server.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    } | dict(headers)
    with server.connect() as connection:
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        connection.sendall(f"GET /stream HTTP/1.1\r\n{text}\r\n".encode())
        return int(connection.recv(1000)[9:12])


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_page_changes_nothing_and_opens_no_stream(server: Server, headers: Mapping[str, str]) -> None:
    assert {path: post(server, path, headers) for path in POSTS} == dict.fromkeys(POSTS, 403)
    for method in ("PUT", "DELETE", "PATCH"):
        assert httpx.request(method, f"{server.url}/models", headers=dict(headers)).status_code == 403
    assert handshake(server, headers) == 403
    assert httpx.get(f"{server.url}/models", headers=dict(headers)).status_code == 200
    assert httpx.get(f"{server.url}/readyz").status_code == 200


@pytest.mark.parametrize("site", [None, "same-origin", "none"])
def test_the_services_own_pages_do_all_that_other_clients_do(server: Server, site: str | None) -> None:
    headers = {"Origin": server.url} | ({} if site is None else {"Sec-Fetch-Site": site})
    answer = httpx.post(f"{server.url}/embed", json={"features": ROW}, headers=headers)
    assert answer.status_code == 200
    assert httpx.post(f"{server.url}/v2/repository/index", headers=headers).status_code == 200
    assert handshake(server, headers) == 101


def test_a_page_behind_a_proxy_that_sets_its_own_host_is_the_services_own(server: Server) -> None:
    """The browser knows where it sent the request, and pages cannot set what it says of that."""
    headers = {"Origin": "https://play.example", "Sec-Fetch-Site": "same-origin"}
    assert httpx.post(f"{server.url}/embed", json={"features": ROW}, headers=headers).status_code == 200
    assert handshake(server, headers) == 101


def test_a_head_that_was_let_in_lets_in_no_other(server: Server) -> None:
    """A head equal to the last one on its connection is not parsed again."""
    body = np.asarray(ROW, np.float32).tobytes()
    with httpx.Client(base_url=server.url) as client:
        for headers, status in (({}, 200), ({"Origin": EVIL}, 403), ({}, 200), ({"Host": "evil.example"}, 421)) * 2:
            for _ in range(3):
                assert client.post("/embed", content=body, headers=BINARY | headers).status_code == status


@pytest.mark.parametrize("host", STRANGE)
def test_on_loopback_no_name_that_a_stranger_may_own_is_answered(server: Server, host: str) -> None:
    for path in ("/models", "/docs", "/openapi.json", "/metrics", "/v2", "/nowhere"):
        assert httpx.get(f"{server.url}{path}", headers={"Host": host}).status_code == 421
    answer = httpx.post(f"{server.url}/embed", json={"features": ROW}, headers={"Host": host})
    assert answer.status_code == 421
    assert answer.json()["type"] == "urn:jepa:error:unknown-host"
    assert "JEPA_ALLOWED_HOSTS" in answer.json()["detail"]
    assert handshake(server, {"Origin": f"http://{host}"}, host) == 421
    # Orchestrators ask by the address that they know.
    assert httpx.get(f"{server.url}/readyz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", LOOPBACK)
def test_on_loopback_its_own_names_are_answered(server: Server, host: str) -> None:
    assert httpx.get(f"{server.url}/models", headers={"Host": host}).status_code == 200


def test_refusals_are_counted(server: Server) -> None:
    post(server, UNLOAD, {"Origin": EVIL})
    httpx.get(f"{server.url}/models", headers={"Host": "evil.example"})
    text = httpx.get(f"{server.url}/metrics").text
    for reason in ("foreign_origin", "unknown_host"):
        assert f'jepa_requests_rejected_total{{reason="{reason}"}}' in text


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc-web", "application/grpc-web-text+proto"])
def test_a_foreign_page_gets_no_further_with_the_content_types_of_grpc(server: Server, kind: str) -> None:
    path = "/inference.GRPCInferenceService/RepositoryModelUnload"
    assert post(server, path, {"Origin": EVIL, "Content-Type": kind}) == 403
    assert post(server, UNLOAD, {"Origin": EVIL, "Content-Type": kind}) == 403


def test_a_call_of_grpc_with_a_foreign_origin_is_refused(models: Path) -> None:
    grpc = pytest.importorskip("grpc")
    from app.api.oip.grpc.messages import SERVICE, message

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ("--models", str(models), "--workers", "1", "--model-control", "--grpc-port", str(port))
    with Server(*flags) as server, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        unload = channel.unary_unary(
            f"/{SERVICE}/RepositoryModelUnload",
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=message("RepositoryModelUnloadResponse").FromString,
        )
        asked = message("RepositoryModelUnloadRequest")(model_name="tiny")
        with pytest.raises(grpc.RpcError) as refusal:
            unload(asked, metadata=(("origin", EVIL),), timeout=20)
        assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        unload(asked, timeout=20)
        assert httpx.get(f"{server.url}/readyz").status_code == 503


def test_allowed_hosts_are_names_of_the_service_and_their_pages_may_change_things(models: Path) -> None:
    flags = ("--models", str(models), "--workers", "1", "--allowed-hosts", "Play.example, [fd00::1]")
    with Server(*flags) as server:
        for host, status in (("play.example:443", 200), ("[fd00::1]:8000", 200), ("evil.example", 421)):
            assert httpx.get(f"{server.url}/models", headers={"Host": host}).status_code == status
        for origin, status in (("https://play.example", 200), ("http://play.example:8080", 200), (EVIL, 403)):
            headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            asked = httpx.post(f"{server.url}/embed", json={"features": ROW}, headers=headers)
            assert asked.status_code == status


def test_a_service_that_listens_widely_answers_to_any_name_unless_it_is_told_its_names(models: Path) -> None:
    for names, status in (("", 200), ("play.example", 421)):
        flags = ("--models", str(models), "--workers", "1", "--host", "0.0.0.0", "--allowed-hosts", names)
        with Server(*flags) as server:
            for host, expected in (("evil.example", status), ("192.168.1.5:8000", 200), ("play.example", 200)):
                answer = httpx.get(f"http://127.0.0.1:{server.port}/models", headers={"Host": host})
                assert answer.status_code == expected
            assert post(server, "/embed", {"Origin": EVIL}) == 403
