"""Models that change while the whole service runs, in one process and in several."""

import asyncio
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.errors import NotReady
from app.inference.threads import BatchThreads
from app.repository.registry import UNLOADED
from app.repository.watcher import Watcher
from app.telemetry.metrics import Telemetry
from tests.conftest import Survived
from tests.support.bundles import TinyModel, write_manifest
from tests.support.changes import post, put, reasons, served, until, version
from tests.support.forks import in_child
from tests.support.models import empty, loaded
from tests.support.serving import Server

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")]

SWAPS = int(os.environ.get("SWAPS", "10"))  # a long run: SWAPS=100
CONNECTIONS = 32
ROWS = TinyModel().rows(2, seed=3)


@pytest.fixture
def threads() -> Iterator[BatchThreads]:
    threads = BatchThreads(1)
    yield threads
    threads.close()


async def test_no_request_fails_and_no_answer_mixes_versions_while_models_are_swapped(
    server: Server, own_models: Path, survived: Survived
) -> None:
    expected = {number: version(number).encode(ROWS) for number in range(1, SWAPS + 2)}
    answered: Counter[int] = Counter()
    done = False

    async def bot(number: int) -> None:
        """Every other one in binary, where only the numbers say which version it was; predict runs two graphs."""
        async with httpx.AsyncClient(base_url=server.url, timeout=60, verify=False) as client:
            newest = 0
            while not done:
                if number % 2:
                    floats = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
                    answer = await client.post("/embed", content=ROWS.tobytes(), headers=floats)
                    assert answer.status_code == 200, answer.text
                    rows = np.frombuffer(answer.content, np.float32).reshape(len(ROWS), -1)
                    (at,) = (n for n, right in expected.items() if np.allclose(rows, right, atol=1e-5))
                else:
                    answer = await client.post("/embed", json={"features": ROWS.tolist()})
                    assert answer.status_code == 200, answer.text
                    at = answer.json()["version"]
                    np.testing.assert_allclose(answer.json()["embeddings"], expected[at], atol=1e-5)
                assert at >= newest  # on one connection no version comes back
                newest = at
                answered[at] += 1

    async with asyncio.TaskGroup() as bots:
        for number in range(CONNECTIONS):
            bots.create_task(bot(number))
        for number in expected:
            if number > 1:
                await asyncio.to_thread(put, version(number), own_models)
            while answered[number] < 2 * CONNECTIONS:
                await asyncio.sleep(0.01)
        done = True
    assert answered.keys() == expected.keys()
    text = httpx.get(f"{server.url}/metrics").text
    assert f'version="{SWAPS + 1}"' in text
    assert f'version="{SWAPS}"' not in text
    assert not re.search('jepa_http_requests_total{.*status="[45]', text)
    assert server.stop() == 0
    assert "ERROR" not in server.log
    survived(f"{SWAPS} versions swapped in", answered=answered.total())


def index(server: Server) -> list[tuple[str, str]]:
    """The state of each version, and the reason for it."""
    versions = sorted(post(server, "index").json(), key=lambda each: int(each["version"]))
    return [(each["state"], each["reason"]) for each in versions]


def test_a_bundle_that_fails_is_refused_with_its_reason_and_the_old_one_stays(server: Server, own_models: Path) -> None:
    corrupt, wrong = version(2).write(own_models.parent), version(3).write(own_models.parent)
    (corrupt / "predictor.onnx").write_bytes(b"half a file")
    golden = dict(np.load(wrong / "golden.npz"))
    np.savez(wrong / "golden.npz", **golden | {"prediction": golden["prediction"] + 0.01})
    write_manifest(wrong, version(3).manifest())
    half = own_models / "tiny" / ".tmp-half"
    shutil.copytree(corrupt, half)
    corrupt.rename(own_models / "tiny" / "2")
    wrong.rename(own_models / "tiny" / "3")
    # Each process says what it has seen itself, and nobody knows which is asked.
    until(lambda: "predictor.onnx has 11 bytes" in reasons(server).get("tiny/2", ""))
    until(lambda: "does not reproduce its golden rows" in reasons(server).get("tiny/3", ""))
    assert served(server) == {1}
    until(lambda: [state for state, _ in index(server)] == ["READY", "UNAVAILABLE", "UNAVAILABLE"])
    until(lambda: any("golden rows" in reason for _, reason in index(server)))
    text = httpx.get(f"{server.url}/metrics").text
    assert 'jepa_model_loads_total{model="tiny",outcome="refused"}' in text

    shutil.rmtree(own_models / "tiny" / "3")
    shutil.copy(version(2).write(own_models.parent / "whole") / "predictor.onnx", own_models / "tiny" / "2")
    until(lambda: served(server) == {2})
    until(lambda: reasons(server) == {})
    assert server.stop() == 0
    processes = server.log.count("predictor.onnx has 11 bytes")
    assert server.log.count("refused") <= 3 * processes  # once a change of the files, not once a look


