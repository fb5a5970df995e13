"""Bundles that never come to their end, or have no room, while bots ask and other models change."""

import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import Survived
from tests.support.bundles import TinyModel
from tests.support.changes import post, put, reasons, served, until, version
from tests.support.endless import put_endless_loop
from tests.support.load import Load
from tests.support.serving import Server

# Threads that load models whose names begin so do not come back, as from a volume that hangs; nothing can end them.
# There are places for three loads, so that the test need not wait for the limit of four.
HANGS = """
import time
import app.repository.loads
app.repository.loads.MAX_LOADS = 3
from app.repository.loading import Loader
load = Loader.load
Loader.load = lambda self, folder: time.sleep(600) if folder.parent.name.startswith("hung") else load(self, folder)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    TinyModel().write(models)
    return models


@pytest.fixture(params=["1", "2"])
def server(folder: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    flags = ("--models", str(folder), "--workers", request.param, "--watch-s", "0.1", "--model-control")
    limits = ("--load-timeout-s", "1", "--graceful-timeout-s", "600")
    with Server(*flags, *limits, "--default-model", "tiny", before=HANGS) as server:
        yield server


def put_loop(models: Path, model: TinyModel) -> Path:
    staged = put_endless_loop(model.write(models.parent / "staged"))
    (models / model.name).mkdir(exist_ok=True)
    return staged.rename(models / model.name / str(model.version))


def gauge(server: Server, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", httpx.get(f"{server.url}/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_a_graph_that_loops_is_refused_and_other_models_change_meanwhile(
    server: Server, folder: Path, survived: Survived
) -> None:
    with Load(server) as load:
        put_loop(folder, version(2))
        put(version(1, name="other"), folder)
        until(lambda: served(server, "/models/other") == {1})
        until(lambda: "tiny/2 was not loaded within 1 s" in reasons(server).get("tiny/2", ""))
        asked = post(server, "models/tiny/load")
        assert asked.status_code == 400
        assert "was not loaded within 1 s, the limit that JEPA_LOAD_TIMEOUT_S sets" in asked.json()["error"]
        assert post(server, "models/other/unload").status_code == 200
        assert served(server, "/models/other") == {404}
        assert served(server) == {1}
        load.go_on()
    assert "refused" in server.log
    assert httpx.get(f"{server.url}/readyz").text == "ok\n"
    put(version(3), folder)
    until(lambda: served(server) == {3})
    assert server.stop() == 0
    assert load.refused.total() == load.cut == load.lost == 0
    survived("a graph that loops for ever", load)


def test_a_bundle_that_takes_long_keeps_none_after_it_waiting(folder: Path) -> None:
    with Server("--models", str(folder), "--watch-s", "0.1", "--workers", "1", before=HANGS) as server:
        put(version(1, name="hung"), folder)
        put(version(2), folder)
        until(lambda: served(server) == {2})
        # Long before the limit of a load.
        assert reasons(server) == {}


def test_a_request_to_load_holds_up_no_other(server: Server, folder: Path) -> None:
    put(version(1, name="hung"), folder)
    put(version(2), folder)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(post, server, "models/hung/load")
        assert post(server, "models/tiny/load", parameters={"version": "1"}).status_code == 200
        assert post(server, "models/tiny/load").status_code == 200
        assert served(server) == {2}
        assert asking.result().status_code == 400


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_to_load_does_not_hold_up_the_end(folder: Path, workers: str) -> None:
    flags = ("--models", str(folder), "--workers", workers, "--watch-s", "0", "--model-control")
    # A bundle may take ten minutes, and so may requests that were let in.
    limits = ("--load-timeout-s", "600", "--graceful-timeout-s", "600")
    with Server(*flags, *limits, before=HANGS) as server, ThreadPoolExecutor(1) as pool:
        put(version(1, name="hung"), folder)
        asking = pool.submit(post, server, "models/hung/load")
        until(lambda: gauge(server, "jepa_http_requests_in_flight") == 1)
        assert server.stop() == 0
        assert asking.result().status_code == 503


def test_a_process_that_cannot_load_says_so_and_goes_on_answering(
    server: Server, folder: Path, survived: Survived
) -> None:
    with Load(server) as load:
        for number in range(4):
            put(version(1, name=f"hung{number}"), folder)
        until(lambda: "no more than 3 models are loaded at once, and these are: hung0/1 for" in server.log)
        until(lambda: "models cannot be loaded" in httpx.get(f"{server.url}/readyz").text)
        ready = httpx.get(f"{server.url}/readyz")
        assert ready.status_code == 200
        # Whoever asks without a key hears no names.
        assert "hung" not in ready.text
        until(lambda: gauge(server, "jepa_model_loads_stuck") >= 3)
        until(lambda: gauge(server, "jepa_model_loads_blocked") >= 1)
        put(version(2), folder)
        load.go_on()
        assert served(server) == {1}
        assert post(server, "models/tiny/unload").status_code == 200
    assert load.cut == load.lost == 0
    survived("loads that hang take every place", load, note="unloading goes on, and /readyz says so")
    assert server.stop() == 0


def test_a_fifo_in_place_of_a_file_is_refused_at_once(server: Server, folder: Path) -> None:
    for number, name in enumerate(("bundle.json", "golden.npz", "target_encoder.onnx"), 2):
        staged = version(number).write(folder.parent / "staged")
        (staged / name).unlink()
        os.mkfifo(staged / name)
        staged.rename(folder / "tiny" / str(number))
        until(lambda: "is a FIFO" in reasons(server).get(f"tiny/{number}", ""))  # noqa: B023
    assert served(server) == {1}
    put(version(9), folder)
    until(lambda: served(server) == {9})


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_that_starts_with_an_endless_bundle_can_be_ended(folder: Path, workers: str) -> None:
    put_loop(folder, version(2))
    server = Server("--models", str(folder), "--workers", workers, "--load-timeout-s", "600")
    try:
        until(lambda: "on http://" in server.log)
        time.sleep(0.5)
        assert server.stop() == 0
    finally:
        server.__exit__()


def test_a_service_that_starts_with_an_endless_bundle_serves_the_version_below(folder: Path) -> None:
    put_loop(folder, version(2))
    with Server("--models", str(folder), "--workers", "2", "--load-timeout-s", "1") as server:
        assert served(server) == {1}
        assert "was not loaded within 1 s" in reasons(server)["tiny/2"]
        assert server.stop() == 0


def test_a_bundle_of_very_many_columns_is_served_without_watching_its_drift(folder: Path) -> None:
    width = 9000
    statistics = {name: [number] * width for name, number in {"mean": 0, "std": 1, "min": -5, "max": 5}.items()}
    wide = version(1, name="awide", groups=(("own", width),), patches=(("own",),), extra={"statistics": statistics})
    put(wide, folder)
    with Server("--models", str(folder), "--workers", "2", "--watch-s", "0.1", "--default-model", "tiny") as server:
        assert served(server, "/models/awide") == {1}
        put(version(2), folder)
        until(lambda: served(server) == {2})
        answer = httpx.post(f"{server.url}/embed", json={"model": "awide", "features": [0.5] * width})
        assert answer.status_code == 200
        drift = httpx.get(f"{server.url}/models/awide/drift").json()
    assert (drift["rows"], drift["features"]) == (0, [])
    assert "the drift of awide is not watched: it has 9000 columns, and more than 8192 are not counted" in server.log


def test_models_for_whose_counters_there_is_no_room_are_refused_and_the_others_go_on(
    folder: Path, survived: Survived
) -> None:
    flags = ("--models", str(folder), "--workers", "2", "--watch-s", "0.1", "--default-model", "tiny")
    with Server(*flags, before="import app.system.counters as each; each.MAX_NUMBERS = 1200") as server:
        with Load(server) as load:
            for number in range(6):
                put(version(1, name=f"a{number}"), folder)
            until(lambda: "cannot be served: there are more metrics" in reasons(server).get("a5/1", ""))
            # With the answers of the version before, which the load knows.
            put(TinyModel(version=2), folder)
            until(lambda: served(server) == {2})
            # Statuses that are counted for the first time.
            assert httpx.post(f"{server.url}/embed", content=b"{").status_code == 400
            assert httpx.post(f"{server.url}/loss", json={}).status_code == 422
            assert httpx.get(f"{server.url}/nowhere").status_code == 404
            load.go_on()
        assert httpx.get(f"{server.url}/metrics").status_code == 200
        assert server.stop() == 0
    with Server(*flags, before="import app.system.counters as each; each.MAX_NUMBERS = 1200") as server:
        assert "cannot be served: there are more metrics" in reasons(server)["a5/1"]
        assert served(server) == {2}
    assert load.refused.total() == load.cut == load.lost == 0
    survived("no room for the counters of more models", load)
