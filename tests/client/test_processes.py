"""A client that more than one process has."""

import asyncio
import gc
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anyio.from_thread import BlockingPortal

from jepa_client import AsyncJepaClient, JepaClient, Superseded, Unauthorized
from tests.client.conftest import Running
from tests.client.test_imports import CLIENT
from tests.support.bundles import TinyModel
from tests.support.relay import Relay
from tests.support.serving import ROOT

Start = Callable[..., tuple[Relay, str]]
KEY = "key-0123456789abcdef"


# What a first call and a first frame of a stream import.
IMPORTED = """
import sys
import numpy as np
from jepa_client import JepaClient
url, rows = sys.argv[1], np.load(sys.argv[2])
with JepaClient(url) as client:
    for make in (lambda: client, client.stream):
        asked = make()
        before = {*sys.modules}
        asked.embed(rows[0])
        print(*{*sys.modules} - before)
"""


def printed(*command: str) -> str:
    """What a bot of tests.support prints."""
    path = os.pathsep.join((str(CLIENT.parent), str(ROOT)))
    words = [sys.executable, "-W", "ignore", "-m", *command]
    bot = subprocess.run(
        words, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert bot.returncode == 0, bot.stderr
    return bot.stdout


@pytest.mark.parametrize("kind", ["client", "stream", "async client", "async stream"])
def test_a_forked_child_has_a_connection_of_its_own_and_leaves_its_parents_open(
    kind: str, running: Running, relay: Start, tiny: TinyModel, tmp_path: Path
) -> None:
    before, url = relay(running.port)
    rows, file = tiny.rows(3), tmp_path / "rows.npy"
    np.save(file, rows)
    answers = json.loads(printed("tests.support.forking_client", url, kind, str(file)))
    np.testing.assert_allclose(answers, tiny.encode(rows), atol=1e-5)
    assert before.connections == 2


def test_a_call_imports_nothing_as_a_child_forked_amid_an_import_waits_for_its_end(
    running: Running, tiny: TinyModel, tmp_path: Path
) -> None:
    np.save(tmp_path / "rows.npy", tiny.rows(1))
    command = [sys.executable, "-c", IMPORTED, f"http://127.0.0.1:{running.port}", str(tmp_path / "rows.npy")]
    environment = os.environ | {"PYTHONPATH": str(CLIENT.parent)}
    bot = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (bot.returncode, bot.stdout.split()) == (0, []), bot.stderr


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_that_is_handed_a_client_or_a_stream_opens_a_connection_of_its_own(
    method: str, running: Running, relay: Start, tiny: TinyModel, tmp_path: Path
) -> None:
    before, url = relay(running.port)
    rows, file = tiny.rows(4), tmp_path / "rows.npy"
    np.save(file, rows)
    for answers in json.loads(printed("tests.support.handed_client", url, method, str(file))):
        np.testing.assert_allclose(answers, tiny.encode(rows), atol=1e-5)
    # Two in each of three processes, and for those of asyncio one each time that an event loop was run; more where the
    # service closed one that was idle for long.
    assert before.connections >= 2 * 3 + 2 * 4


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_environments_in_processes_of_their_own_share_a_client(method: str, running: Running) -> None:
    pytest.importorskip("gymnasium", reason="needs gymnasium: pip install './client[gymnasium]'")
    assert float(printed("tests.support.vector_bot", running.url, method)) < 1e-5


def test_tasks_and_actors_of_ray_are_handed_a_client_or_a_stream(running: Running, tiny: TinyModel) -> None:
    ray = pytest.importorskip("ray", reason="needs Ray: pip install ray")
    rows = tiny.rows(6)

    # Within the test, as classes of a module travel by its name, which Ray's workers cannot import.
    class Bot:
        def __init__(self, asked: Any) -> None:
            self._asked = asked

        def act(self, frame: Any) -> Any:
            return self._asked.embed(frame)

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with JepaClient(running.url) as client:
            # What is handed on has connections that are open, and goes on here.
            np.testing.assert_allclose(client.embed(rows[:2]), tiny.encode(rows[:2]), atol=1e-5)
            ask = ray.remote(lambda asked, frame: asked.embed(frame))
            with client.stream() as stream:
                np.testing.assert_allclose(stream.embed(rows[0]), tiny.encode(rows[:1])[0], atol=1e-5)
                bots = [ray.remote(num_cpus=0)(Bot).remote(asked) for asked in (client, stream)]
                for asked, bot in zip((client, stream), bots, strict=True):
                    answers = ray.get([ask.remote(asked, rows[0]), *(bot.act.remote(row) for row in rows[1:])])
                    np.testing.assert_allclose(answers, tiny.encode(rows), atol=1e-5)
                np.testing.assert_allclose(stream.embed(rows[5]), tiny.encode(rows[5:])[0], atol=1e-5)
            np.testing.assert_allclose(client.embed(rows), tiny.encode(rows), atol=1e-5)
    finally:
        ray.shutdown()


def test_an_asyncio_client_goes_on_in_another_event_loop(running: Running, tiny: TinyModel) -> None:
    async def ask() -> Any:
        embedding = await client.embed(tiny.rows(1))
        await client.aclose()
        return embedding

    client = AsyncJepaClient(running.url)
    for _ in range(2):
        np.testing.assert_allclose(asyncio.run(ask()), tiny.encode(tiny.rows(1)), atol=1e-5)


@pytest.mark.parametrize("kind", ["client", "stream"])
def test_connections_of_event_loops_that_have_ended_are_let_go(kind: str, running: Running, tiny: TinyModel) -> None:
    client = AsyncJepaClient(running.url)
    asked: Any = client if kind == "client" else client.stream()
    files = Path("/proc/self/fd")
    found = []
    with warnings.catch_warnings():
        # What the last loop left open is closed once it is freed, and Python says so.
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(5):
            np.testing.assert_allclose(asyncio.run(asked.embed(tiny.rows(1))), tiny.encode(tiny.rows(1)), atol=1e-5)
            gc.collect()
            found.append(len([*files.iterdir()]))
        asyncio.run(asked.aclose())
        gc.collect()
    assert found[-1] <= found[0] + 1


def test_tasks_of_one_event_loop_after_the_other_share_a_stream(running: Running, tiny: TinyModel) -> None:
    async def ask() -> list[Any]:
        found = await asyncio.gather(*(stream.embed(tiny.rows(1)) for _ in range(3)), return_exceptions=True)
        await stream.aclose()
        return found

    stream = AsyncJepaClient(running.url).stream()
    with ThreadPoolExecutor(2) as threads:
        for found in threads.map(lambda _: asyncio.run(ask()), range(4)):
            # The newest frame of each loop is answered.
            answers = [each for each in found if not isinstance(each, Superseded)]
            assert answers
            for each in answers:
                np.testing.assert_allclose(each, tiny.encode(tiny.rows(1)), atol=1e-5)


@pytest.mark.parametrize("kind", [JepaClient, AsyncJepaClient])
def test_a_client_that_is_pickled_keeps_its_options(kind: type[Any]) -> None:
    client = kind(
        "http://user:secret@127.0.0.1:9",
        timeout=0.5,
        api_key=KEY,
        schema_hash="abc",
        stream="bot 1",
        retries=1,
        proxy="http://user:secret@10.0.0.1:3128",
    )
    again = pickle.loads(pickle.dumps(client))
    assert type(again) is kind
    assert again._service == client._service


def test_a_client_that_is_pickled_asks_over_a_connection_of_its_own(
    serve: Callable[..., Running], relay: Start, tiny: TinyModel
) -> None:
    before, url = relay(serve(api_keys=KEY).port)
    with JepaClient(url, api_key=KEY) as client:
        client.embed(tiny.rows(1))
        with pickle.loads(pickle.dumps(client)) as again:
            np.testing.assert_allclose(again.embed(tiny.rows(2)), tiny.encode(tiny.rows(2)), atol=1e-5)
    assert before.connections == 2
    with JepaClient(url) as keyless, pytest.raises(Unauthorized):
        keyless.embed(tiny.rows(1))


def test_threads_that_share_a_client_do_not_close_each_others_connections(
    running: Running, relay: Start, tiny: TinyModel
) -> None:
    before, url = relay(running.port)
    rows = tiny.rows(200)
    with JepaClient(url) as client, ThreadPoolExecutor(40) as threads:
        np.testing.assert_allclose([*threads.map(client.embed, rows)], tiny.encode(rows), atol=1e-5)
    assert before.connections <= 40


def test_tasks_that_share_a_client_do_not_close_each_others_connections(
    running: Running, relay: Start, portal: BlockingPortal, tiny: TinyModel
) -> None:
    before, url = relay(running.port)
    rows = tiny.rows(80)

    async def bot(client: AsyncJepaClient, mine: Any) -> list[Any]:
        return [await client.embed(row) for row in mine]

    async def play() -> list[Any]:
        async with AsyncJepaClient(url, timeout=60) as client:
            embeddings: list[Any] = await asyncio.gather(*(bot(client, rows[i::40]) for i in range(40)))
            return embeddings

    for i, embeddings in enumerate(portal.call(play)):
        np.testing.assert_allclose(embeddings, tiny.encode(rows[i::40]), atol=1e-5)
    assert before.connections <= 40