def test_a_version_that_is_taken_away_gives_its_place_to_the_one_below_and_the_last_stays(
    server: Server, own_models: Path
) -> None:
    put(version(2), own_models)
    until(lambda: served(server) == {2})
    (own_models / "tiny" / "2").rename(own_models.parent / "aside")
    until(lambda: served(server) == {1})
    shutil.rmtree(own_models / "tiny")
    until(lambda: "tiny/1 is gone; it is served from memory" in server.log)
    assert served(server) == {1}
    put(version(7), own_models)
    until(lambda: served(server) == {7})


def example(server: Server) -> dict[str, object]:
    """What /docs shows as a request to try."""
    embed = httpx.get(f"{server.url}/openapi.json").json()["paths"]["/embed"]["post"]
    found: dict[str, object] = embed["requestBody"]["content"]["application/json"]["examples"]["one row"]["value"]
    return found


def test_a_new_model_is_served_beside_the_others(server: Server, own_models: Path) -> None:
    assert "model" not in example(server)
    put(version(4, name="other", embed_dim=8), own_models)
    until(lambda: served(server, "/models/other") == {4})
    body = {"model": "other", "features": ROWS.tolist()}
    answer = httpx.post(f"{server.url}/embed", json=body).json()
    np.testing.assert_allclose(answer["embeddings"], version(4, embed_dim=8).encode(ROWS), atol=1e-5)
    text = httpx.get(f"{server.url}/metrics").text
    assert 'jepa_infer_rows_total{graph="target_encoder",model="other"} 2.0' in text
    assert example(server)["model"] == "tiny"


def test_a_worker_that_takes_the_place_of_another_serves_what_the_others_do(own_models: Path) -> None:
    put(version(2), own_models)
    with Server("--models", str(own_models), "--workers", "2", "--watch-s", "0", "--model-control") as server:
        put(version(3), own_models)
        assert post(server, "models/tiny/load", parameters={"version": "1"}).status_code == 200
        pid = server.process.pid
        children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for child in children:
            os.kill(child, signal.SIGKILL)
        until(lambda: server.log.count("another takes its place") == 2)
        until(lambda: served(server) == {1})


@pytest.mark.parametrize("workers", [1, 2])
def test_without_a_watch_the_models_are_looked_at_on_sighup(own_models: Path, workers: int) -> None:
    with Server("--models", str(own_models), "--workers", str(workers), "--watch-s", "0") as server:
        put(version(2), own_models)
        time.sleep(0.5)
        assert served(server) == {1}
        server.process.send_signal(signal.SIGHUP)
        until(lambda: served(server) == {2})
        assert server.stop() == 0


def test_who_waits_for_a_process_that_does_not_look_is_told_so(
    own_models: Path, threads: BatchThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.repository.watcher.MAX_SPREAD_S", 0.1)
    telemetry = Telemetry()
    registry = loaded(own_models, threads, telemetry)
    watcher = Watcher(registry, telemetry.ledger, 0)
    telemetry.ledger.share(2)
    telemetry.ledger.sheets[1].sign(1)  # it lives, and never looks

    def work() -> None:
        telemetry.ledger.take(0)
        with pytest.raises(NotReady, match="not yet in all"):
            asyncio.run(watcher.unload("tiny"))

    told = []
    before = signal.signal(signal.SIGHUP, lambda *_: told.append("look"))
    try:
        in_child(work)
        until(lambda: told)
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_look_that_fails_is_logged_and_the_next_one_goes_well(
    own_models: Path, threads: BatchThreads, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.repository.registry.stamp_of", lambda _: 1 / 0)
    telemetry = Telemetry()
    registry = empty(own_models, threads, telemetry)
    watcher = Watcher(registry, telemetry.ledger, 0.01)
    watching = asyncio.create_task(watcher.watch())
    await asyncio.sleep(0.2)
    assert "the models could not be looked at" in caplog.text
    assert registry.models == {}
    monkeypatch.undo()
    async with asyncio.timeout(20):
        while not registry.models:
            await asyncio.sleep(0.01)
    watching.cancel()


async def test_memory_is_given_back_after_every_change_and_only_then(
    own_models: Path, threads: BatchThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[set[str]] = []
    telemetry = Telemetry()
    registry = empty(own_models, threads, telemetry)
    monkeypatch.setattr("app.repository.watcher.give_back", lambda: given_back.append({*registry.models}))
    watcher = Watcher(registry, telemetry.ledger, 0)
    telemetry.ledger.sheets[0].sign(0)  # nobody else is to be told
    monkeypatch.setattr("os.kill", lambda *_: None)
    await watcher._look()
    await watcher._look()
    await watcher.unload("tiny")
    await watcher.load("tiny", 1)
    assert given_back == [{"tiny"}, set(), {"tiny"}]
    registry.board["version", "tiny"] = UNLOADED  # as another process was asked to
    await watcher._look()
    assert given_back[3:] == [set()]
