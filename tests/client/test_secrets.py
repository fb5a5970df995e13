"""A password or a key is sent, and is in no text."""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from jepa_client import AsyncJepaClient, JepaClient, JepaError, ServiceUnreachable
from jepa_client.service import Service
from tests.client.test_stream import Open, embed_over, streams  # noqa: F401 (fixtures)
from tests.support.relay import CLOSE, Relay, answer

Connect = Callable[..., Any]
Start = Callable[..., tuple[Relay, str]]
SECRETS = ("pa55w0rd", "key-0123456789abcdef")
# "user:pa55w0rd"
BASIC = "authorization: basic dxnlcjpwytu1dzbyza=="
FAULTS = [CLOSE, answer(401, "who are you"), answer(200, "<html>", Content_Type="text/html")]


def with_password(url: str) -> str:
    return url.replace("//", "//user:pa55w0rd@")


def texts(error: BaseException | None) -> list[str]:
    """What a traceback would show of an error and of those that it came from."""
    if error is None:
        return []
    shown = None if error.__suppress_context__ else error.__context__
    return [str(error), repr(error), *texts(error.__cause__), *texts(shown)]


def no_secret_in(said: list[str]) -> bool:
    return not any(secret in text for secret in SECRETS for text in said)


@pytest.mark.parametrize("fault", FAULTS, ids=["closed", "refused", "odd"])
def test_no_error_and_no_log_of_a_call_has_them(
    fault: bytes, relay: Start, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    before, url = relay(None, fault)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(JepaError) as failed:
        connect(with_password(url), api_key=SECRETS[1], retries=0).embed([1.0])
    assert no_secret_in([*texts(failed.value), caplog.text])
    assert BASIC in before.heads[0]
    assert f"x-api-key: {SECRETS[1]}" in before.heads[0]


@pytest.mark.parametrize("fault", FAULTS, ids=["closed", "refused", "odd"])
def test_no_error_and_no_log_of_a_stream_has_them(
    fault: bytes,
    relay: Start,
    embed_over: Open,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    before, url = relay(None, fault)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(JepaError) as failed:
        embed_over(with_password(url), api_key=SECRETS[1])
    assert no_secret_in([*texts(failed.value), caplog.text])
    assert BASIC in before.heads[0]


@pytest.mark.parametrize("asked", ["call", "stream"])
@pytest.mark.parametrize("where", ["option", "environment"])
def test_a_proxys_password_is_in_no_error(
    asked: str,
    where: str,
    connect: Connect,
    embed_over: Open,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = "http://user:pa55w0rd@127.0.0.1:9"
    options = {"proxy": proxy} if where == "option" else {}
    if where == "environment":
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", proxy)
    ask = partial(connect("http://jepa.example", retries=0, **options).embed, [1.0])
    with pytest.raises(ServiceUnreachable, match=r"at (ws|http)://jepa\.example") as failed:
        ask() if asked == "call" else embed_over("http://jepa.example", **options)
    assert no_secret_in(texts(failed.value))


@pytest.mark.parametrize("proxy", ["gopher://user:pa55w0rd@127.0.0.1:9", "http://user:pa55w0rd@host:port"])
def test_a_proxy_of_another_kind_is_refused_without_its_password(proxy: str) -> None:
    with pytest.raises(ValueError, match=r"the proxy is '.*'; it must be like http://10\.0\.0\.1:3128") as refused:
        Service("http://jepa.example", 1.0, None, None, None, 0, proxy=proxy)
    assert no_secret_in([*texts(refused.value), repr(JepaClient(proxy="http://user:pa55w0rd@127.0.0.1:9")._service)])


def test_no_error_of_a_deadline_has_them(relay: Start, connect: Connect) -> None:
    _, url = relay(None)
    client = connect(with_password(url), timeout=1e-9)
    with pytest.raises(JepaError) as expired:
        client.embed([1.0])
    assert no_secret_in(texts(expired.value))


@pytest.mark.parametrize("kind", [JepaClient, AsyncJepaClient])
def test_what_a_client_shows_of_itself_has_none(kind: type[Any]) -> None:
    client = kind("http://user:pa55w0rd@127.0.0.1:9", api_key=SECRETS[1])
    assert no_secret_in([repr(client), repr(client._service), repr(vars(client)), str(client._service.address)])


@pytest.mark.parametrize(
    "url", ["user:pa55w0rd@host:8000", "ftp://user:pa55w0rd@host", "http://user:pa55w0rd@host:port", "http://pa55w0rd@"]
)
def test_an_address_that_is_refused_is_shown_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="it must be like http://127") as refused:
        Service(url, 1.0, None, None, None, 0)
    assert no_secret_in(texts(refused.value))


def test_the_service_of_a_client_is_named_without_them_while_it_is_asked(
    relay: Start, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    _, url = relay(None, *FAULTS)
    client = connect(with_password(url), api_key=SECRETS[1], retries=0)
    for call in (client.models, client.model, client.ready):
        with suppress(JepaError):
            call()
    assert no_secret_in([*capsys.readouterr()])
