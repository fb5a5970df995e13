"""Both clients against a real service: what is answered, what is sent, how connections are used."""

import inspect
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import httpx
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal

from jepa_client import (
    AsyncJepaClient,
    DeadlineExpired,
    InvalidInput,
    JepaClient,
    QueueFull,
    ServiceUnreachable,
    Superseded,
    Unauthorized,
)
from tests.client.conftest import Running
from tests.support.bundles import TinyModel
from tests.support.relay import CLOSE, Relay, answer
from tests.support.serving import Server

Connect = Callable[..., Any]
Start = Callable[..., tuple[Relay, str]]
BOTH = np.ones((1, 2), np.float32)  # patches of TINY


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        sleep(0.001)


def queue_rows(running: Running) -> int:
    return running.service.registry.get("tiny").engine.queues.target_encoder.queue_rows


@pytest.mark.parametrize("encoder", ["target", "context"])
def test_embeddings_are_float32_in_the_rank_of_the_rows(
    encoder: str, running: Running, connect: Connect, tiny: TinyModel
) -> None:
    client, rows = connect(running.url), tiny.rows(3)
    many, one = client.embed(rows, encoder=encoder), client.embed(rows[0], encoder=encoder)
    assert (many.dtype, many.shape, one.shape) == (np.float32, (3, 4), (4,))
    np.testing.assert_allclose(many, tiny.encode(rows, encoder), atol=1e-5)
    np.testing.assert_allclose(one, many[0], atol=1e-5)
    assert client.embed(rows[:1].tolist(), encoder=encoder).shape == (1, 4)


def test_no_names_of_groups_are_written_as_an_empty_list_or_none(
    running: Running, connect: Connect, tiny: TinyModel
) -> None:
    for hidden in [(), None]:
        found = connect(running.url).embed(tiny.rows(1)[0], hidden=hidden)
        np.testing.assert_allclose(found, tiny.encode(tiny.rows(1))[0], atol=1e-5)


def test_a_hidden_group_is_left_out(running: Running, connect: Connect, tiny: TinyModel) -> None:
    rows = tiny.rows(2)
    blind = rows.copy()
    blind[:, 3:] = np.nan
    embeddings = connect(running.url).embed(rows, hidden=["opponent", "stage"], model="tiny")
    np.testing.assert_allclose(embeddings, tiny.encode(blind), atol=1e-5)


def test_predictions_are_those_of_features_or_of_their_context(
    running: Running, connect: Connect, tiny: TinyModel
) -> None:
    client, rows = connect(running.url), tiny.rows(2)
    context = tiny.encode(rows, "context")
    expected = tiny.predict(context, BOTH.repeat(2, 0), np.array([15, 15], np.float32))
    np.testing.assert_allclose(client.predict(rows, horizon=15), expected, atol=1e-5)
    np.testing.assert_allclose(client.predict(context=context, horizon=15), expected, atol=1e-5)
    one = client.predict(context=context[0], targets=["own"], horizon=15)
    np.testing.assert_allclose(
        one, tiny.predict(context[:1], BOTH * np.array([1, 0], np.float32), np.array([15], np.float32))[0], atol=1e-5
    )


@pytest.mark.parametrize(("horizon", "index"), [(None, 0), (15, 2)])
def test_a_forecast_has_its_outputs_names_and_values_in_the_rank_of_the_rows(
    running: Running, connect: Connect, tiny: TinyModel, horizon: int | None, index: int
) -> None:
    client, rows = connect(running.url), tiny.rows(3)
    embeddings = client.embed(rows) if horizon is None else client.predict(rows, horizon=horizon)
    expected = tiny.values(embeddings, index)
    whole = client.forecast(rows, horizon=horizon)
    assert whole.outputs == [*expected]
    assert (whole.values.dtype, whole.novelty) == (np.float32, None)
    np.testing.assert_allclose(whole.values, np.stack([*expected.values()], axis=1), rtol=1e-4)
    one = client.forecast(rows[0], heads=["speed", "damage"], horizon=horizon, novelty=True)
    assert (one.outputs, one.values.shape, one.novelty.shape) == (["speed", "damage"], (2,), (1,))
    np.testing.assert_allclose(one.values, [expected["speed"][0], expected["damage"][0]], rtol=1e-4)
    context = embeddings if horizon is None else client.embed(rows, encoder="context")
    np.testing.assert_allclose(client.forecast(context=context, horizon=horizon).values, whole.values, rtol=1e-4)


