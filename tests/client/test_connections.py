"""The way to a service: whom a client trusts, through which proxy it asks, and what it makes of odd connections."""

import asyncio
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from ssl import create_default_context
from typing import Any

import numpy as np
import pytest
from anyio.from_thread import BlockingPortal

from jepa_client import AsyncJepaClient, BodyTooLarge, DeadlineExpired, JepaClient, ServiceUnreachable
from tests.client.conftest import Running
from tests.client.test_odd_services import odd  # noqa: F401 (a fixture)
from tests.support.bundles import TinyModel
from tests.support.certificates import certificate
from tests.support.odd_service import BINARY_HEAD, Behave
from tests.support.proxy import Proxy
from tests.support.relay import Relay, answer
from tests.support.serving import Server

Ask = Callable[[Any], Any]
Connect = Callable[..., Any]
Start = Callable[..., tuple[Relay, str]]
ROW = np.zeros(10, np.float32)
# "user:word"
BASIC = f"proxy-authorization: basic {b64encode(b'user:word').decode().lower()}\r\n"


class Secure:
    """A service that speaks TLS, and the certificate of the authority that signed its own: itself."""

    def __init__(self, server: Server, ca_file: Path) -> None:
        self.url, self.port, self.ca_file = server.url, server.port, ca_file


@pytest.fixture(scope="module")
def secure(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    certified, key = certificate(tmp_path_factory.mktemp("tls"))
    flags = ("--models", str(models), "--workers", "1", "--tls-cert-file", str(certified), "--tls-key-file", str(key))
    with Server(*flags, verify=create_default_context(cafile=str(certified))) as server:
        yield Secure(server, certified)


@pytest.fixture(params=["call", "stream", "async call", "async stream"])
def ask_by(request: pytest.FixtureRequest, portal: BlockingPortal) -> Iterator[Callable[..., Ask]]:
    """The `embed` of a client or of a stream with these options."""
    is_stream = request.param.endswith("stream")
    with ExitStack() as stack:

        def ask(url: str, **options: Any) -> Ask:
            if request.param.startswith("async"):
                client = AsyncJepaClient(url, **options)
                asked: Any = client.stream() if is_stream else client
                stack.callback(portal.call, asked.aclose)
                return partial(portal.call, asked.embed)
            asked = JepaClient(url, **options).stream() if is_stream else JepaClient(url, **options)
            stack.callback(asked.close)
            embed: Ask = asked.embed
            return embed

        yield ask


@pytest.fixture
def proxy(portal: BlockingPortal) -> Iterator[Callable[..., tuple[Proxy, str]]]:
    """Starts a Proxy, and gives its address too."""
    with ExitStack() as stack:

        def start(*arguments: Any) -> tuple[Proxy, str]:
            proxy = Proxy(*arguments)
            return proxy, stack.enter_context(portal.wrap_async_context_manager(proxy.running()))

        yield start


# Whom it trusts


def test_a_private_authority_is_trusted_where_it_is_named(
    secure: Secure, ask_by: Callable[..., Ask], tiny: TinyModel
) -> None:
    embedding = ask_by(secure.url, ca_file=secure.ca_file)(tiny.rows(2))
    np.testing.assert_allclose(embedding, tiny.encode(tiny.rows(2)), atol=1e-5)


def test_or_where_the_environment_names_it(
    secure: Secure, ask_by: Callable[..., Ask], tiny: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.ca_file))
    assert ask_by(secure.url)(tiny.rows(2)).shape == (2, 4)


def test_a_stranger_is_not_trusted_and_the_error_says_how_to(
    secure: Secure, ask_by: Callable[..., Ask], tmp_path: Path
) -> None:
    another, _ = certificate(tmp_path)
    for options in ({}, {"ca_file": str(another)}):
        with pytest.raises(ServiceUnreachable, match=r"CERTIFICATE_VERIFY_FAILED.*; name the authority .*ca_file="):
            ask_by(secure.url, **options, retries=0)(ROW)


# Through which proxy


