"""Each refusal of a real service, and what comes from where there is none."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import httpx
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal

from app.errors import ModelControlOff, ModelRefused, ServiceError, ServiceFailed
from jepa_client import (
    BodyTooLarge,
    DeadlineExpired,
    FieldError,
    InvalidInput,
    JepaError,
    ModelFailed,
    NotReady,
    SchemaMismatch,
    ServiceUnreachable,
    TooManyRows,
    Unauthorized,
    UnexpectedAnswer,
    UnknownModel,
    errors,
)
from jepa_client.answers import Answer
from tests.client.conftest import Running
from tests.support.bundles import TinyModel
from tests.support.relay import Relay, answer

Connect = Callable[..., Any]
Serve = Callable[..., Running]
Start = Callable[..., tuple[Relay, str]]


def test_every_refusal_of_the_service_has_its_error() -> None:
    def tree(cls: type[ServiceError]) -> list[type[ServiceError]]:
        return [cls, *chain.from_iterable(map(tree, cls.__subclasses__()))]

    of_the_repository = {ModelRefused.slug, ModelControlOff.slug}  # which no client of rows asks
    without_a_type = {ServiceFailed.slug}  # its problem has the type about:blank, as RFC 9457 has it for a bare status
    assert {
        error.slug for error in tree(ServiceError)[1:]
    } - of_the_repository - without_a_type <= errors.BY_SLUG.keys()
    for status, error in errors.BY_CODE.items():
        assert error.slug in {each.slug for each in tree(ServiceError)[1:] if each.status == status}


def test_the_docstring_draws_the_whole_tree() -> None:
    for cls in JepaError.__subclasses__():
        assert f"── {cls.__name__} " in (errors.__doc__ or "")


def test_a_wrong_number_is_named_by_its_column(running: Running, connect: Connect, tiny: TinyModel) -> None:
    rows = tiny.rows(3)
    rows[1, 4] = np.nan
    with pytest.raises(InvalidInput, match=r"features\[1\]\[4\] .* is NaN; replace it, or hide its group") as refused:
        connect(running.url).embed(rows)
    error = refused.value
    assert (error.status, error.type) == (422, "urn:jepa:error:invalid-input")
    assert error.title == "The request has a field that is wrong"
    assert error.errors == (FieldError(("body", "features", 1, 4), error.detail),)


def test_what_an_array_masks_is_not_sent_as_a_number(running: Running, connect: Connect, tiny: TinyModel) -> None:
    rows = np.ma.array(tiny.rows(3), mask=np.zeros((3, 10), bool))
    np.testing.assert_allclose(connect(running.url).embed(rows), tiny.encode(tiny.rows(3)), atol=1e-5)
    rows[1, 4] = np.ma.masked
    for masked in (rows, (rows * 9).astype(int)):
        with pytest.raises(InvalidInput, match=r"features\[1\]\[4\] .* is NaN; replace it, or hide its group"):
            connect(running.url).embed(masked)


def test_a_number_beyond_float32_is_refused_by_the_service(running: Running, connect: Connect, tiny: TinyModel) -> None:
    with pytest.raises(InvalidInput, match="is infinite or beyond float32"):
        connect(running.url).embed(tiny.rows(1).astype(float) * 1e300)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda client, rows: client.embed(rows[0, :9]),
            "has 9 numbers, model 'tiny' takes 10; /models/tiny names",
        ),
        (lambda client, _: client.embed(np.zeros(11)), "has 11 numbers, .* if the last one is padding, leave it out"),
        (lambda client, rows: client.embed(rows, hidden=["oponent"]), "did you mean 'opponent'"),
        (lambda client, rows: client.embed(rows, encoder="both"), "encoder"),
        (lambda client, rows: client.predict(rows, targets=["oponent"]), "did you mean 'opponent'"),
        (lambda client, rows: client.predict(rows, horizon=7), "horizon"),
        (lambda client, rows: client.predict(context=rows[:, :4], hidden=["own"]), "hidden goes with features"),
        (lambda client, rows: client.loss(rows, rows, horizon=7), "horizon"),
        (lambda client, rows: client.loss(predicted=rows, target=rows), "predicted"),
    ],
)
def test_a_wrong_option_or_width_is_refused_in_the_services_words(
    call: Callable[[Any, Any], Any], message: str, running: Running, connect: Connect, tiny: TinyModel
) -> None:
    with pytest.raises(InvalidInput, match=message):
        call(connect(running.url), tiny.rows(2))


@pytest.mark.parametrize("call", ["embed", "model"])
def test_a_model_that_is_not_there(call: str, running: Running, connect: Connect, tiny: TinyModel) -> None:
    client = connect(running.url)
    with pytest.raises(UnknownModel, match="'tiny'") as unknown:
        client.embed(tiny.rows(1), model="pong") if call == "embed" else client.model("pong")
    assert unknown.value.status == 404


def test_rows_of_another_schema(running: Running, connect: Connect, tiny: TinyModel) -> None:
    right = connect(running.url).model()["schema_hash"]
    assert connect(running.url, schema_hash=right).embed(tiny.rows(1)).shape == (1, 4)
    with pytest.raises(SchemaMismatch, match="its columns may be in another order") as mismatch:
        connect(running.url, schema_hash="0" * 64).embed(tiny.rows(1))
    assert mismatch.value.status == 409


def test_more_rows_than_a_request_may_have(running: Running, connect: Connect, tiny: TinyModel) -> None:
    with pytest.raises(TooManyRows, match="9 rows, the limit is 8"):
        connect(running.url).embed(tiny.rows(9))


def test_a_body_that_is_too_large(running: Running, connect: Connect) -> None:
    with pytest.raises(BodyTooLarge, match="larger than 4000 bytes"):
        connect(running.url).embed(np.zeros((200, 10)))


def test_a_model_that_fails(
    running: Running, connect: Connect, tiny: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inference.jobs._checked", lambda *_: 1 / 0)
    with pytest.raises(ModelFailed, match="ZeroDivisionError") as failed:
        connect(running.url).embed(tiny.rows(1))
    assert failed.value.status == 500


def test_a_bug_of_the_service_is_a_plain_error(
    running: Running, connect: Connect, tiny: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.native.request.binary_rows", lambda *_: 1 / 0)
    with pytest.raises(JepaError, match="its log has the reason") as failed:
        connect(running.url).embed(tiny.rows(1))
    assert type(failed.value) is JepaError
    assert (failed.value.status, failed.value.type) == (500, "about:blank")


def test_a_service_without_a_model(serve: Serve, connect: Connect, tmp_path: Any, tiny: TinyModel) -> None:
    client = connect(serve(models=tmp_path).url, retries=0)
    assert not client.ready()
    assert client.models() == []
    with pytest.raises(ValueError, match="the service has 0 models"):
        client.model()
    with pytest.raises(NotReady) as refused:
        client.embed(tiny.rows(1))
    assert refused.value.status == 503


def test_a_service_that_drains(
    serve: Callable[..., Running], connect: Connect, portal: BlockingPortal, tiny: TinyModel
) -> None:
    running = serve()
    client = connect(running.url, timeout=0.9)  # less than the second after which the service may be asked again
    assert client.ready()
    portal.call(running.service.drain)
    with pytest.raises(NotReady, match="draining") as refused:
        client.embed(tiny.rows(1))
    assert refused.value.retry_after == 1
    assert not client.ready()


def test_a_deadline_that_the_service_says_is_past(running: Running, tiny: TinyModel) -> None:
    headers = {"Content-Type": "application/octet-stream", "X-Request-Timeout-Ms": "0"}
    came = httpx.post(f"{running.url}/embed", content=tiny.rows(1).tobytes(), headers=headers)
    error = errors.refusal(Answer(running.url, came.status_code, came.headers, came.content))
    assert isinstance(error, DeadlineExpired)
    assert error.status == 504


@pytest.mark.parametrize("body", ['{"type": "urn:jepa:error:unauthorized", "detail": "no key"}', "who are you"])
def test_a_key_that_is_not_known(body: str, relay: Start, connect: Connect) -> None:
    before, url = relay(None, answer(401, body))
    with pytest.raises(Unauthorized, match=r"no key|who are you") as refused:
        connect(url, api_key="secret").models()
    assert refused.value.status == 401
    assert "authorization: bearer secret\r\n" in before.heads[0]


@pytest.mark.parametrize(
    ("call", "reply"),
    [
        (lambda client: client.embed([1.0]), answer(200, "<html>", Content_Type="text/html")),
        (lambda client: client.embed([1.0]), answer(200, "abc", Content_Type="application/octet-stream")),
        (lambda client: client.models(), answer(200, "<html>", Content_Type="text/html")),
        (lambda client: client.models(), answer(200, "{}", Content_Type="application/json")),
        (lambda client: client.loss([1.0], [1.0]), answer(200, "{}", Content_Type="application/json")),
        (lambda client: client.loss([1.0], [1.0]), answer(200, "[]")),
        (lambda client: client.embed([1.0]), answer(301, Location="/elsewhere")),
        (lambda client: client.embed([1.0]), answer(404, "<html>nothing here")),
    ],
)
def test_another_program_behind_the_url_is_noticed(
    call: Callable[[Any], Any], reply: bytes, relay: Start, connect: Connect
) -> None:
    _, url = relay(None, reply)
    with pytest.raises(UnexpectedAnswer, match=url):
        call(connect(url))


@pytest.mark.parametrize(
    "reply", [b"\x1b[2J\x07SSH\x9b" + b"A" * 9000 + b"\r\n", answer(500, "\x1b[2J\x07SSH " + "A" * 9000)]
)
def test_what_a_stranger_answers_is_quoted_in_a_line_that_changes_no_terminal(
    reply: bytes, relay: Start, connect: Connect
) -> None:
    _, url = relay(None, *[reply] * 3)
    with pytest.raises((UnexpectedAnswer, ServiceUnreachable)) as refused:
        connect(url).embed([1.0])
    assert refused.value.detail.isprintable()
    assert len(refused.value.detail) < 400