def test_a_forecast_of_unknown_heads_or_without_any_says_what_to_do(
    serve: Callable[..., Running], running: Running, connect: Connect, tiny: TinyModel, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=r"heads\[0\] is no head of this model; did you mean 'damage'"):
        connect(running.url).forecast(tiny.rows(1), heads=["damag"])
    with pytest.raises(InvalidInput, match="was trained for: 0 \\(now\\), 6, 15; the nearest is 15"):
        connect(running.url).forecast(tiny.rows(1), horizon=16)
    TinyModel().write(tmp_path)
    with pytest.raises(InvalidInput, match="`jepa heads` makes them"):
        connect(serve(models=tmp_path).url).forecast(tiny.rows(1))


def test_losses_come_with_percentiles(running: Running, connect: Connect, tiny: TinyModel) -> None:
    client, rows, later = connect(running.url), tiny.rows(3), tiny.rows(3, seed=1)
    loss = client.loss(rows, later, horizon=6)
    apart = np.abs(client.predict(rows, horizon=6) - client.embed(later))
    expected = np.where(apart < 1, apart**2 / 2, apart - 0.5).mean(axis=1)  # smooth L1, beta 1
    np.testing.assert_allclose(loss.losses, expected, atol=1e-5)
    assert loss.loss == pytest.approx(expected.mean(), abs=1e-5)
    assert loss.percentiles.shape == (3,)
    assert ((loss.percentiles >= 0) & (loss.percentiles <= 100)).all()
    one = client.loss(rows[0], later[0], horizon=6)
    np.testing.assert_allclose(one.losses, loss.losses[:1], atol=1e-5)


def test_losses_of_embeddings_are_those_of_their_features(running: Running, connect: Connect, tiny: TinyModel) -> None:
    client, rows, later = connect(running.url), tiny.rows(2), tiny.rows(2, seed=1)
    given = client.loss(predicted=client.predict(rows, horizon=6), target=client.embed(later), horizon=np.int64(6))
    np.testing.assert_allclose(given.losses, client.loss(rows, later, horizon=6).losses, atol=1e-5)


def test_a_model_without_quantiles_has_no_percentiles(
    serve: Callable[..., Running], connect: Connect, tmp_path: Any
) -> None:
    plain = TinyModel(quantiles=False)
    plain.write(tmp_path)
    assert connect(serve(models=tmp_path).url).loss(plain.rows(1), plain.rows(1)).percentiles is None


def test_models_say_what_a_row_is(running: Running, connect: Connect) -> None:
    client = connect(running.url)
    (card,) = client.models()
    assert (card["name"], card["input_dim"], len(card["names"])) == ("tiny", 10, 10)
    assert client.model() == card
    # Of one model, what takes more room too.
    details = client.model("tiny")
    assert details == card | {key: details[key] for key in ("map", "statistics")}