@pytest.mark.parametrize("where", ["option", "environment"])
def test_a_proxy_for_plain_http_is_asked_for_the_whole_address(
    where: str,
    serve: Callable[..., Running],
    proxy: Any,
    connect: Connect,
    tiny: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    between, address = proxy(serve(allowed_hosts="jepa.example").port)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if where == "environment":
        monkeypatch.setenv("http_proxy", f"http://user:word@{address}")
    options: dict[str, Any] = {"proxy": f"http://user:word@{address}"} if where == "option" else {}
    client = connect("http://jepa.example", **options)
    for _ in range(2):
        np.testing.assert_allclose(client.embed(tiny.rows(2)), tiny.encode(tiny.rows(2)), atol=1e-5)
    assert client.model("tiny")["name"] == "tiny"
    posted, again, got = between.heads
    assert posted.startswith("post http://jepa.example/embed?encoder=target http/1.1\r\n")
    assert got.startswith("get http://jepa.example/models/tiny http/1.1\r\n")
    assert all("host: jepa.example\r\n" in head and BASIC in head for head in (posted, again, got))


def test_all_else_goes_through_a_tunnel(
    secure: Secure, proxy: Any, ask_by: Callable[..., Ask], tiny: TinyModel
) -> None:
    between, address = proxy(secure.port)
    ask = ask_by(secure.url, ca_file=secure.ca_file, proxy=f"http://user:word@{address}")
    np.testing.assert_allclose(ask(tiny.rows(2)), tiny.encode(tiny.rows(2)), atol=1e-5)
    (head,) = between.heads
    assert head.startswith(f"connect 127.0.0.1:{secure.port} http/1.1\r\n")
    assert BASIC in head


def test_the_proxy_of_the_environment_can_be_left_out(
    running: Running, ask_by: Callable[..., Ask], tiny: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jepa_client.proxies._is_loopback", lambda *_: False)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnreachable):
        ask_by(running.url, retries=0)(ROW)
    assert ask_by(running.url, proxy="")(tiny.rows(1)).shape == (1, 4)
    monkeypatch.setenv("no_proxy", "corp.example, 127.0.0.0/8")
    assert ask_by(running.url)(tiny.rows(1)).shape == (1, 4)


def test_a_proxy_that_refuses_is_an_error_that_says_why(secure: Secure, proxy: Any, ask_by: Callable[..., Ask]) -> None:
    _, address = proxy(secure.port, answer(407, "who are you"))
    with pytest.raises(ServiceUnreachable, match="407"):
        ask_by(secure.url, ca_file=secure.ca_file, proxy=f"http://{address}", retries=0)(ROW)


async def reads_for_ever(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


@pytest.mark.parametrize("kind", ["call", "stream"])
@pytest.mark.parametrize("silent", ["service", "proxy"])
def test_who_never_answers_a_handshake_is_given_up_with_the_deadline(
    silent: str,
    kind: str,
    odd: Callable[[Behave], str],  # noqa: F811
) -> None:
    url = odd(reads_for_ever)
    options: dict[str, Any] = {"proxy": url} if silent == "proxy" else {}
    with JepaClient(url.replace("http:", "https:"), timeout=0.1, **options) as client:
        asked = client if kind == "call" else client.stream()
        with pytest.raises(DeadlineExpired):
            asked.embed(ROW)


# Odd connections


def test_what_comes_before_an_answer_is_skipped(relay: Start, connect: Connect) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" * 2
    right = answer(200, "1234", Content_Type="application/octet-stream")
    assert connect(relay(None, hints + right)[1]).embed(ROW).tobytes() == b"1234"


def test_an_answer_that_ends_early_is_asked_for_again(
    running: Running, relay: Start, connect: Connect, tiny: TinyModel
) -> None:
    short = answer(200, "1234", Content_Type="application/octet-stream").replace(
        b"Content-Length: 4", b"Content-Length: 9"
    )
    chunked = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n1234"
    )
    before, url = relay(running.port, short, chunked)
    np.testing.assert_allclose(connect(url).embed(tiny.rows(2)), tiny.encode(tiny.rows(2)), atol=1e-5)
    assert before.connections == 3


def test_what_nobody_asked_for_is_never_the_answer_to_the_next_frame(
    odd: Callable[[Behave], str],  # noqa: F811
) -> None:
    """Of JepaClient; httpx, and with it AsyncJepaClient, takes it for that answer."""
    connections = 0

    async def says_too_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        head = BINARY_HEAD + b"Content-Length: 4\r\n\r\n"
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(ROW.nbytes)
            writer.write(head + b"true" + head + b"fake")

    with JepaClient(odd(says_too_much)) as client:
        assert [client.embed(ROW).tobytes() for _ in range(3)] == [b"true"] * 3
    assert connections == 3


def test_a_connection_that_was_closed_while_it_was_idle_is_not_used_again(
    running: Running, relay: Start, connect: Connect, portal: BlockingPortal, tiny: TinyModel
) -> None:
    before, url = relay(running.port)
    client = connect(url, retries=0)
    for connections in (1, 2, 3):
        assert client.embed(tiny.rows(1)).shape == (1, 4)
        assert before.connections == connections
        portal.call(before.cut)
        # Until the end of the connection has arrived.
        portal.call(asyncio.sleep, 0.01)


def test_a_large_body_that_is_refused_unread_is_told_why(running: Running) -> None:
    """By JepaClient; httpx gives up where it cannot write on."""
    with JepaClient(running.url) as client, pytest.raises(BodyTooLarge, match="larger than 4000 bytes"):
        client.embed(np.zeros((200_000, 10), np.float32))


def test_a_client_that_was_closed_asks_no_more(running: Running) -> None:
    client = JepaClient(running.url)
    assert client.ready()
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="the client was closed"):
        client.ready()
