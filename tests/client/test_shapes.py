"""Rows of another shape than the model's are refused, never read as other rows."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from jepa_client import InvalidInput, JepaClient
from tests.client.conftest import Running
from tests.client.test_stream import Open, embed_over, streams  # noqa: F401 (fixtures)
from tests.support.bundles import TinyModel

Connect = Callable[..., Any]


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    """Each is a whole number of rows of TINY's ten features, and of embeddings of four."""
    return {"flat": (20,), "pairs of rows": (2, 20), "transposed": (10, 4), "halves": (8, 5), "a column": (20, 1)}


@pytest.mark.parametrize("shape", ["flat", "pairs of rows", "transposed", "halves", "a column"])
@pytest.mark.parametrize(
    "call",
    [
        lambda client, rows: client.embed(rows),
        lambda client, rows: client.predict(rows, horizon=6),
        lambda client, rows: client.forecast(rows),
        lambda client, rows: client.loss(rows, rows),
    ],
    ids=["embed", "predict", "forecast", "loss"],
)
def test_features_of_another_width_are_refused(
    call: Callable[[Any, Any], Any],
    shape: str,
    shapes: dict[str, tuple[int, ...]],
    running: Running,
    connect: Connect,
) -> None:
    with pytest.raises(InvalidInput, match=rf"features has {shapes[shape][-1]} numbers?, model 'tiny' takes 10;"):
        call(connect(running.url), np.zeros(shapes[shape], np.float32))


@pytest.mark.parametrize("shape", [(8,), (2, 8), (4, 2), (4, 1)])
@pytest.mark.parametrize("method", ["predict", "forecast"])
def test_embeddings_of_another_width_are_refused(
    method: str, shape: tuple[int, ...], running: Running, connect: Connect
) -> None:
    with pytest.raises(InvalidInput, match=rf"context has {shape[-1]} numbers?, model 'tiny' takes 4; send embeddings"):
        getattr(connect(running.url), method)(context=np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", ["flat", "pairs of rows", "transposed", "halves", "a column"])
@pytest.mark.parametrize("answer", ["embed", "forecast"])
def test_frames_of_another_width_are_not_sent_over_a_stream_and_the_next_is_answered(
    answer: str,
    shape: str,
    shapes: dict[str, tuple[int, ...]],
    running: Running,
    embed_over: Open,  # noqa: F811
    tiny: TinyModel,
) -> None:
    ask = embed_over(running.url, {"answer": answer})
    with pytest.raises(InvalidInput, match=rf"features has {shapes[shape][-1]} numbers a row, .* takes 10") as refused:
        ask(np.zeros(shapes[shape], np.float32))
    assert (refused.value.status, refused.value.type) == (422, "urn:jepa:error:invalid-input")
    assert refused.value.errors[0].loc == ("body", "features")
    assert len(ask(tiny.rows(2))) == 2


def test_of_several_models_each_takes_its_own_width(
    serve: Callable[..., Running],
    connect: Connect,
    embed_over: Open,  # noqa: F811
    tmp_path: Path,
) -> None:
    groups = (("own", 12), ("other", 8))
    narrow, wide = TinyModel(name="narrow"), TinyModel(name="wide", groups=groups, patches=(("own",), ("other",)))
    for model in (narrow, wide):
        model.write(tmp_path)
    url = serve(models=tmp_path).url
    client = connect(url)
    for model, other in ((narrow, wide), (wide, narrow)):
        rows = model.rows(2)
        np.testing.assert_allclose(client.embed(rows, model=model.name), model.encode(rows), atol=1e-5)
        np.testing.assert_allclose(embed_over(url, {"model": model.name})(rows), model.encode(rows), atol=1e-5)
        with pytest.raises(InvalidInput, match=f"model '{model.name}' takes {rows.shape[1]}"):
            client.embed(other.rows(2), model=model.name)
        with pytest.raises(InvalidInput, match=f"takes {rows.shape[1]}"):
            embed_over(url, {"model": model.name})(other.rows(2))


def test_that_costs_no_request_of_its_own(serve: Callable[..., Running], tiny: TinyModel) -> None:
    running = serve()
    with JepaClient(running.url) as client:
        for seed in range(3):
            client.embed(tiny.rows(1, seed))
    metrics = httpx.get(f"{running.url}/metrics").text
    assert re.findall(r'^jepa_http_requests_total\{.*route="([^"]*)".*\} (\S+)$', metrics, re.M) == [("/embed", "3.0")]
