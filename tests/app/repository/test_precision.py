import json
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import pytest

from app.inference.sessions import Graphs
from app.repository import precision
from app.repository.precision import Choice, choose
from app.rows import Array
from app.settings import Device
from bundle.folders import DEFAULT_MODEL, BundleError, locate
from bundle.reader import Bundle, read_bundle
from tests.support.bundles import COST, TinyModel, write_manifest
from tests.support.forks import in_child
from tests.support.serving import serving


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """With int8 graphs."""
    return read_bundle(TinyModel(int8_steps=127).write(tmp_path))


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Says whether the processor multiplies int8 fast; it does unless a test says otherwise."""

    def has(them: bool) -> None:
        monkeypatch.setattr(precision, "multiplies_int8_fast", lambda: them)

    has(True)
    return has


@pytest.fixture(autouse=True)
def _made_for_int8(processor: Callable[[bool], None]) -> None:
    """Unless a test says otherwise."""


def choice(folder: Path, wanted: Literal["auto", "float32", "int8"] = "auto") -> Choice:
    return choose(read_bundle(folder), wanted, threads=1)


def said(bundle: Bundle, cost: dict[str, Any]) -> Path:
    """The bundle's folder, with other figures on what int8 costs."""
    write_manifest(bundle.folder, TinyModel().manifest() | {"precision": cost})
    return bundle.folder


def test_auto_takes_int8_where_it_costs_little_and_the_processor_is_made_for_it(bundle: Bundle) -> None:
    chosen = choice(bundle.folder)
    assert chosen.precision == "int8"
    assert chosen.reason == "this processor multiplies int8 fast, and its noise is 0.0001 of the variance"
    rows = TinyModel().rows(3)
    assert not np.array_equal(chosen.graphs.target_encoder.run(rows), TinyModel().encode(rows))
    np.testing.assert_allclose(chosen.graphs.target_encoder.run(rows), TinyModel().encode(rows), atol=0.05)


def test_auto_takes_float32_where_there_is_nothing_else(models: Path, bundle: Bundle) -> None:
    assert choice(models / "tiny" / "1")[1:] == ("float32", "the bundle has no int8 graphs")
    (bundle.folder / "predictor.int8.onnx").unlink()
    assert choice(said(bundle, {"int8": COST}))[1:] == ("float32", "the bundle has no int8 graphs")


def test_auto_takes_float32_where_the_cost_of_int8_is_unknown(bundle: Bundle) -> None:
    chosen = choice(said(bundle, {}))
    assert chosen[1:] == ("float32", "the bundle does not say what int8 costs; export it again")


@pytest.mark.parametrize("noise", [0.0021, 0.5])
def test_auto_takes_float32_where_int8_costs_too_much(bundle: Bundle, noise: float) -> None:
    chosen = choice(said(bundle, {"int8": COST | {"noise": noise}}))
    assert chosen[1:] == ("float32", f"the noise of int8 is {noise:.2g} of the variance, above 0.002")


def test_auto_takes_float32_where_the_processor_is_not_made_for_int8(
    bundle: Bundle, processor: Callable[[bool], None]
) -> None:
    processor(False)
    reason = "this processor has no instructions that make int8 faster"
    assert choice(bundle.folder)[1:] == ("float32", reason)


def test_auto_takes_float32_where_int8_computes_something_else_than_at_export(bundle: Bundle) -> None:
    (bundle.folder / "target_encoder.int8.onnx").write_bytes((bundle.folder / "context_encoder.int8.onnx").read_bytes())
    chosen = choice(said(bundle, {"int8": COST}))
    assert chosen.precision == "float32"
    assert "int8 does not work here: " in chosen.reason
    assert "target_encoder.int8.onnx does not reproduce its golden rows" in chosen.reason


def test_a_format_that_is_asked_for_is_not_judged(bundle: Bundle, processor: Callable[[bool], None]) -> None:
    processor(False)
    folder = said(bundle, {"int8": COST | {"noise": 1.0}})
    assert choice(folder, "int8")[1:] == ("int8", "as asked for")
    assert choice(folder, "float32")[1:] == ("float32", "as asked for")


def test_int8_that_is_asked_for_and_is_not_there_is_refused_with_a_way_out(models: Path) -> None:
    complaint = r"has no context_encoder\.int8\.onnx; serve it with precision float32, or export it again"
    with pytest.raises(BundleError, match=complaint):
        choice(models / "tiny" / "1", "int8")


def test_a_float32_graph_that_is_wrong_is_refused_whatever_int8_is_worth(bundle: Bundle) -> None:
    (bundle.folder / "target_encoder.onnx").write_bytes((bundle.folder / "context_encoder.onnx").read_bytes())
    with pytest.raises(BundleError, match=r"target_encoder\.onnx does not reproduce its golden rows"):
        choice(said(bundle, {"int8": COST}))


def after_a_while(run: Callable[..., Array], *inputs: Array) -> Array:
    time.sleep(0.01)
    return run(*inputs)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("made_for_int8", [True, False])
def test_processes_choose_alike_however_fast_the_formats_happen_to_run(
    bundle: Bundle, processor: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, made_for_int8: bool
) -> None:
    processor(made_for_int8)
    expected = choice(bundle.folder)[1:]

    def slow_in(slower: str) -> Callable[[Bundle, str, int, Device], Graphs]:
        """Opens graphs that take their time in one format, as where another program keeps this one waiting."""

        def opened(bundle: Bundle, precision: str, threads: int, device: Device) -> Graphs:
            graphs = Graphs(bundle, precision, threads, device)
            for graph in (graphs.context_encoder, graphs.target_encoder, graphs.predictor):
                if precision == slower:
                    graph.run = partial(after_a_while, graph.run)  # type: ignore[method-assign]
            return graphs

        return opened

    def agree() -> None:
        assert choice(bundle.folder)[1:] == expected

    for slower in ("float32", "int8"):
        monkeypatch.setattr(precision, "Graphs", slow_in(slower))
        in_child(agree)


@pytest.mark.anyio
@pytest.mark.parametrize("wanted", ["auto", "int8", "float32"])
async def test_models_metrics_and_log_say_the_format_and_why(
    bundle: Bundle, wanted: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with serving(models=bundle.folder.parents[1], precision=wanted) as client:
            card = (await client.get("/models/tiny")).json()
            metrics = (await client.get("/metrics")).text
            answer: httpx.Response = await client.post("/embed", json={"features": TinyModel().rows(1).tolist()})
    assert card["precision"] == ("float32" if wanted == "float32" else "int8")
    assert card["precision_reason"].startswith(
        "this processor multiplies int8 fast" if wanted == "auto" else "as asked for"
    )
    (info,) = [line for line in metrics.splitlines() if line.startswith("jepa_model_info{")]
    assert f'precision="{card["precision"]}"' in info
    assert f"precision_reason={json.dumps(card['precision_reason'])}" in info
    assert f"serving tiny version 1 in {card['precision']} ({card['precision_reason']})" in caplog.text
    assert answer.status_code == 200


def test_the_bundled_model_is_served_in_int8_and_takes_inputs_at_the_delays_of_bots() -> None:
    bundled = read_bundle(locate(str(DEFAULT_MODEL)))
    assert choose(bundled, "auto", threads=1).precision == "int8"
    manifest = bundled.manifest
    assert (len(manifest.actions), manifest.max_actions) == (13, 24)
    assert {18, 21} <= {*manifest.horizons}