def test_several_models_must_be_named(serve: Callable[..., Running], connect: Connect, tmp_path: Any) -> None:
    for name in ("melee", "pong"):
        TinyModel(name=name).write(tmp_path)
    client = connect(serve(models=tmp_path).url)
    with pytest.raises(ValueError, match=r"the service has 2 models \('melee', 'pong'\); name one"):
        client.model()
    assert client.model("pong")["name"] == "pong"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda client: client.embed([1.0], hidden="own"), r"hidden is the text 'own'; .*hidden=\['own'\]"),
        (lambda client: client.predict([1.0], targets="own"), r"targets is the text 'own'"),
        (lambda client: client.forecast([1.0], heads="own"), r"heads is the text 'own'"),
        (lambda client: client.forecast(), "forecast takes either features or context"),
        (lambda client: client.forecast([1.0], context=[1.0]), "forecast takes either features or context"),
        (lambda client: client.predict(), "either features or context"),
        (lambda client: client.predict([1.0], context=[1.0]), "either features or context"),
        (lambda client: client.loss([1.0]), "either features and target_features, or predicted and target"),
        (lambda client: client.loss([1.0], predicted=[1.0]), "either features and target_features, or"),
        (lambda client: client.embed(["a"]), "features is of <U1"),
        (lambda client: client.embed([1.0], hidden=[1]), "hidden holds 1; a name is text"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_sent(
    call: Callable[[Any], Any], message: str, relay: Start, connect: Connect
) -> None:
    before, url = relay(None, CLOSE)
    with pytest.raises(TypeError, match=message):
        call(connect(url))
    assert before.connections == 0


@pytest.mark.parametrize("fields", [("features", "target_features"), ("predicted", "target")])
def test_pairs_that_are_not_alike_are_refused(fields: tuple[str, str], relay: Start, connect: Connect) -> None:
    _, url = relay(None, CLOSE)
    with pytest.raises(ValueError, match=rf"{fields[0]} has shape \(2, 3\) and {fields[1]} has shape \(1, 3\)"):
        connect(url).loss(**dict(zip(fields, (np.zeros((2, 3)), np.zeros((1, 3))), strict=True)))


def test_a_transposed_batch_is_noticed(running: Running, connect: Connect, tiny: TinyModel) -> None:
    with pytest.raises(InvalidInput, match=r"features has 3 numbers, model 'tiny' takes 10; /models/tiny names them"):
        connect(running.url).embed(tiny.rows(3).T)


def test_what_a_bot_says_of_itself_is_sent_with_every_frame(relay: Start, connect: Connect) -> None:
    before, url = relay(None, answer(401))
    client = connect(url, timeout=0.5, api_key="key", schema_hash="abc", stream="bot 1")
    with pytest.raises(Exception, match="401"):
        client.predict([1.0, 2.0], hidden=["own", "stage"], targets=["opponent"], horizon=15, model="tiny")
    (head,) = before.heads
    request, *headers = head.splitlines()
    assert request.startswith("post /predict?")
    query = httpx.URL(request.split()[1]).params
    assert dict(query) == {
        "input": "features",
        "hidden": "own,stage",
        "targets": "opponent",
        "horizon": "15",
        "model": "tiny",
    }
    assert {
        "authorization: bearer key",
        "x-schema-hash: abc",
        "x-stream-id: bot 1",
        "content-type: application/octet-stream",
        "accept: application/octet-stream",
        "content-length: 8",
    } <= {*headers}
    (left_ms,) = re.findall(r"x-request-timeout-ms: (.*)", head)
    assert 0 < float(left_ms) <= 500


def test_one_connection_carries_all_calls(running: Running, relay: Start, connect: Connect, tiny: TinyModel) -> None:
    before, url = relay(running.port)
    client = connect(url)
    for _ in range(5):
        client.embed(tiny.rows(1))
    client.models()
    assert client.ready()
    assert before.connections == 1


def test_a_service_that_was_started_again_is_found_again(models: Path, connect: Connect, tiny: TinyModel) -> None:
    with Server("--models", str(models)) as server:
        client = connect(server.url)
        assert client.embed(tiny.rows(1)).shape == (1, 4)
    with pytest.raises(ServiceUnreachable, match=server.url):
        client.embed(tiny.rows(1))
    with Server("--models", str(models), "--port", str(server.port)):
        assert client.embed(tiny.rows(1)).shape == (1, 4)


def test_threads_share_a_client_and_each_gets_its_own_rows(running: Running, tiny: TinyModel) -> None:
    rows = tiny.rows(64)
    expected = tiny.encode(rows)
    with JepaClient(running.url) as client, ThreadPoolExecutor(8) as threads:
        for embedding, row in zip(threads.map(client.embed, rows), expected, strict=True):
            np.testing.assert_allclose(embedding, row, atol=1e-5)


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    running: Running, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert connect(running.url).ready()


def test_a_proxy_of_the_environment_is_asked_for_another_machine(
    relay: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, url = relay(None, answer(200))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", url)
    assert connect("http://jepa.example").ready()
    assert before.heads[0].startswith("get http://jepa.example/readyz ")


# Where the service is busy


def test_no_answer_in_time_is_an_expired_deadline_and_the_frame_is_dropped(
    held: Running, connect: Connect, portal: BlockingPortal, tiny: TinyModel
) -> None:
    with pytest.raises(DeadlineExpired) as expired:
        connect(held.url, timeout=0.05).embed(tiny.rows(1))
    assert expired.value.status == 504
    until(lambda: queue_rows(held) == 0)
    portal.call(held.service.threads.release)


def test_a_service_that_does_not_answer_is_not_ready(held: Running, connect: Connect, portal: BlockingPortal) -> None:
    assert not connect(held.url, timeout=0.05).ready()
    portal.call(held.service.threads.release)


def test_a_full_queue_is_waited_for_as_long_as_the_service_says(
    held: Running, connect: Connect, portal: BlockingPortal, tiny: TinyModel
) -> None:
    client = connect(held.url)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(client.embed, tiny.rows(4))
        until(lambda: queue_rows(held) == 4)
        with pytest.raises(QueueFull, match="4 rows wait already and the queue takes 5"):
            connect(held.url, timeout=0.9).embed(tiny.rows(2))
        later = threads.submit(client.embed, tiny.rows(2, seed=1))
        until(lambda: 'rejected_total{reason="queue_full"} 2.0' in httpx.get(f"{held.url}/metrics").text)
        portal.call(held.service.threads.release)
        np.testing.assert_allclose(later.result(), tiny.encode(tiny.rows(2, seed=1)), atol=1e-5)
        assert waiting.result().shape == (4, 4)


def test_a_newer_frame_of_a_stream_takes_the_place_of_one_that_waits(
    held: Running, connect: Connect, portal: BlockingPortal, tiny: TinyModel
) -> None:
    client = connect(held.url, stream="bot 1")
    with ThreadPoolExecutor() as threads:
        older = threads.submit(client.embed, tiny.rows(1))
        until(lambda: queue_rows(held) == 1)
        newer = threads.submit(client.embed, tiny.rows(1, seed=1))
        with pytest.raises(Superseded) as superseded:
            older.result()
        assert superseded.value.status == 409
        portal.call(held.service.threads.release)
        np.testing.assert_allclose(newer.result(), tiny.encode(tiny.rows(1, seed=1)), atol=1e-5)


# The face


def test_both_clients_have_the_same_methods_and_options() -> None:
    renamed = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}

    def signatures(client: type) -> dict[str, str]:
        functions = inspect.getmembers(client, inspect.isfunction)
        return {
            renamed.get(name, name): str(inspect.signature(function)).replace("AsyncStream", "Stream")
            for name, function in functions
        }

    assert signatures(JepaClient) == signatures(AsyncJepaClient)


def test_a_closed_client_sends_nothing(running: Running) -> None:
    with JepaClient(running.url) as client:
        assert client.ready()
    with pytest.raises(RuntimeError, match="closed"):
        client.ready()


def test_a_key_opens_a_service_that_wants_one(serve: Callable[..., Running], connect: Connect, tiny: TinyModel) -> None:
    running = serve(api_keys="key-0123456789abcdef")
    assert connect(running.url, api_key="key-0123456789abcdef").embed(tiny.rows(2)).shape == (2, tiny.embed_dim)
    for wrong in (None, "key-0123456789abcdeg"):
        with pytest.raises(Unauthorized, match="key"):
            connect(running.url, api_key=wrong).embed(tiny.rows(2))
